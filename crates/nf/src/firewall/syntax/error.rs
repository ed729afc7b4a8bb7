//! Where things stand in the files of rules, and what is wrong there.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A piece of a file, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) file: u16,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    /// From the start of one to the end of another.
    pub(crate) const fn to(self, end: Self) -> Self {
        Self {
            end: end.end,
            ..self
        }
    }
}

/// Something that was read, and where.
#[derive(Clone, Debug)]
pub(crate) struct Spanned<T> {
    pub(crate) node: T,
    pub(crate) span: Span,
}

/// A file of rules.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name, as errors give it.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// The files that were read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources(pub(crate) Vec<Source>);

impl Sources {
    /// Name of the file and number of the line, from 1.
    pub(crate) fn line(&self, span: Span) -> (&str, usize) {
        match self.0.get(usize::from(span.file)) {
            Some(source) => (&source.name, place(&source.text, span.start).0),
            None => ("", 0),
        }
    }

    /// What stands at a place, on one line.
    pub(crate) fn text(&self, span: Span) -> String {
        let Some(source) = self.0.get(usize::from(span.file)) else {
            return String::new();
        };
        let piece = source.text.get(index(span.start)..index(span.end));
        let mut words = String::new();
        for line in piece.unwrap_or_default().lines() {
            let line = line.trim_end_matches('\\');
            for word in line.split_whitespace() {
                if !words.is_empty() {
                    words.push(' ');
                }
                words.push_str(word);
            }
        }
        words
    }

    /// An error at a place.
    pub(crate) fn error(&self, span: Span, complaint: Complaint) -> Error {
        let Some(source) = self.0.get(usize::from(span.file)) else {
            return Error {
                file: String::new(),
                line: 0,
                column: 0,
                text: String::new(),
                marked: 0,
                complaint,
            };
        };
        let (line, begin) = place(&source.text, span.start);
        let text = source.text.get(begin..).unwrap_or_default();
        let text = text.lines().next().unwrap_or_default();
        let before = source.text.get(begin..index(span.start));
        let before = before.unwrap_or_default().chars().count();
        let marked = source.text.get(index(span.start)..index(span.end));
        let marked = marked
            .unwrap_or_default()
            .lines()
            .next()
            .unwrap_or_default();
        Error {
            file: source.name.clone(),
            line,
            column: before + 1,
            text: text.to_string(),
            marked: marked.chars().count().max(1),
            complaint,
        }
    }
}

/// Number of the line that a byte is in, from 1, and where that begins.
fn place(text: &str, at: u32) -> (usize, usize) {
    let before = text.get(..index(at)).unwrap_or(text);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    (line, before.rfind('\n').map_or(0, |at| at + 1))
}

fn index(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// What is wrong, and what would not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What is wrong.
    pub what: String,
    /// What to write instead; empty if nothing is known.
    pub help: String,
}

impl Complaint {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: String::new(),
        }
    }

    pub(crate) fn with_help(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            help: help.into(),
        }
    }

    /// A word that is none of those which are known.
    pub(crate) fn unknown<'a>(
        what: &str,
        word: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        Self::with_help(
            format!("unknown {what} {word:?}"),
            format!("supported: {}", known.join(", ")),
        )
    }
}

/// Why rules are refused, and where: one complaint, the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Name of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: usize,
    /// Number of the character in the line, from 1.
    pub column: usize,
    /// The line.
    pub text: String,
    /// How many characters it is about.
    pub marked: usize,
    /// What is wrong.
    pub complaint: Complaint,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Of a long line, what is around the place.
        const AROUND: usize = 60;
        let Self { file, line, .. } = self;
        writeln!(f, "{file}:{line}:{}: {}", self.column, self.complaint.what)?;
        let skipped = self.column.saturating_sub(AROUND);
        let shown = self.text.chars().skip(skipped).take(2 * AROUND);
        f.write_str("    ")?;
        for c in shown {
            write!(f, "{}", if c.is_control() { ' ' } else { c })?;
        }
        f.write_str("\n    ")?;
        for _ in 1..self.column - skipped {
            f.write_str(" ")?;
        }
        let room = (2 * AROUND).saturating_sub(self.column - skipped) + 1;
        for _ in 0..self.marked.min(room) {
            f.write_str("^")?;
        }
        if !self.complaint.help.is_empty() {
            write!(f, "\n{}", self.complaint.help)?;
        }
        Ok(())
    }
}

impl core::error::Error for Error {}
