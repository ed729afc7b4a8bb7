//! The thread that reads a list, and those that resolve the names in it.

use core::fmt;
use core::net::IpAddr;
use std::io::{self, BufRead, BufReader, Read};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};

use super::bell::Ringer;
use super::{Target, is_name};
use crate::settings::Family;

/// Most targets that are handed over at once.
pub(super) const CHUNK: usize = 256;
/// Threads that resolve the names in a list.
const RESOLVERS: usize = 8;
/// Longest line of a list in bytes; the longest name has 253.
const LONGEST_LINE: usize = 1024;

#[derive(Debug)]
pub(super) struct Item {
    /// Bytes of the list up to and including this line.
    pub(super) end: u64,
    /// Number of the line.
    pub(super) line: u64,
    pub(super) target: Result<Target, String>,
}

/// The reader's end of the queue.
#[derive(Clone, Debug)]
pub(super) struct Output {
    pub(super) chunks: SyncSender<Vec<Item>>,
    pub(super) ringer: Ringer,
}

impl Output {
    /// Puts items into the queue; false if nobody takes them any more.
    fn put(&self, items: Vec<Item>) -> bool {
        let taken = self.chunks.send(items).is_ok();
        self.ringer.ring();
        taken
    }
}

/// Reads a list in a thread of its own.
pub(super) struct Reader {
    pub(super) input: BufReader<Box<dyn Read + Send>>,
    pub(super) family: Family,
    pub(super) output: Output,
    /// Items that are not handed over yet.
    pub(super) chunk: Vec<Item>,
}

/// A line that may be a target.
struct Line {
    /// Bytes of the list up to and including this line.
    end: u64,
    /// From 1.
    number: u64,
    text: String,
}

impl Line {
    fn is(self, target: Result<Target, String>) -> Item {
        Item {
            end: self.end,
            line: self.number,
            target,
        }
    }

    fn resolve(self, family: Family) -> Item {
        let target = Target::resolve(&self.text, family);
        self.is(target)
    }
}

impl Reader {
    /// Reads lines to the end of the list or until nobody wants more.
    pub(super) fn run(&mut self) {
        self.read_lines();
        self.hand_over();
    }

    fn read_lines(&mut self) {
        let mut resolvers: Option<SyncSender<Line>> = None;
        let mut bytes = Vec::new();
        let mut end = 0;
        for number in 1.. {
            bytes.clear();
            // What is known must not wait for what is still to be written into a pipe.
            if !self.input.buffer().contains(&b'\n') && !self.hand_over() {
                return;
            }
            let taken = match self.read_line(&mut bytes) {
                Ok(0) => return,
                Ok(taken) => taken,
                Err(e) => {
                    let text = String::new();
                    let line = Line { end, number, text };
                    self.put(line.is(Err(format!("cannot read on: {e}"))));
                    return;
                }
            };
            end += taken;
            let text = String::from_utf8_lossy(&bytes);
            let text = text.split('#').next().unwrap_or_default();
            let text = text.trim_start_matches('\u{feff}').trim().to_owned();
            if text.is_empty() {
                continue;
            }
            let line = Line { end, number, text };
            let alive = if bytes.len() > LONGEST_LINE {
                let why = "this line is too long to be a target".to_owned();
                self.put(line.is(Err(why)))
            } else if line.text.parse::<IpAddr>().is_ok() || !is_name(&line.text) {
                self.put(line.resolve(self.family))
            } else {
                // Resolvers take their time.
                self.hand_over();
                resolvers
                    .get_or_insert_with(|| spawn_resolvers(self.family, &self.output))
                    .send(line)
                    .is_ok()
            };
            if !alive {
                return;
            }
        }
    }

    /// Adds an item to the chunk; false if nobody takes any more.
    fn put(&mut self, item: Item) -> bool {
        self.chunk.push(item);
        self.chunk.len() < CHUNK || self.hand_over()
    }

    /// Hands the chunk over; false if nobody takes it any more.
    fn hand_over(&mut self) -> bool {
        self.chunk.is_empty() || self.output.put(core::mem::take(&mut self.chunk))
    }

    /// Reads a line, of which no more than [`LONGEST_LINE`] bytes and one are kept, and returns
    /// its whole length.
    fn read_line(&mut self, bytes: &mut Vec<u8>) -> io::Result<u64> {
        let limit = LONGEST_LINE as u64 + 1;
        let mut taken = (&mut self.input).take(limit).read_until(b'\n', bytes)?;
        if bytes.len() > LONGEST_LINE && bytes.last() != Some(&b'\n') {
            taken += self.input.skip_until(b'\n')?;
        }
        Ok(taken as u64)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Starts the threads that resolve names; they end when the returned queue is dropped.
fn spawn_resolvers(family: Family, output: &Output) -> SyncSender<Line> {
    let (sender, names) = mpsc::sync_channel::<Line>(RESOLVERS * 4);
    let names = Arc::new(Mutex::new(names));
    for _ in 0..RESOLVERS {
        let (names, output) = (Arc::clone(&names), output.clone());
        std::thread::spawn(move || {
            loop {
                let next = names.lock().map(|names| names.recv());
                let Ok(Ok(line)) = next else {
                    return;
                };
                if !output.put(vec![line.resolve(family)]) {
                    return;
                }
            }
        });
    }
    sender
}
