//! What the loader of the image has to tell, by either boot protocol.
//!
//! All of it is read as hostile: addresses may lead nowhere, counts and lengths may be anything.

mod linux;
mod memory;
mod pvh;

pub use memory::{MAX_REGIONS, MemoryMap, Region};

/// Physical memory, as far as it can be read.
pub trait Physical {
    /// The bytes from `address`; none if they cannot all be addressed. What is not memory may be
    /// among them: its contents are whatever the machine gives.
    fn bytes(&self, address: u64, length: usize) -> Option<&[u8]>;
}

/// How the image was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// PVH (docs/misc/pvh.pandoc of Xen): the address of `hvm_start_info`.
    Pvh,
    /// 64-bit Linux boot protocol (Documentation/arch/x86/boot.rst): the address of `boot_params`.
    Linux,
}

/// What the loader told.
#[derive(Debug)]
pub struct BootInfo<'a> {
    /// Command line, without the terminating zero.
    pub command_line: &'a [u8],
    /// Where the boot module (initrd) is; empty if there is none.
    pub module: Region,
    /// Memory that may be used.
    pub memory: MemoryMap,
}

/// Why that could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The structure itself cannot be addressed or has no magic number.
    Start,
    /// The memory map cannot be addressed or is empty.
    MemoryMap,
    /// The command line cannot be addressed or has no end.
    CommandLine,
    /// The module lies outside the address space.
    Module,
}

impl Malformed {
    /// The same in words, for the last ones of a machine.
    pub fn words(self) -> &'static str {
        match self {
            Self::Start => "the loader's information cannot be read",
            Self::MemoryMap => "the memory map cannot be read",
            Self::CommandLine => "the command line cannot be read",
            Self::Module => "the boot module is out of reach",
        }
    }
}

/// Longest command line that is looked at, in bytes. Cloud Hypervisor has the longest, 64 KiB.
const MAX_COMMAND_LINE: usize = 65_536;

impl<'a> BootInfo<'a> {
    /// Reads what is at `address`.
    ///
    /// # Errors
    /// If that is not what the protocol says.
    pub fn read(
        protocol: Protocol,
        memory: &'a dyn Physical,
        address: u64,
    ) -> Result<Self, Malformed> {
        match protocol {
            Protocol::Pvh => pvh::read(memory, address),
            Protocol::Linux => linux::read(memory, address),
        }
    }
}

/// Bytes up to a zero, at most as many as a command line may have; no address means no bytes.
fn text(memory: &dyn Physical, address: u64) -> Result<&[u8], Malformed> {
    if address == 0 {
        return Ok(&[]);
    }
    let bytes = memory.bytes(address, MAX_COMMAND_LINE);
    let bytes = bytes.ok_or(Malformed::CommandLine)?;
    let end = bytes.iter().position(|&byte| byte == 0);
    Ok(&bytes[..end.ok_or(Malformed::CommandLine)?])
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    /// Memory from address 0 on.
    pub(crate) struct Flat(pub(crate) Vec<u8>);

    impl Flat {
        pub(crate) fn new() -> Self {
            Self(vec![0; 0x30000])
        }

        pub(crate) fn put(&mut self, at: usize, bytes: &[u8]) {
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    impl Physical for Flat {
        fn bytes(&self, address: u64, length: usize) -> Option<&[u8]> {
            let start = usize::try_from(address).ok()?;
            self.0.get(start..start.checked_add(length)?)
        }
    }

    mod properties {
        use super::*;
        use proptest::prelude::*;

        proptest! {
            #[test]
            fn no_structure_of_a_loader_makes_the_reader_panic(
                bytes in proptest::collection::vec(any::<u8>(), 0..1024),
                magic in any::<bool>(),
                address in 0_usize..64,
            ) {
                let mut memory = Flat::new();
                memory.put(0, &bytes);
                if magic {
                    memory.put(address, &0x336e_c578_u32.to_le_bytes());
                }
                for protocol in [Protocol::Pvh, Protocol::Linux] {
                    if let Ok(info) = BootInfo::read(protocol, &memory, address as u64) {
                        let free = info.memory.largest_free(0x20_0000, &[info.module]);
                        prop_assert!(free.is_none_or(|free| free.start < free.end));
                    }
                }
            }
        }
    }
}
