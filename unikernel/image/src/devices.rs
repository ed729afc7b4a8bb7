//! The machine's devices, as the command line names them or the PCI bus has them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use plumb_unikernel::boot::Region;
use plumb_unikernel::command_line;
use plumb_unikernel::virtio::{self, DeviceKind, Mmio, Pci, Transport};

use crate::interrupts::{NO_INPUT, VECTOR_DEVICE};
use crate::memory::{self, Kind};
use crate::pci::{self, Registers};

/// The devices that the image drives, of each kind the first.
#[derive(Default)]
pub(crate) struct Devices {
    pub(crate) net: Option<Box<dyn Transport>>,
    /// What the stream to the host goes over: a console or a socket device.
    pub(crate) channel: Option<(DeviceKind, Box<dyn Transport>)>,
    /// Inputs of the I/O APIC that they interrupt with.
    pub(crate) inputs: Vec<u32>,
}

impl Devices {
    /// Looks at what the command line names, until there is one of each kind; if no network interface
    /// is among them, at the PCI bus.
    pub(crate) fn find(line: &[u8]) -> Self {
        let mut found = Self::default();
        for device in command_line::mmio_devices(line) {
            if found.net.is_some() && found.channel.is_some() {
                break;
            }
            let registers = Region::sized(device.base, device.size.max(0x200));
            let mapped = registers.is_some_and(|registers| memory::map(registers, Kind::Device));
            let Some(base) = usize::try_from(device.base).ok().filter(|_| mapped) else {
                continue;
            };
            // SAFETY: mapped. Whoever made the machine says that a device is there; nobody else in
            // here looks at it.
            let registers = unsafe { virtio::Memory::new(base) };
            let Some((kind, transport)) = Mmio::probe(registers) else {
                continue;
            };
            found.take(kind, Box::new(transport), Some(device.interrupt));
        }
        if found.net.is_none() && pci::Ports::exist() {
            found.look_at_pci();
        }
        found
    }

    fn look_at_pci(&mut self) {
        // SAFETY: firmware has given the device these addresses.
        let mut map = |start, len| unsafe { Registers::map(start, len) };
        Pci::probe(
            &mut pci::Ports,
            &mut map,
            VECTOR_DEVICE,
            &mut |kind, transport, interrupts| {
                // Messages do not pass the I/O APIC. Without them a device is deaf, and looked at often.
                let input = if interrupts { None } else { Some(NO_INPUT) };
                self.take(kind, Box::new(transport), input);
            },
        );
    }

    fn take(&mut self, kind: DeviceKind, transport: Box<dyn Transport>, input: Option<u32>) {
        let wanted = match kind {
            DeviceKind::Net => self.net.is_none(),
            DeviceKind::Console | DeviceKind::Vsock => self.channel.is_none(),
            DeviceKind::Other(_) => false,
        };
        if wanted {
            if kind == DeviceKind::Net {
                self.net = Some(transport);
            } else {
                self.channel = Some((kind, transport));
            }
            self.inputs.extend(input);
        }
    }
}
