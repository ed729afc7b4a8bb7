//! QEMU, with KVM or in software.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::thread::CapabilitySet;

use crate::process::{Inheritance, find, in_memory, is_program, start, version};
use crate::{Error, Launch, Runner, RunnerName, Unavailable, Vm, kvm};

/// Firmware that loads what it is given and does nothing else, as `microvm` has it anyway. A BIOS
/// takes a tenth of a second, and ten where KVM has to emulate it.
const FIRMWARE: &str = "qboot.rom";

/// The machines of QEMU that the image runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machine {
    /// `microvm`: virtio over MMIO and little else; the fastest to start.
    #[default]
    Microvm,
    /// `pc`: i440FX with PCI.
    Pc,
    /// `q35`: ICH9 with PCI Express.
    Q35,
}

/// Who executes the machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, by /dev/kvm.
    Kvm,
    /// QEMU's translator, which needs nothing.
    Tcg,
}

/// Runs machines on QEMU.
#[derive(Clone, Debug, Default)]
pub struct Qemu {
    /// The program; otherwise `qemu-system-x86_64` in PATH.
    pub program: Option<PathBuf>,
    /// The kind of machine.
    pub machine: Machine,
    /// Who executes it; otherwise KVM where that can be opened.
    pub accelerator: Option<Accelerator>,
}

const PROGRAM: &str = "qemu-system-x86_64";

impl Qemu {
    fn program(&self) -> Result<PathBuf, Unavailable> {
        let found = match &self.program {
            Some(path) => Some(path.clone()).filter(|path| is_program(path)),
            None => find(PROGRAM),
        };
        found.ok_or_else(|| Unavailable {
            reason: match &self.program {
                Some(path) => format!("{} is no program", path.display()),
                None => format!("there is no {PROGRAM} in PATH"),
            },
            remedy: Some("sudo apt-get install --no-install-recommends qemu-system-x86".into()),
        })
    }

    fn accelerator(&self) -> Result<Accelerator, Unavailable> {
        match self.accelerator {
            Some(Accelerator::Kvm) => kvm::open().map(|_| Accelerator::Kvm),
            Some(Accelerator::Tcg) => Ok(Accelerator::Tcg),
            None if kvm::open().is_ok() => Ok(Accelerator::Kvm),
            None => Ok(Accelerator::Tcg),
        }
    }

    /// The command line but for what is inherited.
    fn command(&self, program: &Path, accelerator: Accelerator, launch: &Launch<'_>) -> Command {
        let merge = if launch.merge { "on" } else { "off" };
        let mut command = Command::new(program);
        command
            // Nothing but what is said here, whatever the system's configuration says.
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            // A machine that resets itself has ended.
            .arg("-no-reboot")
            .args(["-m", &format!("{}M", launch.memory_mib)])
            .args([
                "-machine",
                &format!("{},mem-merge={merge}", self.machine.options()),
            ])
            .args(accelerator.arguments())
            .args(["-append", launch.command_line])
            .args([
                "-chardev",
                "stdio,id=serial,signal=off",
                "-serial",
                "chardev:serial",
            ])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"])
            .args(["-sandbox", SANDBOX]);
        if let Some(name) = launch.name {
            command.args(["-name", &format!("guest={name}")]);
        }
        command
    }
}

/// No more system calls than a machine without files needs (seccomp).
const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

