//! What an image consists of, for people: `plumb vm image` and `cargo xtask image` show it.

mod sha256;

use std::fmt;

pub use sha256::sha256;

/// A part of an image, as its linker named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its name, for example ".text".
    pub name: String,
    /// Its address in the machine.
    pub address: u64,
    /// Its size in the machine's memory, in bytes.
    pub size: u64,
    /// Whether it takes that much room in the file as well; otherwise it begins as zeros.
    pub in_file: bool,
}

/// What an image consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Size of the file in bytes.
    pub size: usize,
    /// Entry of the 64-bit Linux boot protocol.
    pub linux_entry: u64,
    /// Entry of PVH, if there is one.
    pub pvh_entry: Option<u32>,
    /// Its sections; none if their headers were stripped.
    pub sections: Vec<Section>,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
}

impl Description {
    /// Describes an ELF file; none if it is not one of 64 bits, little-endian.
    pub fn of(file: &[u8]) -> Option<Self> {
        if file.get(..6)? != b"\x7fELF\x02\x01" {
            return None;
        }
        let linux_entry = number(file, 24, 8)?;
        let headers = table(file, 32, 54, 56)?;
        let notes = headers
            .iter()
            .filter(|header| number(header, 0, 4) == Some(4));
        let pvh_entry =
            notes.filter_map(|note| part(file, number(note, 8, 8)?, number(note, 32, 8)?));
        let pvh_entry = pvh_entry.filter_map(pvh_entry_of).next();

        let headers = table(file, 40, 58, 60)?;
        let names = headers.get(number(file, 62, 2).and_then(|index| usize::try_from(index).ok())?);
        let names =
            names.and_then(|names| part(file, number(names, 24, 8)?, number(names, 32, 8)?));
        let sections = headers.iter().filter_map(|header| section(header, names?));
        Some(Self {
            size: file.len(),
            linux_entry,
            pvh_entry,
            sections: sections.collect(),
            digest: sha256(file),
        })
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "size     {} bytes", self.size)?;
        write!(f, "sha256   ")?;
        for byte in self.digest {
            write!(f, "{byte:02x}")?;
        }
        writeln!(f, "\nentry    {:#x} (64-bit Linux)", self.linux_entry)?;
        if let Some(entry) = self.pvh_entry {
            writeln!(f, "entry    {entry:#x} (PVH)")?;
        }
        for section in &self.sections {
            let Section {
                name,
                address,
                size,
                ..
            } = section;
            let where_from = if section.in_file {
                ""
            } else {
                "  not in the file"
            };
            writeln!(f, "{name:<10} {address:#x} {size:>8} bytes{where_from}")?;
        }
        Ok(())
    }
}

/// The little-endian number of `len` bytes, at most 8.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.get(..len)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte)),
    )
}

fn part(file: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let rest = file.get(usize::try_from(at).ok()?..)?;
    rest.get(..usize::try_from(len).ok()?)
}

/// A table of headers: where the file's own header says its offset, size and count.
fn table(file: &[u8], offset: usize, size: usize, count: usize) -> Option<Vec<&[u8]>> {
    let (at, size) = (number(file, offset, 8)?, number(file, size, 2)?);
    let header = |index: u64| part(file, at.checked_add(index * size)?, size);
    (0..number(file, count, 2)?).map(header).collect()
}

fn section(header: &[u8], names: &[u8]) -> Option<Section> {
    const ALLOCATED: u64 = 2;
    const NO_BITS: u64 = 8;
    if number(header, 8, 8)? & ALLOCATED == 0 {
        return None;
    }
    let name = names.get(usize::try_from(number(header, 0, 4)?).ok()?..)?;
    let name = name.split(|&byte| byte == 0).next()?;
    Some(Section {
        name: String::from_utf8_lossy(name).into_owned(),
        address: number(header, 16, 8)?,
        size: number(header, 32, 8)?,
        in_file: number(header, 4, 4)? != NO_BITS,
    })
}

/// The entry in a note of Xen's, number 18 (xen/include/public/elfnote.h).
fn pvh_entry_of(note: &[u8]) -> Option<u32> {
    let ours =
        number(note, 0, 4)? == 4 && number(note, 8, 4)? == 18 && note.get(12..16)? == b"Xen\0";
    u32::try_from(number(note, 16, 4)?).ok().filter(|_| ours)
}
