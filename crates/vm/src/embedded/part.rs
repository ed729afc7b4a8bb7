//! Parts of files whose pages machines map and do not copy.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::mm::{MapFlags, ProtFlags};

use crate::Error;

/// Part of a file.
#[derive(Debug)]
pub(super) struct Part {
    /// The file.
    pub(super) file: OwnedFd,
    /// Where in it the part begins.
    pub(super) offset: u64,
    /// Length in bytes.
    pub(super) len: u64,
}

impl Part {
    /// All of a file.
    pub(super) fn all_of(file: OwnedFd) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&file)
            .map_err(|error| Error::system("read the parent's files", error.into()))?;
        Ok(Self {
            file,
            offset: 0,
            len: u64::try_from(stat.st_size).unwrap_or(0),
        })
    }

    /// Where the running program's file has these bytes of the program. None if the system does
    /// not tell: then there is no way but to copy them.
    pub(super) fn of_this_program(bytes: &'static [u8]) -> Option<Self> {
        // With room for all of it, so that the kernel does not make it in pieces.
        let mut maps = String::with_capacity(4096);
        File::open("/proc/self/maps")
            .and_then(|mut file| file.read_to_string(&mut maps))
            .ok()?;
        let from = bytes.as_ptr().addr() as u64;
        let len = bytes.len() as u64;
        Some(Self {
            offset: offset(&maps, from, len)?,
            file: File::open("/proc/self/exe").ok()?.into(),
            len,
        })
    }

    /// The bytes, as long as the process lives.
    pub(super) fn bytes(&self) -> Result<&'static [u8], Error> {
        let len = usize::try_from(self.len).unwrap_or(0);
        if len == 0 {
            return Ok(&[]);
        }
        let failed = |error: rustix::io::Errno| Error::system("map the image", error.into());
        // SAFETY: a new mapping, which is never undone, of a file that the parent has made for
        // this, and that is of this length.
        unsafe {
            let at = rustix::mm::mmap(
                core::ptr::null_mut(),
                len,
                ProtFlags::READ,
                MapFlags::PRIVATE,
                self.file.as_fd(),
                self.offset,
            );
            Ok(core::slice::from_raw_parts(at.map_err(failed)?.cast(), len))
        }
    }
}

/// Where in its file a range of addresses is, by /proc/PID/maps.
fn offset(maps: &str, from: u64, len: u64) -> Option<u64> {
    maps.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (start, end) = fields.next()?.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        let (start, end) = (number(start)?, number(end)?);
        let offset = number(fields.nth(1)?)?;
        // Without an inode it is no file.
        let is_file = fields.nth(1)? != "0";
        let within = (start..end).contains(&from) && from.checked_add(len)? <= end;
        (is_file && within).then(|| from - start + offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn the_image_is_found_in_the_running_program() {
        static BYTES: [u8; 9001] = [0xa5; 9001];
        let part = Part::of_this_program(&BYTES).unwrap();
        let mut read = vec![0; BYTES.len()];
        let file = File::from(part.file);
        file.read_exact_at(&mut read, part.offset).unwrap();
        assert_eq!(read, BYTES);
    }

    #[test]
    fn only_files_have_offsets() {
        let maps = "1000-3000 r--p 00005000 fe:00 17 /bin/x\n3000-4000 rw-p 00000000 00:00 0\n";
        assert_eq!(offset(maps, 0x1800, 0x100), Some(0x5800));
        assert_eq!(offset(maps, 0x2f00, 0x200), None);
        assert_eq!(offset(maps, 0x3000, 1), None);
        assert_eq!(offset("what\n- - - -", 0x3000, 1), None);
    }
}
