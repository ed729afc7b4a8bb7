//! Firecracker.
//!
//! It takes its orders over a socket (its API), opens the TAP device by name, and brings the
//! stream out of the machine as a connection to a socket of ours (vsock). The sockets are in a file
//! system that exists only as long as a descriptor of it is open, so that nothing is left behind
//! whoever is killed when.

mod api;
mod directory;

use core::time::Duration;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use plumb_link::Handover;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::CapabilitySet;

use self::api::{Api, text};
use self::directory::Directory;
use crate::process::{Inheritance, Started, find, in_memory, is_program, start, version};
use crate::qemu::mac;
use crate::{Error, Launch, Runner, RunnerName, Unavailable, Vm, kvm};

/// Runs machines on Firecracker.
#[derive(Clone, Debug, Default)]
pub struct Firecracker {
    /// The program; otherwise what `PLUMB_FIRECRACKER` names, otherwise `firecracker` in PATH.
    pub program: Option<PathBuf>,
}

const PROGRAM: &str = "firecracker";
/// Where the program is, if it is not in PATH.
const VARIABLE: &str = "PLUMB_FIRECRACKER";
const REMEDY: &str = "install a release of https://github.com/firecracker-microvm/firecracker as \
                      firecracker in PATH, or set PLUMB_FIRECRACKER to its path";

/// Port of the host that the image connects to (vsock).
const PORT: u32 = 52;
/// The machine's own address; the host's is 2 (vsock(7)).
const GUEST_CID: u32 = 3;
/// How long the program may take to accept an order, and the image to connect. A machine that has
/// much else to do needs some of it.
const PATIENCE: Duration = Duration::from_secs(20);

impl Firecracker {
    fn program(&self) -> Result<PathBuf, Unavailable> {
        let unavailable = |reason| Unavailable {
            reason,
            remedy: Some(REMEDY.to_owned()),
        };
        let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
        match self.program.clone().or(named.map(PathBuf::from)) {
            Some(path) if is_program(&path) => Ok(path),
            Some(path) => Err(unavailable(format!("{} is no program", path.display()))),
            None => {
                find(PROGRAM).ok_or_else(|| unavailable(format!("there is no {PROGRAM} in PATH")))
            }
        }
    }
}

impl Runner for Firecracker {
    fn name(&self) -> RunnerName {
        RunnerName::Firecracker
    }

    fn check(&self) -> Result<String, Unavailable> {
        let program = self.program()?;
        kvm::open()?;
        let said = version(&program).map_err(|e| Unavailable {
            reason: format!("cannot run {}: {e}", program.display()),
            remedy: Some(REMEDY.to_owned()),
        })?;
        // "Firecracker v1.17.0"
        let version = said
            .split_whitespace()
            .nth(1)
            .unwrap_or("of unknown version");
        Ok(format!("Firecracker {version} on /dev/kvm"))
    }