impl Machine {
    const fn options(self) -> &'static str {
        match self {
            Self::Microvm => "microvm,acpi=off,isa-serial=on",
            Self::Pc => "pc,usb=off,vmport=off,smm=off",
            Self::Q35 => "q35,usb=off,vmport=off,smm=off,sata=off",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Microvm => "microvm",
            Self::Pc => "pc",
            Self::Q35 => "q35",
        }
    }

    /// The devices, with the network's MAC address where `{mac}` stands.
    const fn devices(self) -> &'static [&'static str] {
        match self {
            Self::Microvm => &[
                "virtio-net-device,netdev=net,mac={mac}",
                "virtio-serial-device,max_ports=1",
                "virtconsole,chardev=channel",
            ],
            // No option ROM: nothing is to be booted from the network.
            Self::Pc | Self::Q35 => &[
                "virtio-net-pci,netdev=net,mac={mac},romfile=",
                "virtio-serial-pci,max_ports=1",
                "virtconsole,chardev=channel",
            ],
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Accelerator {
    const fn arguments(self) -> [&'static str; 4] {
        match self {
            // What the host knows of its own flaws is of no use to the image, and not every KVM lets it
            // be told.
            Self::Kvm => ["-accel", "kvm", "-cpu", "host,-arch-capabilities"],
            // The least buffer for translated code, in MiB: the image is small.
            Self::Tcg => ["-accel", "tcg,tb-size=1", "-cpu", "max"],
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "in software (TCG)",
        })
    }
}

impl Runner for Qemu {
    fn name(&self) -> RunnerName {
        RunnerName::Qemu
    }

    fn check(&self) -> Result<String, Unavailable> {
        let program = self.program()?;
        let accelerator = self.accelerator()?;
        let said = version(&program).map_err(|e| Unavailable {
            reason: format!("cannot run {}: {e}", program.display()),
            remedy: None,
        })?;
        // "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)"
        let version = said
            .split_whitespace()
            .nth(3)
            .unwrap_or("of unknown version");
        Ok(format!("QEMU {version}, {}, {accelerator}", self.machine))
    }

    /// The machine dies with the thread that calls this.
    fn launch(&self, launch: Launch<'_>) -> Result<Vm, Error> {
        let program = self.program()?;
        let accelerator = self.accelerator()?;
        let (ours, theirs) = UnixStream::pair().map_err(|e| Error::system("make a channel", e))?;
        ours.set_nonblocking(true)
            .map_err(|e| Error::system("make a channel", e))?;
        let image = in_memory("plumb image", launch.image)?;
        let mut command = self.command(&program, accelerator, &launch);
        command.args(["-kernel", &path(&image)]);
        let mut inherited = vec![image.as_fd(), theirs.as_fd(), launch.tap.as_fd()];
        let module = match launch.module {
            [] => None,
            module => Some(in_memory("plumb boot module", module)?),
        };
        if let Some(module) = &module {
            command.args(["-initrd", &path(module)]);
            inherited.push(module.as_fd());
        }
        command
            .args([
                "-chardev",
                &format!("socket,id=channel,fd={}", theirs.as_raw_fd()),
            ])
            .args([
                "-netdev",
                &format!("tap,id=net,fd={}", launch.tap.as_raw_fd()),
            ]);
        let mac = mac(launch.mac);
        for device in self.machine.devices() {
            command.args(["-device", &device.replace("{mac}", &mac)]);
        }
        if self.machine == Machine::Microvm {
            command.args(["-global", "virtio-mmio.force-legacy=false"]);
        } else if has_firmware(&program) {
            command.args(["-bios", FIRMWARE]);
        }
        let inherited = Inheritance {
            files: &inherited,
            capabilities: CapabilitySet::empty(),
            merge: launch.merge,
        };
        let started = start(command, inherited)?;
        Ok(Vm {
            runner: RunnerName::Qemu,
            channel: ours,
            console: started.console,
            process: started.process,
            pid: started.pid,
        })
    }
}

/// Whether QEMU has the firmware in one of its folders. What it has otherwise is a BIOS.
fn has_firmware(program: &Path) -> bool {
    let folders = Command::new(program)
        .args(["-L", "help"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    folders.is_ok_and(|folders| {
        let folders = String::from_utf8_lossy(&folders.stdout);
        let mut folders = folders.lines().map(Path::new);
        folders.any(|folder| folder.join(FIRMWARE).is_file())
    })
}

/// The path of a descriptor in the process that inherits it.
fn path(file: &impl AsRawFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// A MAC address as QEMU and Firecracker read it.
pub(crate) fn mac(address: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = address;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_brings_it() {
        let qemu = Qemu {
            program: Some("/no/qemu".into()),
            ..Qemu::default()
        };
        let missing = qemu.check().unwrap_err();
        assert_eq!(missing.reason, "/no/qemu is no program");
        assert!(missing.remedy.unwrap().contains("qemu-system-x86"));
    }

    #[test]
    fn mac_addresses_are_written_with_leading_zeros() {
        assert_eq!(mac([2, 0, 0x5e, 0xff, 0, 9]), "02:00:5e:ff:00:09");
    }
}
