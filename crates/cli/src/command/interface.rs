//! `plumb if`: an interface at the end of a pipeline.

use std::process::ExitCode;

use plumb_link::stage::{Edge, Link};
use plumb_link::{Interface, TapOptions};
use plumb_nf::{Coalesce, Port};

use super::exec::QUEUE_LEN;
use super::lab::barred;
use crate::args::If;
use crate::exit::Failure;
use crate::stage::{Guests, Live, Streams, run_live, side};

pub(super) fn run(args: If) -> anyhow::Result<ExitCode> {
    let port = side(args.side, &args.links)?;
    let (left, right) = (port == Port::Left, port == Port::Right);
    let mut streams = Streams::take(&args.links, left, right)?;
    let mut edge = open(&args)?;
    let live = Live::new("if", &args.links);
    let mut pipe = streams.link(&args.links, port)?;
    let (left, right): (&mut dyn Link, &mut dyn Link) = match port {
        Port::Left => (&mut pipe, &mut edge),
        Port::Right => (&mut edge, &mut pipe),
    };
    // A pipe may hold frames one by one; the kernel has less work with large ones.
    let function = Coalesce::towards(port.opposite());
    let status = run_live(function, left, right, &live, Guests::default(), |_| Ok(()))?;
    Ok(ExitCode::from(status))
}

/// The interface, as these arguments say.
pub(super) fn open(args: &If) -> anyhow::Result<Edge> {
    Ok(match Interface::find(&args.name)? {
        Some(_) if !args.addr.is_empty() => {
            return Err(Failure::usage(format!(
                "{0} is there already, and --addr is for a new device; `ip address add ... dev {0}` \
                 gives it an address",
                args.name
            ))
            .into());
        }
        Some(_) => Edge::open(&args.name).map_err(|e| barred(&e))?,
        None => Edge::create(&TapOptions {
            name: args.name.clone(),
            mtu: args.mtu,
            queue_len: QUEUE_LEN,
            addresses: args.addr.iter().map(|a| (a.0, a.1)).collect(),
            ..TapOptions::default()
        })
        .map_err(|e| barred(&e))?,
    })
}
