//! The command line: words that are separated by blanks.
//!
//! `ip=10.0.0.2/24 gw=10.0.0.1 ip6=fd00::2/64 gw6=fd00::1 mac=02:00:00:00:00:01 mtu=1500 poll`, and
//! one `virtio_mmio.device=SIZE@BASE:IRQ` for each device, which the machine's monitor adds
//! (Documentation/admin-guide/kernel-parameters.txt of Linux). Of words that are given twice the
//! last counts; words that are not known are for somebody else.

use core::net::{Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use crate::net::{Config, Prefix};

/// What the command line says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// Addresses: `ip=`, `gw=`, `ip6=`, `gw6=`.
    pub network: Config,
    /// `mac=`: the interface's address where the device has none.
    pub mac: Option<[u8; 6]>,
    /// `mtu=`: largest IP packet in bytes, at least 68 (RFC 791).
    pub mtu: Option<u16>,
    /// `poll`: never sleep.
    pub poll: bool,
}

/// A word whose value cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadWord<'a>(pub &'a str);

/// A virtio device in the machine's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MmioDevice {
    /// Physical address of its registers.
    pub base: u64,
    /// Size of its registers in bytes.
    pub size: u64,
    /// Its interrupt, as an input of the I/O APIC.
    pub interrupt: u32,
}

impl CommandLine {
    /// Reads the words.
    ///
    /// # Errors
    /// The first known word whose value makes no sense.
    pub fn parse(line: &[u8]) -> Result<Self, BadWord<'_>> {
        let mut parsed = Self::default();
        for word in words(line) {
            parsed.take(word).ok_or(BadWord(word))?;
        }
        Ok(parsed)
    }

    fn take(&mut self, word: &str) -> Option<()> {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "ip" => self.network.v4 = Some(prefix::<Ipv4Addr>(value, 32)?),
            "gw" => self.network.gateway_v4 = Some(value.parse().ok()?),
            "ip6" => self.network.v6 = Some(prefix::<Ipv6Addr>(value, 128)?),
            "gw6" => self.network.gateway_v6 = Some(value.parse().ok()?),
            "mac" => self.mac = Some(mac(value)?),
            "mtu" => self.mtu = Some(value.parse().ok().filter(|&mtu| mtu >= 68)?),
            "poll" => self.poll = true,
            _ => {}
        }
        Some(())
    }
}

/// The devices that the command line names; what cannot be read is left out.
pub fn mmio_devices(line: &[u8]) -> impl Iterator<Item = MmioDevice> {
    words(line).filter_map(|word| {
        let value = word.strip_prefix("virtio_mmio.device=")?;
        let (size, rest) = value.split_once('@')?;
        // There may be an identifier behind the interrupt.
        let mut rest = rest.split(':');
        let device = MmioDevice {
            base: number(rest.next()?)?,
            size: number(size)?,
            interrupt: rest.next()?.parse().ok()?,
        };
        device.base.checked_add(device.size).map(|_| device)
    })
}

fn words(line: &[u8]) -> impl Iterator<Item = &str> {
    let words = line.split(|byte| byte.is_ascii_whitespace());
    words.filter_map(|word| core::str::from_utf8(word).ok())
}

fn prefix<A: FromStr>(value: &str, longest: u8) -> Option<Prefix<A>> {
    let (address, len) = value.split_once('/')?;
    Some(Prefix {
        address: address.parse().ok()?,
        len: len.parse().ok().filter(|&len| len <= longest)?,
    })
}

fn mac(value: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = value.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// A number as Linux's memparse takes it: hexadecimal behind 0x, with K, M or G at the end.
fn number(value: &str) -> Option<u64> {
    let (digits, shift) = match value.as_bytes().last()? {
        b'K' | b'k' => (&value[..value.len() - 1], 10),
        b'M' | b'm' => (&value[..value.len() - 1], 20),
        b'G' | b'g' => (&value[..value.len() - 1], 30),
        _ => (value, 0),
    };
    let number = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[test]
    fn every_word_is_understood() {
        let line = b"ip=10.0.0.2/24 gw=10.0.0.1  ip6=fd00::2/64 gw6=fd00::1 mac=02:00:5e:10:00:ff \
            mtu=1400 poll console=ttyS0 reboot=k panic=1 pci=off";
        let line = CommandLine::parse(line).unwrap();
        let v4 = Prefix {
            address: Ipv4Addr::new(10, 0, 0, 2),
            len: 24,
        };
        let v6 = Prefix {
            address: "fd00::2".parse().unwrap(),
            len: 64,
        };
        let network = Config {
            v4: Some(v4),
            gateway_v4: Some(Ipv4Addr::new(10, 0, 0, 1)),
            v6: Some(v6),
            gateway_v6: Some("fd00::1".parse().unwrap()),
        };
        assert_eq!(line.network, network);
        assert_eq!(line.mac, Some([2, 0, 0x5e, 0x10, 0, 0xff]));
        assert_eq!(line.mtu, Some(1400));
        assert!(line.poll);
        assert_eq!(CommandLine::parse(b""), Ok(CommandLine::default()));
    }

    #[test]
    fn a_value_that_makes_no_sense_is_named() {
        for word in [
            "ip=10.0.0.2",
            "ip=10.0.0.2/33",
            "ip=fd00::2/64",
            "ip6=fd00::2/129",
            "gw=",
            "gw6=10.0.0.1",
            "mac=02:00:00:00:00",
            "mac=02:00:00:00:00:01:02",
            "mac=2:0:0:0:0:1",
            "mtu=67",
            "mtu=65536",
        ] {
            let line = std::format!("quiet {word} poll");
            assert_eq!(CommandLine::parse(line.as_bytes()), Err(BadWord(word)));
        }
    }

    #[test]
    fn devices_are_found_as_firecracker_and_qemu_write_them() {
        let line =
            b"pci=off virtio_mmio.device=4K@0xc0001000:5 virtio_mmio.device=512@0xfeb00e00:12 \
            virtio_mmio.device=4K@0xd0000000:6:1 virtio_mmio.device=1K@0x1001e000";
        let found: Vec<_> = mmio_devices(line).collect();
        let device = |base, size, interrupt| MmioDevice {
            base,
            size,
            interrupt,
        };
        let expected = [
            device(0xc000_1000, 4096, 5),
            device(0xfeb0_0e00, 512, 12),
            device(0xd000_0000, 4096, 6),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn devices_beyond_the_address_space_are_left_out() {
        for word in [
            "18446744073709551615G@0:1",
            "2@0xffffffffffffffff:1",
            "K@0:1",
        ] {
            let line = std::format!("virtio_mmio.device={word}");
            assert_eq!(mmio_devices(line.as_bytes()).count(), 0, "{word}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_the_reader_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = CommandLine::parse(&line);
            prop_assert!(mmio_devices(&line).count() < 300);
        }

        #[test]
        fn no_value_makes_the_reader_panic(
            key in proptest::sample::select(&["ip=", "mac=", "mtu=", "virtio_mmio.device="][..]),
            value in "[0-9a-fx:@./KMG]{0,40}",
        ) {
            let line = std::format!("{key}{value}");
            let _ = CommandLine::parse(line.as_bytes());
            prop_assert!(mmio_devices(line.as_bytes()).count() <= 1);
        }
    }
}
