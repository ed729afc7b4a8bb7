//! The parent's side: starting a monitor.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use kvm_ioctls::Cap;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::PipeFlags;

use super::arguments::{Arguments, NAME};
use crate::process::{in_memory, pidfd};
use crate::{Error, IMAGE, Launch, Runner, RunnerName, Unavailable, Vm, kvm};

/// The running program.
const SELF: &str = "/proc/self/exe";

/// plumb's own virtual machine monitor.
#[derive(Clone, Debug)]
pub struct Embedded {
    program: PathBuf,
}

impl Default for Embedded {
    /// The monitor is this program, started again.
    fn default() -> Self {
        Self::with_program(SELF)
    }
}

impl Embedded {
    /// The monitor is another program, whose `main` begins as
    /// [`is_monitor`](super::is_monitor) says.
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        Self { program }
    }

    /// Whether the monitor has this image itself, because it is this same program.
    fn has(&self, image: &[u8]) -> bool {
        self.program.as_os_str() == SELF && core::ptr::eq(image, IMAGE)
    }
}

impl Runner for Embedded {
    fn name(&self) -> RunnerName {
        RunnerName::Embedded
    }

    fn check(&self) -> Result<String, Unavailable> {
        let kvm = kvm::open()?;
        let needed = [
            (Cap::Irqchip, "interrupt controllers"),
            (Cap::UserMemory, "user memory"),
            (Cap::ExtCpuid, "CPUID"),
        ];
        if let Some((_, name)) = needed.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(Unavailable {
                reason: format!("/dev/kvm lacks {name}"),
                remedy: None,
            });
        }
        Ok("plumb's own monitor on /dev/kvm".into())
    }

    fn launch(&self, launch: Launch<'_>) -> Result<Vm, Error> {
        let (ours, theirs) = UnixStream::pair().map_err(failed("make a channel"))?;
        ours.set_nonblocking(true)
            .map_err(failed("make a channel"))?;
        let (console, output) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|error| Error::system("make a pipe", error.into()))?;
        rustix::io::ioctl_fionbio(&console, true)
            .map_err(|error| Error::system("make a pipe", error.into()))?;
        let image = match self.has(launch.image) {
            true => None,
            false => Some(in_memory("plumb image", launch.image)?),
        };
        let module = match launch.module {
            [] => None,
            module => Some(in_memory("plumb boot module", module)?),
        };
        let mut files = vec![launch.tap.as_fd()];
        files.extend(image.iter().chain(&module).map(AsFd::as_fd));
        hand_over(&ours, &files)?;

        let arguments = Arguments {
            name: launch.name.map(Into::into),
            memory_mib: launch.memory_mib,
            mac: launch.mac,
            merge: launch.merge,
            image: image.is_some(),
            module: module.is_some(),
            parent: is_main_thread().then(std::process::id),
            command_line: launch.command_line.into(),
        };
        let stdout = output.try_clone().map_err(failed("start the monitor"))?;
        let child = Command::new(&self.program)
            .arg0(NAME)
            .args(arguments.to_words())
            .env_clear()
            // ^C in a terminal is for who holds the machine, who has a record to finish with it.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(stdout)
            .stderr(output)
            .spawn()
            .map_err(failed("start the monitor"))?;
        let process =
            pidfd(&child).map_err(|error| Error::system("watch the monitor", error.into()))?;
        Ok(Vm {
            runner: RunnerName::Embedded,
            channel: ours,
            console,
            process,
            pid: child.id(),
        })
    }
}

/// Whether the calling thread lives as long as its process.
fn is_main_thread() -> bool {
    rustix::thread::gettid() == rustix::process::getpid()
}

/// Puts files into the socket, for the monitor to find when it starts.
fn hand_over(socket: &UnixStream, files: &[BorrowedFd<'_>]) -> Result<(), Error> {
    let mut space = [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(files));
    debug_assert!(fits, "there is room for three");
    rustix::net::sendmsg(
        socket,
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::NOSIGNAL,
    )
    .map_err(|error| Error::system("hand files to the monitor", error.into()))?;
    Ok(())
}

fn failed(operation: &'static str) -> impl Fn(io::Error) -> Error {
    move |error| Error::system(operation, error)
}
