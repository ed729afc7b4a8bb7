//! Memory of the machine, and what is in it when it starts.

use std::io;
use std::os::fd::AsFd;

use rustix::mm::{MapFlags, ProtFlags};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use super::boot::{self, Module};
use super::device::Memory;
use super::elf::{Elf, Segment};
use super::part::Part;
use crate::Error;

/// Sizes of memory that work: what is above would meet the devices.
pub(super) const SIZES_MIB: core::ops::RangeInclusive<u32> = 4..=2048;
const PAGE: u64 = 4096;

/// Memory with image, boot module and what the boot protocol asks for. Returns it with the address
/// of the first instruction.
///
/// Whole pages of the image are mapped and not copied, so that machines share those that they do
/// not write to.
///
/// # Errors
/// If the image is wrong, or something does not fit.
pub(super) fn load(
    mib: u32,
    image: (&[u8], Option<&Part>),
    module: Option<&Part>,
    command_line: &str,
) -> Result<(Memory, u64), Error> {
    if !SIZES_MIB.contains(&mib) {
        let (least, most) = (SIZES_MIB.start(), SIZES_MIB.end());
        return Err(Error::Image(format!(
            "a machine has {least} to {most} MiB of memory, not {mib}"
        )));
    }
    let size = u64::from(mib) << 20;
    let memory = Memory::from_ranges(&[(GuestAddress(0), (mib as usize) << 20)])
        .map_err(|error| Error::system("reserve memory", io::Error::other(error)))?;
    let (bytes, file) = image;
    let elf = Elf::parse(bytes)?;
    let mut end = boot::LOW;
    for segment in &elf.segments {
        if segment.address < boot::LOW {
            return Err(Error::Image("it wants memory below 1 MiB".into()));
        }
        end = end.max(segment.address + segment.memory_len as u64);
        load_segment(&memory, segment, bytes, file)?;
    }
    let module = match module {
        Some(part) => load_module(&memory, size, end, part)?,
        None => Module::default(),
    };
    boot::write(&memory, size, command_line, module)?;
    Ok((memory, elf.entry))
}

fn load_segment(
    memory: &Memory,
    segment: &Segment,
    bytes: &[u8],
    file: Option<&Part>,
) -> Result<(), Error> {
    let mut from = 0;
    if let Some(part) = file
        && segment.address.is_multiple_of(PAGE)
        && (part.offset + segment.offset as u64).is_multiple_of(PAGE)
    {
        // Not the last page, which may hold more than the segment.
        from = segment.file_len & !0xfff;
        if from > 0 {
            map(memory, segment.address, from, part, segment.offset as u64)?;
        }
    }
    // The rest of its memory is zero, as all memory that nobody has touched.
    memory
        .write_slice(
            &bytes[segment.offset + from..segment.offset + segment.file_len],
            GuestAddress(segment.address + from as u64),
        )
        .map_err(|_| Error::Image("it does not fit into the machine's memory".into()))
}

/// Puts the module at the end of memory.
fn load_module(memory: &Memory, size: u64, above: u64, part: &Part) -> Result<Module, Error> {
    let space = part.len.next_multiple_of(PAGE);
    let address = size.checked_sub(space).filter(|address| *address >= above);
    let (Some(address), Ok(len)) = (address, u32::try_from(part.len)) else {
        return Err(Error::Image(format!(
            "its boot module of {} bytes does not fit into the machine's memory",
            part.len
        )));
    };
    map(
        memory,
        address,
        usize::try_from(space).unwrap_or(usize::MAX),
        part,
        0,
    )?;
    let address = u32::try_from(address).unwrap_or(u32::MAX);
    Ok(Module { address, len })
}

