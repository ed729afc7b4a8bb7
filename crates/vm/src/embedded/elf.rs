//! What has to be known of an ELF file to load it: written here because that is all, where a
//! library brings a framework of loaders, errors and memory traits with it.

use crate::Error;

/// A part of the file that has a place in memory (`PT_LOAD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: usize,
    /// Its length in the file.
    pub file_len: usize,
    /// Its physical address.
    pub address: u64,
    /// Its length in memory, at least that in the file. The rest is zero.
    pub memory_len: usize,
}

/// An ELF file that can be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    /// Address of the first instruction, in 64-bit mode.
    pub entry: u64,
    /// What to load; within the file, and in memory without overflow.
    pub segments: Vec<Segment>,
}

const PT_LOAD: u32 = 1;
/// More program headers than this are no image of ours.
const HEADERS: usize = 64;

impl Elf {
    /// Reads the headers of a 64-bit x86 ELF file.
    ///
    /// # Errors
    /// If it is something else, or says something that cannot be.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::Image(what.into());
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(wrong("it is not a 64-bit little-endian ELF file"));
        }
        if u16_at(file, 18) != Some(62) {
            return Err(wrong("it is not for x86-64"));
        }
        let cut = || wrong("its headers are cut off");
        let entry = u64_at(file, 24).ok_or_else(cut)?;
        let at = u64_at(file, 32).ok_or_else(cut)?;
        let size = u16_at(file, 54).ok_or_else(cut)?;
        let count = u16_at(file, 56).ok_or_else(cut)?;
        if size < 56 || usize::from(count) > HEADERS {
            return Err(wrong("its program headers make no sense"));
        }
        let mut segments = Vec::new();
        for index in 0..u64::from(count) {
            let header = at
                .checked_add(index * u64::from(size))
                .and_then(|at| usize::try_from(at).ok())
                .and_then(|at| file.get(at..))
                .and_then(|rest| rest.get(..56))
                .ok_or_else(cut)?;
            if u32_at(header, 0) != Some(PT_LOAD) {
                continue;
            }
            let number = |at| u64_at(header, at).and_then(|n| usize::try_from(n).ok());
            let segment = (|| {
                let segment = Segment {
                    offset: number(8)?,
                    file_len: number(32)?,
                    address: u64_at(header, 24)?,
                    memory_len: number(40)?,
                };
                let end = segment.offset.checked_add(segment.file_len)?;
                segment.address.checked_add(segment.memory_len as u64)?;
                (end <= file.len() && segment.file_len <= segment.memory_len).then_some(segment)
            })();
            segments.push(segment.ok_or_else(|| wrong("a segment is not within the file"))?);
        }
        if segments.is_empty() {
            return Err(wrong("there is nothing to load"));
        }
        Ok(Self { entry, segments })
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header that says there are `count` program headers at `at`, and what is behind it.
    fn file(at: u64, size: u16, count: u16, rest: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[24..32].copy_from_slice(&0x20_0000_u64.to_le_bytes());
        file[32..40].copy_from_slice(&at.to_le_bytes());
        file[54..56].copy_from_slice(&size.to_le_bytes());
        file[56..58].copy_from_slice(&count.to_le_bytes());
        file.extend(rest);
        file
    }

    fn segment(fields: [u64; 7]) -> Vec<u8> {
        fields.iter().flat_map(|f| f.to_le_bytes()).collect()
    }

    #[test]
    fn segments_have_their_place_in_file_and_memory() {
        let load = segment([1, 64, 0, 0x20_0000, 56, 100, 0]);
        let elf = Elf::parse(&file(64, 56, 1, &load)).unwrap();
        let expected = Segment {
            offset: 64,
            file_len: 56,
            address: 0x20_0000,
            memory_len: 100,
        };
        assert_eq!(elf.segments, [expected]);
        assert_eq!(elf.entry, 0x20_0000);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let beyond = segment([1, 64, 0, 0x20_0000, 57, 100, 0]);
        let shrinks = segment([1, 64, 0, 0x20_0000, 56, 55, 0]);
        let wraps = segment([1, 64, 0, u64::MAX - 10, 56, 100, 0]);
        for wrong in [beyond, shrinks, wraps] {
            assert!(Elf::parse(&file(64, 56, 1, &wrong)).is_err());
        }
        assert!(Elf::parse(&file(64, 56, 1, &[])).is_err());
        assert!(Elf::parse(&file(64, 56, 0, &[])).is_err());
        assert!(Elf::parse(&file(u64::MAX, 56, 2, &[0; 56])).is_err());
    }

    proptest! {
        #[test]
        fn no_file_panics_and_segments_are_within(
            at in prop_oneof![Just(64_u64), any::<u64>()],
            size in prop_oneof![Just(56_u16), any::<u16>()],
            count in 0_u16..70,
            mut rest in prop::collection::vec(any::<u8>(), 0..400),
            types in prop::collection::vec(any::<bool>(), 7),
        ) {
            for (header, load) in rest.chunks_mut(56).zip(types) {
                if load && header.len() == 56 {
                    header[..8].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
                    // Small enough to be possible.
                    for field in [8, 24, 32, 40] {
                        header[field + 2..field + 8].fill(0);
                        header[field + 1] &= 1;
                    }
                }
            }
            let file = file(at, size, count, &rest);
            if let Ok(elf) = Elf::parse(&file) {
                for segment in elf.segments {
                    prop_assert!(file.get(segment.offset..segment.offset + segment.file_len).is_some());
                    prop_assert!(segment.file_len <= segment.memory_len);
                }
            }
        }
    }
}
