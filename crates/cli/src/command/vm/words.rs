//! What a machine says on its console, of which only the end is kept, and what a terminal may be
//! shown of it.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

/// The end of what a machine's console said.
#[derive(Debug, Default)]
pub(super) struct LastWords {
    bytes: VecDeque<u8>,
    /// Whether there will be no more.
    closed: bool,
}

/// Bytes that are kept.
const MOST: usize = 4096;
/// Reads in a round: a console that floods does not keep the rest waiting.
const READS: usize = 16;
/// Characters of a summary.
const LONGEST: usize = 400;

impl LastWords {
    /// Takes what there is.
    pub(super) fn read(&mut self, console: BorrowedFd<'_>) {
        let mut buffer = [0; MOST];
        for _ in 0..READS {
            match rustix::io::read(console, &mut buffer) {
                Ok(len @ 1..) => self.push(&buffer[..len]),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
                Ok(0) | Err(_) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }

    /// Whether there will be no more.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let excess = self.bytes.len().saturating_sub(MOST);
        self.bytes.drain(..excess);
    }

    /// The end of it in one line, if there is any.
    pub(super) fn summary(&self) -> Option<String> {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<String> = text
            .lines()
            .map(|line| printable(line.trim()))
            .filter(|line| !line.is_empty())
            .collect();
        let line = lines.join("; ");
        let excess = line.chars().count().saturating_sub(LONGEST);
        let end: String = line.chars().skip(excess).collect();
        (!end.is_empty()).then_some(end)
    }
}

/// A text without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_is_kept_in_one_line_that_a_terminal_may_be_shown() {
        let mut words = LastWords::default();
        assert_eq!(words.summary(), None);
        words.push(&[b'x'; 10_000]);
        words.push(b"\r\nplumb: panicked\x1b[2J\r\n\r\nat run.rs:5\r\n");
        assert!(words.bytes.len() <= MOST);
        let summary = words.summary().unwrap();
        assert_eq!(summary.chars().count(), LONGEST);
        let end = "; plumb: panicked\u{fffd}[2J; at run.rs:5";
        assert!(summary.ends_with(end), "{summary}");
    }
}
