//! `plumb config`.

use clap::{Args, Subcommand};

/// Arguments of `plumb config`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Config {
    /// What to do with the settings.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What can be done with the settings.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print every setting, its value, and where it came from.
    #[command(after_help = AFTER_HELP)]
    Show {
        /// One JSON object a line instead of text.
        #[arg(long)]
        json: bool,
    },
}

const AFTER_HELP: &str = "\
A setting comes from, in this order: the command line, the environment (PLUMB_TRACE_MAX_HOPS),
./plumb.toml, $XDG_CONFIG_HOME/plumb/plumb.toml (~/.config/plumb/plumb.toml), and
/etc/plumb/plumb.toml. A file looks like this:

  [trace]
  max-hops = 20
  wait = \"500ms\"
  names = true

Examples:
  plumb config show
  PLUMB_PING_COUNT=10 plumb config show --json";
