//! `plumb exec`.

use core::net::IpAddr;

use clap::Args;

use super::{Addressed, LinkArgs, Side};

/// Arguments of `plumb exec`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Exec {
    /// An address of the command's interface; may be given several times.
    #[arg(long, value_name = "ADDRESS/LENGTH")]
    pub addr: Vec<Addressed>,
    /// Where packets to everywhere else go; one for each IP version.
    #[arg(long, value_name = "ADDRESS")]
    pub gateway: Vec<IpAddr>,
    /// Largest packet, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 1500, value_parser = clap::value_parser!(u32).range(68..=65521))]
    pub mtu: u32,
    /// Where the pipe is [default: on the left if standard input is one, else on the right].
    #[arg(long)]
    pub side: Option<Side>,
    /// Let the command run on when the pipeline has ended, instead of sending it SIGHUP, then SIGTERM,
    /// then SIGKILL.
    #[arg(long)]
    pub keep: bool,
    /// The pipes.
    #[command(flatten)]
    pub links: LinkArgs,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

const AFTER_HELP: &str = "\
The command runs in a network of its own, with nothing but a loopback interface and eth0, which is
the pipe. It needs no root where the kernel allows user namespaces. On the left of a pipe, its
output goes to standard error. plumb exits with the command's exit status. A command that goes on when
the pipeline has ended gets SIGHUP after a second, SIGTERM after three, SIGKILL after six; one that
ends of that counts as done.

Examples:
  plumb exec --addr 10.0.0.2/24 -- ping -c 3 10.0.0.1 | plumb exec --addr 10.0.0.1/24 -- sleep 5
  plumb exec --addr 10.0.0.2/24 -- curl -s http://10.0.0.1:8000/ | tee packets.pcapng |
    plumb exec --addr 10.0.0.1/24 -- python3 -m http.server";
