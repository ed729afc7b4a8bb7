//! `plumb count`: counts what passes.

use crate::args::Count;
use crate::exit::Exit;
use crate::stage::{Played, play};

pub(super) fn run(args: &Count) -> anyhow::Result<Exit> {
    let played = Played {
        name: "count",
        counters: true,
        json: args.json,
        counts_only: true,
    };
    play(plumb_nf::Count::new(), played, |_| Ok(()))
}
