//! `hvm_start_info` (xen/include/public/arch-x86/hvm/start_info.h).

use super::{BootInfo, Malformed, MemoryMap, Physical, Region, text, u32_at, u64_at};

const MAGIC: u32 = 0x336e_c578;
const ENTRY: usize = 24;
/// Most entries of a memory map that are read.
const MAX_ENTRIES: u32 = 256;

pub(super) fn read(memory: &dyn Physical, address: u64) -> Result<BootInfo<'_>, Malformed> {
    let info = memory.bytes(address, 56).ok_or(Malformed::Start)?;
    if u32_at(info, 0) != Some(MAGIC) {
        return Err(Malformed::Start);
    }
    let long = |at| u64_at(info, at).ok_or(Malformed::Start);
    let word = |at| u32_at(info, at).ok_or(Malformed::Start);

    let command_line = text(memory, long(24)?)?;
    let module = if word(12)? > 0 {
        let first = memory.bytes(long(16)?, 16).ok_or(Malformed::Module)?;
        let start = u64_at(first, 0).unwrap_or_default();
        let size = u64_at(first, 8).unwrap_or_default();
        Region::sized(start, size).ok_or(Malformed::Module)?
    } else {
        Region::default()
    };

    // Version 0 has no memory map; nobody has written it since 2018.
    let entries = word(48)?.min(MAX_ENTRIES) as usize;
    if word(4)? == 0 || entries == 0 {
        return Err(Malformed::MemoryMap);
    }
    let table = memory.bytes(long(40)?, entries * ENTRY);
    let table = table.ok_or(Malformed::MemoryMap)?;
    Ok(BootInfo {
        command_line,
        module,
        memory: MemoryMap::read(table.chunks_exact(ENTRY)),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::Flat;
    use super::super::{BootInfo, Protocol};
    use super::*;

    fn machine() -> Flat {
        let mut memory = Flat::new();
        let mut words = |at: usize, words: &[u64]| {
            for (index, word) in words.iter().enumerate() {
                memory.put(at + index * 8, &word.to_le_bytes());
            }
        };
        // Magic and version; flags and one module; its list; command line; RSDP; memory map.
        let magic = 1 << 32 | u64::from(MAGIC);
        words(0x6000, &[magic, 1 << 32, 0x6100, 0x1000, 0, 0x7000, 3]);
        words(0x6100, &[0x70_0000, 0x1234, 0, 0]);
        words(0x7000, &[0, 0x9_fc00, 1]);
        words(0x7018, &[0xe_0000, 0x2_0000, 2]);
        words(0x7030, &[0x10_0000, 0x70_0000, 1]);
        memory.put(0x1000, b"ip=10.0.0.2/24 poll\0");
        memory
    }

    #[test]
    fn command_line_module_and_memory_are_found() {
        let memory = machine();
        let info = BootInfo::read(Protocol::Pvh, &memory, 0x6000).unwrap();
        assert_eq!(info.command_line, b"ip=10.0.0.2/24 poll");
        assert_eq!(info.module, Region::sized(0x70_0000, 0x1234).unwrap());
        let usable = [
            Region::sized(0, 0x9_fc00).unwrap(),
            Region::sized(0x10_0000, 0x70_0000).unwrap(),
        ];
        assert_eq!(info.memory.usable(), usable);
    }

    #[test]
    fn what_is_missing_or_leads_nowhere_is_named() {
        let broken = |at: usize, value: u32| {
            let mut memory = machine();
            memory.put(at, &value.to_le_bytes());
            BootInfo::read(Protocol::Pvh, &memory, 0x6000).err()
        };
        assert_eq!(broken(0x6000, 0), Some(Malformed::Start));
        assert_eq!(broken(0x6004, 0), Some(Malformed::MemoryMap));
        assert_eq!(broken(0x6030, 0), Some(Malformed::MemoryMap));
        assert_eq!(broken(0x602c, 1), Some(Malformed::MemoryMap));
        assert_eq!(broken(0x601c, 1), Some(Malformed::CommandLine));
        assert_eq!(broken(0x6014, 1), Some(Malformed::Module));
        assert_eq!(broken(0x600c, 0), None);
        let memory = machine();
        let far = BootInfo::read(Protocol::Pvh, &memory, 0x3_0000 - 8);
        assert_eq!(far.err(), Some(Malformed::Start));
    }

    #[test]
    fn a_command_line_without_an_end_is_refused() {
        let mut memory = machine();
        memory.put(0x8000, &[b'a'; 0x2_8000]);
        memory.put(0x6018, &0x8000_u32.to_le_bytes());
        let info = BootInfo::read(Protocol::Pvh, &memory, 0x6000);
        assert_eq!(info.err(), Some(Malformed::CommandLine));
    }

    #[test]
    fn a_module_that_wraps_around_is_refused() {
        let mut memory = machine();
        memory.put(0x6108, &u64::MAX.to_le_bytes());
        let info = BootInfo::read(Protocol::Pvh, &memory, 0x6000);
        assert_eq!(info.err(), Some(Malformed::Module));
    }
}
