//! Stages of plumb that stand beside each other, as one process.

use std::ffi::OsString;

use plumb_link::stage::{Edge, Link, PassedOn, PipeLink, Tenant};
use plumb_nf::{Chain, Port};

use super::plan::{End, Part};
use crate::args::{Exec, FunctionArgs};
use crate::command::{exec, interface};
use crate::exit::{self, Failure};
use crate::stage::{
    Attended, Guest, Guests, Live, Played, Process, Streams, is_live, play, run_live,
};

/// Stages that run as one; a side without an end is joined to a neighbour.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) left: Option<End>,
    pub(super) parts: Vec<Part>,
    pub(super) right: Option<End>,
}

/// A side that has been opened.
enum Side {
    Edge(Edge),
    Pipe(Box<PipeLink>),
}

impl Side {
    fn link(&mut self) -> &mut dyn Link {
        match self {
            Self::Edge(edge) => edge,
            Self::Pipe(pipe) => &mut **pipe,
        }
    }
}

/// Runs a row; returns the exit status.
pub(super) fn run(row: Row, args: &FunctionArgs) -> anyhow::Result<u8> {
    let last = row.parts.last();
    let played = Played {
        name: "chain",
        counters: args.links.counters || row.parts.iter().any(|part| part.counters),
        json: args.links.json,
        counts_only: row.right.is_none() && last.is_some_and(|part| part.counts_only),
    };
    let has_ends = row.left.is_some() || row.right.is_some();
    if has_ends && args.offline {
        return Err(Failure::usage(
            "--offline is for a chain between two recordings; this one has an end whose time is now",
        )
        .into());
    }
    if !has_ends && !is_live(args, played) {
        let chain = build(row.parts, false)?.in_virtual_time();
        return Ok(play(chain, played, Attended::attend)? as u8);
    }

    let mut streams = Streams::take(&args.links, row.left.is_none(), row.right.is_none())?;
    let is_exec = |end: &Option<End>| matches!(end, Some(End::Exec(_)));
    // What comes before the last command runs must not end this process alone.
    let signals = match is_exec(&row.left) || is_exec(&row.right) {
        true => Some(PassedOn::take_over()?),
        false => None,
    };
    let mut guests = Vec::new();
    // Commands first: while there is one thread, and before there is anything that they must not
    // have.
    let mut edges = [None, None];
    for (end, port) in [(&row.left, Port::Left), (&row.right, Port::Right)] {
        if let Some(End::Exec(command)) = end {
            match tenant(command)? {
                Ok((tenant, edge)) => {
                    guests.push(Guest::new(port, Process::Tenant(tenant), command.keep));
                    edges[usize::from(port == Port::Right)] = Some(Side::Edge(edge));
                }
                Err(status) => return Ok(status),
            }
        }
    }
    let mut open = |end: &Option<End>, port, edge: &mut Option<Side>| {
        anyhow::Ok(match (end, edge.take()) {
            (Some(End::If(args)), _) => Side::Edge(interface::open(args)?),
            (_, Some(edge)) => edge,
            (_, None) => Side::Pipe(Box::new(streams.link(&args.links, port)?)),
        })
    };
    let mut left = open(&row.left, Port::Left, &mut edges[0])?;
    let mut right = open(&row.right, Port::Right, &mut edges[1])?;
    let reload = row.parts.iter().find_map(|part| part.reload);
    let chain = build(row.parts, true)?;
    let live = Live {
        counters: played.counters,
        reload,
        ..Live::new(played.name, &args.links)
    };
    let guests = match signals {
        None => Guests::default(),
        Some(signals) => Guests::tenants(guests, signals, reload.is_some()),
    };
    run_live(
        chain,
        left.link(),
        right.link(),
        &live,
        guests,
        Attended::attend,
    )
}

fn build(parts: Vec<Part>, live: bool) -> anyhow::Result<Chain<Box<dyn Attended>>> {
    let mut chain = Chain::new();
    for part in parts {
        let same = chain
            .functions()
            .filter(|(_, name, _)| name.split('.').next() == Some(part.name));
        let name = match same.count() {
            0 => part.name.to_owned(),
            before => format!("{}.{}", part.name, before + 1),
        };
        chain.push(name, part.build(live)?);
    }
    Ok(chain)
}

/// Starts a command in a network of its own. If that cannot be had, it says why.
fn tenant(args: &Exec) -> Result<Result<(Tenant, Edge), u8>, plumb_link::Error> {
    let command: Vec<OsString> = args.command.iter().map(OsString::from).collect();
    Tenant::spawn(&command, || {
        exec::enter(args).map_err(|error| exit::report(&error) as u8)
    })
}
