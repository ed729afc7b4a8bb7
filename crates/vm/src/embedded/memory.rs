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
