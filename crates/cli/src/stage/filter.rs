//! A function as a stage, on a file or between live neighbours.

use core::sync::atomic::AtomicU32;
use std::fs;
use std::io::{self, IsTerminal};
use std::os::unix::fs::FileTypeExt;
use std::process::ExitCode;

use plumb_nf::{Function, Port};

use super::{Guests, Live, Played, Streams, play::play, run_live};
use crate::args::FunctionArgs;

/// Runs a function: on the recording that standard input is, or else between the neighbours.
/// `after` is called with the function whenever frames have passed.
pub(crate) fn filter<F: Function>(
    function: F,
    played: Played,
    args: &FunctionArgs,
    after: impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    run(function, played, args, None, after)
}

/// Runs a function that takes SIGHUP for a wish to read its settings again: one is added to `reload`,
/// and `after` is called.
pub(crate) fn filter_reloading<F: Function>(
    function: F,
    played: Played,
    args: &FunctionArgs,
    reload: &'static AtomicU32,
    after: impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    run(function, played, args, Some(reload), after)
}

fn run<F: Function>(
    function: F,
    played: Played,
    args: &FunctionArgs,
    reload: Option<&'static AtomicU32>,
    after: impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<ExitCode> {
    if !is_live(args, played) {
        return play(function, played, after).map(ExitCode::from);
    }
    let live = Live {
        counters: played.counters,
        reload,
        ..Live::new(played.name, &args.links)
    };
    let mut streams = Streams::take(&args.links, true, true)?;
    let mut left = streams.link(&args.links, Port::Left)?;
    let mut right = streams.link(&args.links, Port::Right)?;
    let status = run_live(
        function,
        &mut left,
        &mut right,
        &live,
        Guests::default(),
        after,
    )?;
    Ok(ExitCode::from(status))
}

/// Says whether packets come now: a file is a recording; what comes out of a pipe comes now.
pub(crate) fn is_live(args: &FunctionArgs, played: Played) -> bool {
    if args.links.left.is_some() || args.links.right.is_some() {
        return true;
    }
    // There is nobody on the right whom packets could go to, or come from.
    let counts_only = played.counts_only && io::stdout().is_terminal();
    let is_pipe = fs::metadata("/proc/self/fd/0")
        .is_ok_and(|meta| meta.file_type().is_fifo() || meta.file_type().is_socket());
    is_pipe && !args.offline && !counts_only
}
