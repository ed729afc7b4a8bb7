//! The streams that a link to a neighbour is made of.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use plumb_wire::frame::Port;

use super::LinkError;
use super::input::Input;
use super::output::Output;
use super::pipe::{Opening, Pipe};

/// Where the frames of a side come from and go to.
#[derive(Debug, Default)]
pub struct Ends {
    /// What is read.
    pub input: Option<OwnedFd>,
    /// What is written.
    pub output: Option<OwnedFd>,
    /// A named pipe that is read, in place of `input`.
    pub input_path: Option<PathBuf>,
    /// A named pipe or a file that is written, in place of `output`.
    pub output_path: Option<PathBuf>,
}

/// How a [`PipeLink`](super::PipeLink) behaves.
#[derive(Clone, Copy, Debug)]
pub struct PipeOptions {
    /// Which side of the stage it is.
    pub port: Port,
    /// It may become a ring. Never where both ends are given, as then there is a way back.
    pub upgrade: bool,
    /// What is left to do with a frame may be left to whoever reads the pipe.
    pub keep_offload: bool,
    /// What is written is a capture: its interfaces are those that are added, and frames keep the
    /// direction that they had.
    pub is_capture: bool,
}

/// Takes standard input away from the rest of this process and from its children, for [`Ends`];
/// they find /dev/null in its place.
///
/// # Errors
/// If it is closed.
pub fn take_standard_input() -> io::Result<OwnedFd> {
    let taken = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(taken)
}

/// Takes standard output away from the rest of this process and from its children, for [`Ends`];
/// what they print goes to standard error.
///
/// # Errors
/// If it is closed.
pub fn take_standard_output() -> io::Result<OwnedFd> {
    let taken = io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdout(io::stderr())?;
    Ok(taken)
}

/// Streams that are open.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) input: Option<Input>,
    pub(super) output: Option<Output>,
    /// The other way of the socket that is read.
    pub(super) back: Option<Output>,
    /// The socket that is written is also what is read.
    pub(super) is_one_socket: bool,
}

impl Opened {
    /// Opens the ends. A socket that is the only one serves both ways, unless nothing may be upgraded.
    pub(super) fn of(ends: Ends, options: PipeOptions) -> Result<Self, LinkError> {
        let failed = |path: &PathBuf| {
            let name = path.display().to_string();
            move |e| LinkError::io("open", &name, e)
        };
        let unusable = |e| LinkError::io("use", "the pipe", e);
        let pipe = |fd: Option<OwnedFd>| fd.map(Pipe::new).transpose().map_err(unusable);
        let name = (!options.is_capture).then(|| options.port.name());
        let input = match &ends.input_path {
            Some(path) => Some(Pipe::open(path).map_err(failed(path))?),
            None => pipe(ends.input)?,
        };
        let to_path = match &ends.output_path {
            Some(path) => Some(Opening::new(path).map_err(failed(path))?),
            None => None,
        };
        let output = if to_path.is_none() {
            pipe(ends.output)?
        } else {
            None
        };
        let mut opened = Self {
            input: None,
            output: None,
            back: None,
            is_one_socket: false,
        };
        let may_turn = options.upgrade && !options.is_capture;
        match (&input, &output) {
            (Some(input), None) if may_turn && to_path.is_none() => {
                let back = input.other_way().map_err(unusable)?;
                opened.back = back.map(|back| Output::new(back, name));
            }
            (None, Some(output)) if may_turn => {
                opened.input = output.other_way().map_err(unusable)?.map(Input::new);
                opened.is_one_socket = opened.input.is_some();
            }
            _ => {}
        }
        opened.input = input.map(Input::new).or(opened.input);
        opened.output = match to_path {
            Some(opening) => Some(Output::opening(opening, name)),
            None => output.map(|output| Output::new(output, name)),
        };
        Ok(opened)
    }
}