    /// Returns when the image has connected, since there is no stream before. The machine dies with
    /// the thread that calls this.
    fn launch(&self, launch: Launch<'_>) -> Result<Vm, Error> {
        let program = self.program()?;
        let directory = Directory::new()?;
        let channel = UnixListener::bind(directory.path(&format!("vsock_{PORT}")))
            .map_err(|e| Error::system("make a channel", e))?;
        let image = in_memory("plumb image", launch.image)?;
        let module = match launch.module {
            [] => None,
            module => Some(in_memory("plumb boot module", module)?),
        };
        let mut command = Command::new(program);
        command
            .arg("--api-sock")
            .arg(directory.path("api"))
            // What it says is what the image says on its serial port, unless something is wrong.
            .args(["--level", "Error"]);
        // It takes letters, digits and hyphens.
        let is_taken = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if let Some(name) = launch.name.filter(is_taken) {
            command.args(["--id", name]);
        }
        let mut inherited = vec![image.as_fd()];
        inherited.extend(directory.fd());
        inherited.extend(module.as_ref().map(AsFd::as_fd));
        let inherited = Inheritance {
            files: &inherited,
            // It opens the TAP device itself.
            capabilities: CapabilitySet::NET_ADMIN,
            merge: launch.merge,
        };
        // From here on, an error drops `vm`, which ends the process.
        let (vm, ours) = vm_of(start(command, inherited)?)?;
        let api = wait_for(&vm, || UnixStream::connect(directory.path("api")))?;
        let mut api = Api::new(api, PATIENCE)?;

        let path = |file: BorrowedFd<'_>| text(&format!("/proc/self/fd/{}", file.as_raw_fd()));
        let mut source = format!("\"kernel_image_path\":{}", path(image.as_fd()));
        if let Some(module) = &module {
            source += &format!(",\"initrd_path\":{}", path(module.as_fd()));
        }
        source += &format!(",\"boot_args\":{}", text(launch.command_line));
        let memory = launch.memory_mib;
        let order = |api: &mut Api, path: &str, body: String| {
            api.put(path, &body).map_err(|e| ended_or(&vm, e))
        };
        order(
            &mut api,
            "/machine-config",
            format!("{{\"vcpu_count\":1,\"mem_size_mib\":{memory}}}"),
        )?;
        order(&mut api, "/boot-source", format!("{{{source}}}"))?;
        let socket = text(&directory.path("vsock").to_string_lossy());
        order(
            &mut api,
            "/vsock",
            format!("{{\"guest_cid\":{GUEST_CID},\"uds_path\":{socket}}}"),
        )?;
        let net = format!(
            "{{\"iface_id\":\"net\",\"guest_mac\":\"{}\",\"host_dev_name\":{}}}",
            mac(launch.mac),
            text(launch.tap_name)
        );
        let handover = Handover::of(launch.tap_name).map_err(tap_failed)?;
        drop(launch.tap);
        order(&mut api, "/network-interfaces/net", net)?;
        handover.restore().map_err(tap_failed)?;
        order(
            &mut api,
            "/actions",
            "{\"action_type\":\"InstanceStart\"}".to_owned(),
        )?;

        channel
            .set_nonblocking(true)
            .map_err(|e| Error::system("make a channel", e))?;
        let stream = wait_for(&vm, || channel.accept().map(|(stream, _)| stream))?;
        stream
            .set_nonblocking(true)
            .map_err(|e| Error::system("make a channel", e))?;
        drop(ours);
        let mut vm = vm;
        vm.channel = stream;
        Ok(vm)
    }
}

/// A machine whose channel leads nowhere yet, and the other end of that.
fn vm_of(started: Started) -> Result<(Vm, UnixStream), Error> {
    let (channel, ours) = UnixStream::pair().map_err(|e| Error::system("make a channel", e))?;
    let vm = Vm {
        runner: RunnerName::Firecracker,
        channel,
        console: started.console,
        process: started.process,
        pid: started.pid,
    };
    Ok((vm, ours))
}

/// Tries until it succeeds, the process ends, or patience does.
fn wait_for<T>(vm: &Vm, mut attempt: impl FnMut() -> io::Result<T>) -> Result<T, Error> {
    let began = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(error) if has_ended(vm, LOOK) || began.elapsed() > PATIENCE => {
                return Err(ended_or(vm, Error::system("reach the machine", error)));
            }
            Err(_) => {}
        }
    }
}

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(1);

/// Says whether the process ends within a time.
fn has_ended(vm: &Vm, within: Duration) -> bool {
    let timeout = Timespec::try_from(within).ok();
    let mut fds = [PollFd::new(&vm.process, PollFlags::IN)];
    poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
}

/// If the process has ended or said something, that is the better reason.
fn ended_or(vm: &Vm, error: Error) -> Error {
    let ended = has_ended(vm, Duration::from_millis(50));
    let mut bytes = [0; 4096];
    let len = rustix::io::read(&vm.console, &mut bytes).unwrap_or(0);
    let said = String::from_utf8_lossy(&bytes[..len]);
    let said = said.trim();
    if !ended {
        return match said {
            "" => error,
            said => Error::Image(format!("{error}; firecracker says: {said}")),
        };
    }
    Error::EndedEarly {
        runner: PROGRAM,
        said: if said.is_empty() {
            "it said nothing"
        } else {
            said
        }
        .to_owned(),
    }
}

fn tap_failed(error: plumb_link::Error) -> Error {
    Error::system(
        "hand the TAP device over to firecracker",
        io::Error::other(error),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_where_to_get_it() {
        let firecracker = Firecracker {
            program: Some("/no/firecracker".into()),
        };
        let missing = firecracker.check().unwrap_err();
        assert_eq!(missing.reason, "/no/firecracker is no program");
        assert!(missing.remedy.unwrap().contains(VARIABLE));
    }
}
