//! A capture in one file, or in several one after the other.

use core::time::Duration;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use plumb_nf::{Frame, Port};
use plumb_wire::Instant;

use super::capture::Sink;

/// When another file is begun, and how many are kept. The default is one file for all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rotation {
    /// A file has no more bytes than this, unless the first packet alone has.
    pub(crate) bytes: Option<u64>,
    /// A file has packets of no more time than this.
    pub(crate) time: Option<Duration>,
    /// Files that are kept.
    pub(crate) keep: Option<u32>,
}

impl Rotation {
    const fn is_one_file(&self) -> bool {
        self.bytes.is_none() && self.time.is_none()
    }
}

/// Files with frames.
#[derive(Debug)]
pub(crate) struct Recording {
    path: PathBuf,
    rotation: Rotation,
    sink: Sink<File>,
    /// The stamp of the first frame in the file.
    first: Option<Instant>,
    number: u32,
    /// Files that are still there, oldest first.
    files: VecDeque<PathBuf>,
}

impl Recording {
    /// Begins the first file.
    pub(crate) fn create(path: &Path, rotation: Rotation) -> anyhow::Result<Self> {
        let name = if rotation.is_one_file() {
            path.to_owned()
        } else {
            numbered(path, 1)
        };
        Ok(Self {
            path: path.to_owned(),
            rotation,
            sink: create(&name)?,
            first: None,
            number: 1,
            files: [name].into(),
        })
    }

    /// Appends a frame that leaves by a port.
    pub(super) fn frame(&mut self, port: Port, frame: &Frame) -> anyhow::Result<()> {
        if let Some(first) = self.first
            && self.is_over(first, port, frame)
        {
            self.rotate()?;
        }
        self.first = self.first.or(Some(frame.at));
        self.sink.frame(port, frame).with_context(|| self.failed())
    }

    /// Writes what is not written yet.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        self.sink.flush().with_context(|| self.failed())
    }

    fn is_over(&self, first: Instant, port: Port, frame: &Frame) -> bool {
        let bytes = self.sink.len_with(port, frame);
        self.rotation.bytes.is_some_and(|most| bytes > most)
            || (self.rotation.time).is_some_and(|most| frame.at.since(first) >= most)
    }

    fn rotate(&mut self) -> anyhow::Result<()> {
        self.flush()?;
        self.number += 1;
        let name = numbered(&self.path, self.number);
        self.sink = create(&name)?;
        self.first = None;
        self.files.push_back(name);
        let keep = self.rotation.keep.map_or(usize::MAX, |keep| {
            usize::try_from(keep).unwrap_or(usize::MAX)
        });
        while self.files.len() > keep {
            if let Some(oldest) = self.files.pop_front() {
                match fs::remove_file(&oldest) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        let context = format!("cannot remove {}", oldest.display());
                        return Err(e).context(context);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn failed(&self) -> String {
        format!("cannot write {}", self.path.display())
    }
}

fn create(path: &Path) -> anyhow::Result<Sink<File>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(Sink::new(file))
}

/// `seen.pcapng` as `seen-00007.pcapng`.
fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{number:05}"));
    if let Some(extension) = path.extension() {
        name.push(".");
        name.push(extension);
    }
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_before_the_extension() {
        for (path, named) in [
            ("a/seen.pcapng", "a/seen-00012.pcapng"),
            ("seen", "seen-00012"),
            ("x.y.z", "x.y-00012.z"),
        ] {
            assert_eq!(numbered(Path::new(path), 12), Path::new(named));
        }
    }
}
