//! The unikernel's image, built by this crate's build script, at its place in plumb's own file.

/// The unikernel's image: an ELF file for x86-64 with PVH and 64-bit Linux entry. Empty where plumb
/// is built for another processor.
pub static IMAGE: &[u8] = &PLACED.bytes;

const FILE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/image"));
const PAGE: usize = 4096;

/// The image with room before it, so that its first segment lies in plumb's own file at the start
/// of a page if it does so in memory. Then machines can map it, and share its pages.
#[repr(C, align(4096))]
struct Placed {
    room: [u8; room(FILE)],
    bytes: [u8; FILE.len()],
}

static PLACED: Placed = Placed {
    room: [0; room(FILE)],
    bytes: *include_bytes!(concat!(env!("OUT_DIR"), "/image")),
};

/// What is missing to the alignment of the first program header's segment; nothing if there is
/// none.
const fn room(file: &[u8]) -> usize {
    const HEADER: usize = 64;
    if file.len() < HEADER + 24 {
        return 0;
    }
    let (offset, address) = (word(file, HEADER + 8), word(file, HEADER + 16));
    address.wrapping_sub(offset) % PAGE
}

/// The lower half of a 64-bit field.
const fn word(file: &[u8], at: usize) -> usize {
    u32::from_le_bytes([file[at], file[at + 1], file[at + 2], file[at + 3]]) as usize
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_lies_at_the_start_of_a_page() {
        if let Ok(elf) = crate::embedded::Elf::parse(IMAGE) {
            let segment = &elf.segments[0];
            let at = IMAGE[segment.offset..].as_ptr().addr();
            assert_eq!((at as u64 - segment.address) % PAGE as u64, 0);
        }
    }
}
