//! `plumb exec`: a command whose only network is the pipe.

use std::ffi::OsString;
use std::process::ExitCode;

use plumb_link::TapOptions;
use plumb_link::namespace::{self, Child};
use plumb_link::stage::{Edge, Link};
use plumb_nf::{Coalesce, Port};

use super::lab::barred;
use crate::args::Exec;
use crate::stage::{Guests, Live, Streams, run_live, side};

pub(super) fn run(args: Exec) -> anyhow::Result<ExitCode> {
    let port = side(args.side, &args.links)?;
    let (left, right) = (port == Port::Left, port == Port::Right);
    let mut streams = Streams::take(&args.links, left, right)?;
    let mut edge = enter(&args)?;
    let command: Vec<OsString> = args.command.iter().map(OsString::from).collect();
    // While there is one thread, and before there is anything that a child must not have.
    let child = Child::spawn(&command, &[])?;
    let guests = Guests::child(port.opposite(), child, args.keep);
    let live = Live::new("exec", &args.links);
    let mut pipe = streams.link(&args.links, port)?;
    let (left, right): (&mut dyn Link, &mut dyn Link) = match port {
        Port::Left => (&mut pipe, &mut edge),
        Port::Right => (&mut edge, &mut pipe),
    };
    // A pipe may hold frames one by one; the kernel has less work with large ones.
    let function = Coalesce::towards(port.opposite());
    let status = run_live(function, left, right, &live, guests, |_| Ok(()))?;
    Ok(ExitCode::from(status))
}

/// Moves this process into a network of its own, with an interface as these arguments say.
pub(super) fn enter(args: &Exec) -> anyhow::Result<Edge> {
    namespace::enter().map_err(|e| barred(&e))?;
    let options = TapOptions {
        name: "eth0".to_owned(),
        mtu: args.mtu,
        queue_len: QUEUE_LEN,
        addresses: args.addr.iter().map(|a| (a.0, a.1)).collect(),
        ..TapOptions::default()
    };
    let edge = Edge::create_private(&options).map_err(|e| barred(&e))?;
    for gateway in &args.gateway {
        edge.add_default_route(*gateway)?;
    }
    Ok(edge)
}

/// Frames that may wait on their way out of the command's network: what a TCP sender has under way,
/// as frames beyond it are lost.
pub(super) const QUEUE_LEN: u32 = 4096;
