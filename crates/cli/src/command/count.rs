//! `plumb count`: counts what passes.

use std::process::ExitCode;

use crate::args::Count;
use crate::stage::{Played, filter};

pub(super) fn run(args: &Count) -> anyhow::Result<ExitCode> {
    let played = Played {
        name: "count",
        counters: true,
        json: args.function.links.json,
        counts_only: true,
    };
    filter(plumb_nf::Count::new(), played, &args.function, |_| Ok(()))
}
