//! `plumb mirror`: a copy of what passes.

use std::process::ExitCode;

use anyhow::Context;
use plumb_link::stage::{Edge, Ends, PipeLink, PipeOptions};
use plumb_link::{Interface, TapOptions};
use plumb_nf::{MirrorOptions, Port};

use super::exec::QUEUE_LEN;
use super::lab::barred;
use crate::args::{self, Way};
use crate::stage::{Attended, Copies, Played, Recording, Rotation, Target, filter, is_live};

pub(super) fn run(args: &args::Mirror) -> anyhow::Result<ExitCode> {
    let played = Played {
        name: "mirror",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: true,
    };
    let mirror = build(args, is_live(&args.function, played))?;
    filter(mirror, played, &args.function, Attended::attend)
}

/// A mirror as these arguments say, for packets that come now or for a recording.
pub(super) fn build(args: &args::Mirror, live: bool) -> anyhow::Result<Copies> {
    let target = target(args)?;
    let mirror = plumb_nf::Mirror::new(MirrorOptions {
        direction: match args.direction {
            Way::Both => None,
            Way::Left => Some(Port::Left),
            Way::Right => Some(Port::Right),
        },
        snap_len: args
            .snaplen
            .map_or(usize::MAX, |len| usize::try_from(len).unwrap_or(usize::MAX)),
        whole: args.whole || matches!(target, Target::Interface(_)),
        most_waiting: usize::try_from(args.queue).unwrap_or(usize::MAX),
        ..MirrorOptions::default()
    });
    Ok(Copies::new(mirror, target, live))
}

fn target(args: &args::Mirror) -> anyhow::Result<Target> {
    if let Some(path) = &args.to_file {
        let rotation = Rotation {
            bytes: args.rotate_size.map(|size| size.0),
            time: args.rotate_time.map(|time| time.0),
            keep: args.keep_files,
        };
        return Recording::create(path, rotation).map(Target::File);
    }
    if let Some(path) = &args.to_pipe {
        let ends = Ends {
            output_path: Some(path.clone()),
            ..Ends::default()
        };
        let options = PipeOptions {
            port: Port::Right,
            upgrade: false,
            keep_offload: args.whole,
            is_capture: false,
        };
        let pipe = PipeLink::open(ends, options)?;
        return Ok(Target::Pipe(Box::new(pipe), path.clone()));
    }
    let name = args
        .to_interface
        .as_ref()
        .context("the copies go nowhere")?;
    let edge = if Interface::find(name)?.is_some() {
        Edge::open(name)
    } else {
        Edge::create(&TapOptions {
            name: name.clone(),
            queue_len: QUEUE_LEN,
            ..TapOptions::default()
        })
    };
    Ok(Target::Interface(edge.map_err(|e| barred(&e))?))
}
