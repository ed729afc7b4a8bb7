//! `plumb ping`.

use crate::args::Ping;
use crate::exit::Exit;
use crate::settings::PingSettings;

pub(super) fn run(args: Ping) -> anyhow::Result<Exit> {
    let settings = PingSettings::resolve(args)?;
    anyhow::bail!("{settings:?}: this build has no driver")
}
