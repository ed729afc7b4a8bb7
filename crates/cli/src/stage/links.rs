//! The links of a stage, as the command line says.

use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use plumb_link::stage::{Ends, PipeLink, PipeOptions, take_standard_input, take_standard_output};
use plumb_nf::Port;

use crate::args::{LinkArgs, PathPair, Side};
use crate::exit::Failure;

/// The standard streams that carry packets, taken away from everybody else in this process.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    /// Both are one socket, and belong to two neighbours.
    is_shared: bool,
}

impl Streams {
    /// Takes what the sides with a pipe need.
    pub(crate) fn take(args: &LinkArgs, left: bool, right: bool) -> anyhow::Result<Self> {
        let is_input = |p: &PathPair| p.input.as_ref().is_some_and(|p| is_stream(p, "stdin"));
        let is_output = |p: &PathPair| p.output.as_ref().is_some_and(|p| is_stream(p, "stdout"));
        let is_one = is_one_socket();
        let mut streams = Self {
            is_shared: is_one && left && right,
            ..Self::default()
        };
        // Named, a stream may be for either side.
        let (of_left, of_right) = (args.left.as_ref(), args.right.as_ref());
        let wants_input =
            left && of_left.is_none_or(is_input) || right && of_right.is_some_and(is_input);
        let wants_output =
            right && of_right.is_none_or(is_output) || left && of_left.is_some_and(is_output);
        if wants_input {
            if io::stdin().is_terminal() {
                return Err(Failure::usage(
                    "packets are read from standard input, which is a terminal: put a stage or \
                     `< in.pcapng` there",
                )
                .into());
            }
            streams.input = Some(take_standard_input()?);
        }
        if wants_output {
            if io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "packets are written to standard output, which is a terminal: add a stage, \
                     `| tcpdump -nr -` or `> out.pcapng`",
                )
                .into());
            }
            streams.output = Some(take_standard_output()?);
        }
        // What carries packets both ways is not for a command too.
        if is_one && !wants_input {
            take_standard_input()?;
        }
        if is_one && !wants_output {
            take_standard_output()?;
        }
        Ok(streams)
    }

    /// The link to the neighbour at a port.
    pub(crate) fn link(&mut self, args: &LinkArgs, port: Port) -> anyhow::Result<PipeLink> {
        self.open(args, port, false)
    }

    /// The link to the right that a capture is written to.
    pub(crate) fn capture(&mut self, args: &LinkArgs) -> anyhow::Result<PipeLink> {
        self.open(args, Port::Right, true)
    }

    fn open(&mut self, args: &LinkArgs, port: Port, is_capture: bool) -> anyhow::Result<PipeLink> {
        let mut ends = Ends::default();
        let pair = match port {
            Port::Left => &args.left,
            Port::Right => &args.right,
        };
        match (pair, port) {
            (None, Port::Left) => ends.input = self.input.take(),
            (None, Port::Right) => ends.output = self.output.take(),
            (Some(pair), _) => {
                match &pair.input {
                    Some(path) if is_stream(path, "stdin") => ends.input = self.input.take(),
                    path => ends.input_path.clone_from(path),
                }
                match &pair.output {
                    Some(path) if is_stream(path, "stdout") => ends.output = self.output.take(),
                    path => ends.output_path.clone_from(path),
                }
            }
        }
        let options = PipeOptions {
            port,
            upgrade: !args.no_upgrade && !self.is_shared,
            keep_offload: args.gso,
            is_capture,
        };
        Ok(PipeLink::open(ends, options)?)
    }
}

/// Which side of an edge is its pipe.
pub(crate) fn side(said: Option<Side>, args: &LinkArgs) -> Result<Port, Failure> {
    match (said, &args.left, &args.right) {
        (Some(Side::Left), ..) | (None, Some(_), None) => Ok(Port::Left),
        (Some(Side::Right), ..) | (None, None, Some(_)) => Ok(Port::Right),
        (None, Some(_), Some(_)) => Err(Failure::usage(
            "an interface has one pipe: give --left or --right",
        )),
        (None, None, None) if carries_packets("/proc/self/fd/0") => Ok(Port::Left),
        (None, None, None) if carries_packets("/proc/self/fd/1") => Ok(Port::Right),
        (None, None, None) => Err(Failure::usage(
            "neither standard input nor standard output is a pipe or a file, so there is nothing \
             to be joined to; an example: plumb exec --addr 10.0.0.2/24 -- ping 10.0.0.1 | \
             plumb exec --addr 10.0.0.1/24 -- sh",
        )),
    }
}

/// Whether standard input and output are one socket, as they are of a program behind ssh or socat.
fn is_one_socket() -> bool {
    let stat = |fd| std::fs::metadata(fd).ok();
    let (Some(input), Some(output)) = (stat("/proc/self/fd/0"), stat("/proc/self/fd/1")) else {
        return false;
    };
    let is_same = (input.dev(), input.ino()) == (output.dev(), output.ino());
    is_same && input.file_type().is_socket()
}

/// Whether a descriptor is something else than a terminal or another device.
fn carries_packets(fd: &str) -> bool {
    std::fs::metadata(fd).is_ok_and(|meta| !meta.file_type().is_char_device())
}

fn is_stream(path: &std::path::Path, name: &str) -> bool {
    path.as_os_str() == "-" || path == std::path::Path::new("/dev").join(name)
}
