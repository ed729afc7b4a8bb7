//! `plumb doctor`.

use clap::Args;

/// Arguments of `plumb doctor`.
#[derive(Clone, Copy, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// One JSON object a line instead of text.
    #[arg(long)]
    pub json: bool,
}

const AFTER_HELP: &str = "\
Examples:
  plumb doctor          one line a check, with the command that fixes it
  plumb doctor --json   the same for machines

Exit status: 0 if plumb trace works here, 1 if not.";
