//! A list of targets, as the event loop sees it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, TryRecvError};

use super::Target;
use super::bell::Bell;
use super::reader::{CHUNK, Item, Output, Reader};
use crate::exit::Failure;
use crate::settings::Family;

/// Most targets that wait between the reader and the engine.
const QUEUED: usize = 4096;

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct List {
    /// What reads, until it is started.
    reader: Option<Reader>,
    chunks: Receiver<Vec<Item>>,
    /// What is left of the last chunk.
    items: std::vec::IntoIter<Item>,
    pub(super) bell: Bell,
    /// Bytes of the list that have become items.
    read: u64,
    /// Length of the file in bytes; `None` for a pipe.
    len: Option<u64>,
}

/// What comes next from a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A target.
    Target(Target),
    /// A line that is none: its number, and why.
    Unusable(u64, String),
    /// Nothing yet; [`List::fd`] becomes readable when there is.
    Later,
    /// The list is at its end.
    End,
}

impl List {
    /// Begins to read the file at `path`, or standard input if that is `-`.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or is empty, or is not text.
    pub(crate) fn open(path: &Path, family: Family) -> Result<Self, Failure> {
        let shown = list_name(path);
        let (input, len): (Box<dyn Read + Send>, _) = if path == Path::new("-") {
            (Box::new(io::stdin()), None)
        } else {
            let file = File::open(path)
                .map_err(|e| Failure::usage(format!("cannot read {shown}: {e}")))?;
            let len = file
                .metadata()
                .ok()
                .filter(|m| m.is_file())
                .map(|m| m.len());
            (Box::new(file), len)
        };
        let mut input = BufReader::with_capacity(1 << 16, input);
        let head = input
            .fill_buf()
            .map_err(|e| Failure::usage(format!("cannot read {shown}: {e}")))?;
        if head.is_empty() {
            return Err(Failure::usage(format!(
                "{shown} has no targets: it is empty"
            )));
        }
        if !is_text(head) {
            return Err(Failure::usage(format!(
                "{shown} is not a list of targets: it is not text"
            )));
        }
        let (bell, ringer) = Bell::new().map_err(|e| {
            Failure::usage(format!("cannot make a socket pair to read {shown}: {e}"))
        })?;
        let (sender, chunks) = mpsc::sync_channel(QUEUED / CHUNK);
        let output = Output {
            chunks: sender,
            ringer,
        };
        Ok(Self {
            reader: Some(Reader {
                input,
                family,
                output,
                chunk: Vec::new(),
            }),
            chunks,
            items: Vec::new().into_iter(),
            bell,
            read: 0,
            len,
        })
    }

    /// Starts the thread that reads. Before this, nothing comes. The thread has the privileges
    /// that its maker has at this time.
    pub(crate) fn start(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            std::thread::spawn(move || reader.run());
        }
    }

    /// What comes next.
    pub(crate) fn poll(&mut self) -> Next {
        let mut armed = false;
        loop {
            if let Some(item) = self.items.next() {
                self.read = self.read.max(item.end);
                return match item.target {
                    Ok(target) => Next::Target(target),
                    Err(why) => Next::Unusable(item.line, why),
                };
            }
            match self.chunks.try_recv() {
                Ok(chunk) => self.items = chunk.into_iter(),
                Err(TryRecvError::Disconnected) => return Next::End,
                Err(TryRecvError::Empty) if armed => return Next::Later,
                // Asked to ring, the reader may have sent something just before.
                Err(TryRecvError::Empty) => {
                    self.bell.arm();
                    armed = true;
                }
            }
        }
    }

    /// What becomes readable when there is more.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.bell.stream.as_fd()
    }

    /// How much of the list has come out of [`poll`](Self::poll), from 0 to 1; `None` for a pipe.
    pub(crate) fn fraction(&self) -> Option<f64> {
        let len = self.len.filter(|len| *len > 0)?;
        #[expect(clippy::cast_precision_loss, reason = "a share for people")]
        Some((self.read as f64 / len as f64).min(1.0))
    }
}

/// What a list is called.
pub(crate) fn list_name(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    }
}

/// Whether the beginning of a file looks like text.
fn is_text(head: &[u8]) -> bool {
    if head.contains(&0) {
        return false;
    }
    match core::str::from_utf8(head) {
        Ok(_) => true,
        // A character may be cut at the end.
        Err(e) => e.error_len().is_none(),
    }
}
