//! `plumb impair`: a bad link.

use std::process::ExitCode;

use plumb_nf::impair::{Distribution, Impair, Impairment};

use crate::args::{self, DistributionName, Way};
use crate::exit::Failure;
use crate::stage::{Played, filter};

pub(super) fn run(args: &args::Impair) -> anyhow::Result<ExitCode> {
    let played = Played {
        name: "impair",
        counters: args.function.links.counters,
        json: args.function.links.json,
        counts_only: false,
    };
    filter(build(args)?, played, &args.function, |_| Ok(()))
}

/// A bad link as these arguments say.
pub(super) fn build(args: &args::Impair) -> Result<Impair, Failure> {
    if !args.reorder.0.is_never() && args.delay.0.is_zero() {
        return Err(Failure::usage(
            "--reorder lets packets overtake those that are delayed: add --delay, such as \
             --delay 10ms",
        ));
    }
    let impairment = Impairment {
        delay: args.delay.0,
        jitter: args.jitter.0,
        distribution: match args.distribution {
            DistributionName::Uniform => Distribution::Uniform,
            DistributionName::Normal => Distribution::Normal,
            DistributionName::Pareto => Distribution::Pareto,
            DistributionName::Paretonormal => Distribution::ParetoNormal,
        },
        keep_order: args.keep_order,
        loss: args.loss.0,
        duplicate: args.duplicate.0,
        corrupt: args.corrupt.0,
        reorder: args.reorder.0,
        rate: args.rate.map(|rate| rate.0),
        limit: usize::try_from(args.limit).unwrap_or(usize::MAX),
    };
    let nothing = Impairment::default();
    let (to_left, to_right) = match args.direction {
        Way::Both => (impairment, impairment),
        Way::Right => (nothing, impairment),
        Way::Left => (impairment, nothing),
    };
    Ok(Impair::new(to_left, to_right, args.seed))
}
