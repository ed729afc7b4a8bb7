//! `plumb doctor`.

use crate::args::Doctor;
use crate::exit::Exit;

pub(super) fn run(args: Doctor) -> anyhow::Result<Exit> {
    anyhow::bail!("{args:?}: this build has no checks")
}