/// Maps pages of a file over pages of memory, privately.
fn map(memory: &Memory, address: u64, len: usize, part: &Part, offset: u64) -> Result<(), Error> {
    let too_small = || Error::Image("it does not fit into the machine's memory".into());
    if !address.is_multiple_of(PAGE) || !memory.check_range(GuestAddress(address), len) {
        return Err(too_small());
    }
    let region = memory.iter().next().ok_or_else(too_small)?;
    let at = region
        .get_host_address(vm_memory::MemoryRegionAddress(address))
        .map_err(|_| too_small())?;
    // SAFETY: the range is page aligned and all of it lies within the only region, which starts at
    // guest address 0 and is a mapping that `memory` owns and only ever reaches through raw,
    // volatile accesses. Its new pages have the same permissions, and go away with it.
    unsafe {
        rustix::mm::mmap(
            at.cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE,
            part.file.as_fd(),
            part.offset + offset,
        )
    }
    .map_err(|error| Error::system("map the image", error.into()))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    const PLACE: u64 = 0x20_0000;

    /// An image of one segment, behind a header of a page.
    fn image(body: &[u8], address: u64, memory_len: u64) -> Vec<u8> {
        let mut file = vec![0; 4096];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[24..32].copy_from_slice(&(address + 8).to_le_bytes());
        file[32] = 64;
        file[54] = 56;
        file[56] = 1;
        let len = body.len() as u64;
        let header = [1, PAGE, address, address, len, memory_len, 0];
        for (at, field) in (64..).step_by(8).zip(header) {
            file[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        file.extend(body);
        file
    }

    fn part(bytes: &[u8]) -> Part {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
        file.write_all(bytes).unwrap();
        Part::all_of(OwnedFd::from(file)).unwrap()
    }

    fn read(memory: &Memory, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
        bytes
    }

    #[test]
    fn what_is_mapped_and_what_is_copied_is_the_same() {
        let body: Vec<u8> = (0..2 * PAGE + 100).map(|i| (i % 251) as u8).collect();
        let mut file = image(&body, PLACE, 4 * PAGE);
        // Something behind it in its last page, which is not to be seen.
        file.extend([0xff; 5000]);
        let mapped = part(&file);
        for from in [None, Some(&mapped)] {
            let (memory, entry) = load(8, (&file, from), None, "line").unwrap();
            assert_eq!(entry, PLACE + 8);
            assert_eq!(read(&memory, PLACE, body.len()), body);
            let rest = read(&memory, PLACE + body.len() as u64, 4 * 4096);
            assert!(rest.iter().all(|byte| *byte == 0));
        }
        // What a machine writes stays with it.
        let (memory, _) = load(8, (&file, Some(&mapped)), None, "").unwrap();
        memory.write_slice(&[7; 8192], GuestAddress(PLACE)).unwrap();
        let (memory, _) = load(8, (&file, Some(&mapped)), None, "").unwrap();
        assert_eq!(read(&memory, PLACE, body.len()), body);
    }

    #[test]
    fn the_module_is_at_the_end_of_memory_and_the_zero_page_leads_to_it() {
        let file = image(&[1; 10], PLACE, 10);
        let module: Vec<u8> = (0..5000_u32).map(|i| (i % 7) as u8).collect();
        let (memory, _) = load(4, (&file, None), Some(&part(&module)), "some words").unwrap();
        let word = |at: u64| memory.read_obj::<u32>(GuestAddress(0x7000 + at)).unwrap();
        assert_eq!((word(0x218), word(0x21c)), (0x40_0000 - 0x2000, 5000));
        assert_eq!(read(&memory, u64::from(word(0x218)), 5000), module);
        assert_eq!(read(&memory, word(0x228).into(), 11), b"some words\0");
        // Two stretches of usable memory, to 640 KiB and from 1 MiB on.
        assert_eq!(read(&memory, 0x71e8, 1), [2]);
        assert_eq!(
            (word(0x2d8), word(0x2e4), word(0x2ec)),
            (0x9_fc00, 0x10_0000, 0x30_0000)
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let file = image(&[1; 10], PLACE, 10);
        let fails = |mib, file: &[u8], module: Option<&Part>, line: &str| {
            load(mib, (file, None), module, line)
                .unwrap_err()
                .to_string()
        };
        assert!(fails(3, &file, None, "").contains("4 to 2048 MiB"));
        assert!(fails(4, &file, Some(&part(&[0; 0x20_0000])), "").contains("boot module"));
        assert!(fails(4, &file, None, &"x".repeat(2048)).contains("2048 bytes"));
        let low = image(&[1; 10], 0x8000, 10);
        assert!(fails(4, &low, None, "").contains("below 1 MiB"));
        let high = image(&[1; 10], 0x40_0000 - 5, 10);
        assert!(fails(4, &high, None, "").contains("does not fit"));
        let (mapped, whole) = (part(&high), image(&[1; 8192], 0x3f_f000, 8192));
        let mapped = Some(&mapped);
        assert!(load(4, (&whole, mapped), None, "").is_err());
    }
}
