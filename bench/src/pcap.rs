//! When the packets of a capture left, by tcpdump's file.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

/// The times in a capture of tcpdump with nanoseconds (this machine's byte order), in nanoseconds.
pub(crate) fn times(path: &Path) -> anyhow::Result<Vec<u64>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&bytes).with_context(|| format!("in {}", path.display()))
}

const MAGIC: u32 = 0xa1b2_3c4d;
const FILE_HEADER_LEN: usize = 24;

fn parse(bytes: &[u8]) -> anyhow::Result<Vec<u64>> {
    let word = |at: usize| -> Option<u32> {
        Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
    };
    if word(0) != Some(MAGIC) {
        bail!("not a capture with nanoseconds");
    }
    let (mut times, mut at) = (Vec::new(), FILE_HEADER_LEN);
    while let (Some(seconds), Some(nanos), Some(len)) = (word(at), word(at + 4), word(at + 8)) {
        times.push(u64::from(seconds) * 1_000_000_000 + u64::from(nanos));
        at += 16 + usize::try_from(len)?;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_over_packets_of_any_length_and_a_cut_off_record_ends_them() {
        let mut file = Vec::new();
        let mut words = |words: &[u32]| words.iter().for_each(|w| file.extend(w.to_ne_bytes()));
        words(&[MAGIC, 0, 0, 0, 0, 1]);
        words(&[1, 5, 4, 60, 0]);
        words(&[2, 7, 8, 60, 0, 0]);
        words(&[3, 0]);
        assert_eq!(parse(&file).ok(), Some(vec![1_000_000_005, 2_000_000_007]));
        assert!(parse(&file[4..]).is_err());
    }
}
