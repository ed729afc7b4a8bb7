//! `plumb trace`.

use crate::args::Trace;
use crate::exit::Exit;
use crate::settings::TraceSettings;

pub(super) fn run(args: Trace) -> anyhow::Result<Exit> {
    let settings = TraceSettings::resolve(args)?;
    anyhow::bail!("{settings:?}: this build has no driver")
}
