//! The parts of an ELF file that tell how it is entered and what is in it (System V ABI, gABI 4.1;
//! 64 bits, little-endian).

/// What a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// Where execution begins.
    pub(super) entry: u64,
    /// Where it begins by PVH, from the note XEN_ELFNOTE_PHYS32_ENTRY.
    pub(super) pvh_entry: Option<u32>,
    /// Sections that take memory, in the file's order.
    pub(super) sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) size: u64,
    /// Whether its bytes are in the file.
    pub(super) in_file: bool,
}

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const PT_NOTE: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHF_ALLOC: u64 = 2;
/// XEN_ELFNOTE_PHYS32_ENTRY (xen/include/public/elfnote.h).
const PHYS32_ENTRY: u32 = 18;

impl File {
    /// Reads a file; `None` if it is not one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.starts_with(MAGIC).then_some(())?;
        let segments = table(bytes, 0x20, 0x36)?;
        let sections = table(bytes, 0x28, 0x3a)?;
        let names = sections.get(usize::from(u16_at(bytes, 0x3e)?));
        let names =
            names.and_then(|header| part(bytes, u64_at(header, 0x18)?, u64_at(header, 0x20)?));
        let pvh_entry = segments
            .iter()
            .filter(|header| u32_at(header, 0) == Some(PT_NOTE))
            .filter_map(|header| part(bytes, u64_at(header, 8)?, u64_at(header, 0x20)?))
            .find_map(pvh_entry);
        let sections = sections
            .iter()
            .filter(|header| u64_at(header, 8).is_some_and(|flags| flags & SHF_ALLOC != 0))
            .filter_map(|header| {
                Some(Section {
                    name: name(names?, u32_at(header, 0)?)?,
                    address: u64_at(header, 0x10)?,
                    size: u64_at(header, 0x20)?,
                    in_file: u32_at(header, 4)? != SHT_NOBITS,
                })
            })
            .collect();
        Some(Self {
            entry: u64_at(bytes, 0x18)?,
            pvh_entry,
            sections,
        })
    }
}

/// The headers of a table whose offset is at `offset`, and the size and number of its entries at
/// `sizes`.
fn table(bytes: &[u8], offset: usize, sizes: usize) -> Option<Vec<&[u8]>> {
    let start = u64_at(bytes, offset)?;
    let size = u16_at(bytes, sizes)?;
    let count = u16_at(bytes, sizes + 2)?;
    if count == 0 {
        return Some(Vec::new());
    }
    (size > 0).then_some(())?;
    let table = part(bytes, start, u64::from(size) * u64::from(count))?;
    Some(table.chunks_exact(size.into()).collect())
}

/// The entry that a note segment names.
fn pvh_entry(mut notes: &[u8]) -> Option<u32> {
    let padded = |len: u32| usize::try_from(len).ok()?.checked_next_multiple_of(4);
    loop {
        let (name, description) = (u32_at(notes, 0)?, u32_at(notes, 4)?);
        let kind = u32_at(notes, 8)?;
        let at = padded(name)?.checked_add(12)?;
        let end = at.checked_add(padded(description)?)?;
        if kind == PHYS32_ENTRY && notes.get(12..16) == Some(b"Xen\0") {
            return u32_at(notes, at);
        }
        notes = notes.get(end..)?;
    }
}

fn name(names: &[u8], at: u32) -> Option<String> {
    let rest = names.get(usize::try_from(at).ok()?..)?;
    let name = rest.split(|byte| *byte == 0).next()?;
    Some(super::words::printable(&String::from_utf8_lossy(name)))
}

fn part(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..)?.get(..usize::try_from(len).ok()?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u16::from_le_bytes(*b))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_anywhere_or_damaged_is_survived() {
        let program = std::fs::read("/proc/self/exe").unwrap();
        let whole = File::parse(&program).unwrap();
        assert!(
            whole
                .sections
                .iter()
                .any(|s| s.name == ".text" && s.in_file)
        );
        assert!(
            whole
                .sections
                .iter()
                .any(|s| s.name == ".bss" && !s.in_file)
        );
        assert_eq!(whole.pvh_entry, None);
        assert_eq!(File::parse(b"no ELF"), None);
        let head = &program[..1 << 12];
        for len in 0..200 {
            let _ = File::parse(&head[..len]);
        }
        for at in 0..0x40 {
            let mut damaged = head.to_vec();
            damaged[at] ^= 0xff;
            let _ = File::parse(&damaged);
        }
    }
}
