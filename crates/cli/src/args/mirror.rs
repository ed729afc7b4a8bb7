//! `plumb mirror`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueHint};

use super::{ByteCount, FunctionArgs, Seconds, Way};

/// Arguments of `plumb mirror`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP, group = ArgGroup::new("to").required(true))]
pub struct Mirror {
    /// Write the copies to a file (pcapng).
    #[arg(long, value_name = "FILE", group = "to", value_hint = ValueHint::FilePath)]
    pub to_file: Option<PathBuf>,
    /// Send the copies out of an interface; if there is none of this name, a TAP device is made.
    #[arg(long, value_name = "NAME", group = "to")]
    pub to_interface: Option<String>,
    /// Write the copies to another pipe (pcapng), such as a named one, or >(tcpdump -r -).
    #[arg(long, value_name = "PATH", group = "to", value_hint = ValueHint::FilePath)]
    pub to_pipe: Option<PathBuf>,
    /// Which way packets go that are copied.
    #[arg(long, value_enum, default_value_t = Way::Both)]
    pub direction: Way,
    /// Bytes of each packet that are copied at most [default: all].
    #[arg(long, value_name = "BYTES", conflicts_with = "to_interface", value_parser = clap::value_parser!(u32).range(14..=262_144))]
    pub snaplen: Option<u32>,
    /// Copy large frames whole, with their unfinished checksums, instead of as the packets that a
    /// wire would carry. An interface always gets them whole.
    #[arg(long)]
    pub whole: bool,
    /// Copies that may wait for a pipe or an interface; what finds no room is not copied.
    #[arg(long, value_name = "PACKETS", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub queue: u32,

    /// Begin another file when one has so many bytes, such as 100M. Files are numbered:
    /// FILE-00001.pcapng.
    #[arg(long, value_name = "SIZE", help_heading = ROTATION, requires = "to_file")]
    pub rotate_size: Option<ByteCount>,
    /// Begin another file when one has packets of so much time.
    #[arg(long, value_name = "TIME", help_heading = ROTATION, requires = "to_file")]
    pub rotate_time: Option<Seconds>,
    /// Keep so many files: the oldest one is removed [default: all].
    #[arg(long, value_name = "FILES", help_heading = ROTATION, requires = "to_file", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_files: Option<u32>,
    /// The neighbours.
    #[command(flatten)]
    pub function: FunctionArgs,
}

const ROTATION: &str = "Several files";

const AFTER_HELP: &str = "\
All packets pass unchanged and at once. A copy that the pipe or the interface does not take is
dropped and counted (--counters, SIGUSR1: copy no room). On a recording nothing is live, and nothing
is dropped. Where standard output is a terminal, only the copies are written.

Examples:
  plumb exec --addr 10.0.0.2/24 -- ping -c 3 10.0.0.1 | plumb mirror --to-file seen.pcapng |
    plumb exec --addr 10.0.0.1/24 -- sleep 5
  plumb if tap0 | plumb mirror --to-file ring.pcapng --rotate-size 100M --keep-files 10 | plumb if tap1
  plumb if tap0 | plumb mirror --snaplen 128 --to-pipe >(tshark -i -) | plumb if tap1
  plumb mirror --direction right --to-interface mon0 < in.pcapng";
