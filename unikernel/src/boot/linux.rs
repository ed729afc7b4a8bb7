//! `boot_params` (Documentation/arch/x86/zero-page.rst).

use super::{BootInfo, Malformed, MemoryMap, Physical, Region, text, u32_at};

const ENTRY: usize = 20;
/// Most entries that the table has room for.
const MAX_ENTRIES: usize = 128;

pub(super) fn read(memory: &dyn Physical, address: u64) -> Result<BootInfo<'_>, Malformed> {
    let params = memory.bytes(address, 4096).ok_or(Malformed::Start)?;
    // Some values have their upper halves elsewhere.
    let halves = |low, high| {
        let low = u32_at(params, low).unwrap_or_default();
        let high = u32_at(params, high).unwrap_or_default();
        u64::from(high) << 32 | u64::from(low)
    };
    let command_line = text(memory, halves(0x228, 0xc8))?;
    let module = Region::sized(halves(0x218, 0xc0), halves(0x21c, 0xc4));
    let module = module.ok_or(Malformed::Module)?;

    let entries = usize::from(params[0x1e8]).min(MAX_ENTRIES);
    if entries == 0 {
        return Err(Malformed::MemoryMap);
    }
    let table = params[0x2d0..].chunks_exact(ENTRY).take(entries);
    Ok(BootInfo {
        command_line,
        module,
        memory: MemoryMap::read(table),
    })
}

#[cfg(test)]
mod tests {
    use super::super::memory::USABLE;
    use super::super::tests::Flat;
    use super::super::{BootInfo, Protocol};
    use super::*;

    fn machine() -> Flat {
        let mut memory = Flat::new();
        memory.put(0x7000 + 0x1e8, &[2]);
        memory.put(0x7000 + 0x218, &0x70_0000_u32.to_le_bytes());
        memory.put(0x7000 + 0x21c, &0x1234_u32.to_le_bytes());
        memory.put(0x7000 + 0x228, &0x2000_u32.to_le_bytes());
        for (index, (start, size)) in [(0, 0x9_fc00), (0x10_0000, 0x70_0000)].iter().enumerate() {
            let at = 0x7000 + 0x2d0 + index * ENTRY;
            memory.put(at, &u64::to_le_bytes(*start));
            memory.put(at + 8, &u64::to_le_bytes(*size));
            memory.put(at + 16, &USABLE.to_le_bytes());
        }
        memory.put(0x2000, b"mtu=1400\0");
        memory
    }

    #[test]
    fn command_line_module_and_memory_are_found() {
        let memory = machine();
        let info = BootInfo::read(Protocol::Linux, &memory, 0x7000).unwrap();
        assert_eq!(info.command_line, b"mtu=1400");
        assert_eq!(info.module, Region::sized(0x70_0000, 0x1234).unwrap());
        assert_eq!(info.memory.usable().len(), 2);
        assert_eq!(info.memory.size(), 0x9_fc00 + 0x70_0000);
    }

    #[test]
    fn upper_halves_of_addresses_count() {
        let mut memory = machine();
        memory.put(0x7000 + 0xc0, &1_u32.to_le_bytes());
        let info = BootInfo::read(Protocol::Linux, &memory, 0x7000).unwrap();
        assert_eq!(info.module.start, 0x1_0070_0000);
        memory.put(0x7000 + 0xc8, &1_u32.to_le_bytes());
        let info = BootInfo::read(Protocol::Linux, &memory, 0x7000);
        assert_eq!(info.err(), Some(Malformed::CommandLine));
    }

    #[test]
    fn without_memory_there_is_no_start() {
        let mut memory = machine();
        memory.put(0x7000 + 0x1e8, &[0]);
        let info = BootInfo::read(Protocol::Linux, &memory, 0x7000);
        assert_eq!(info.err(), Some(Malformed::MemoryMap));
    }
}
