//! Targets: arguments and lists, addresses and names.
//!
//! A list is read by a thread of its own, and names in it are resolved by a few more, so that
//! neither a slow pipe nor a slow name server keeps a probe waiting. Never more than a small part
//! of a list is in memory, except the addresses already used, which are needed to skip duplicates.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::ToSocketAddrs;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::sync::{Arc, Mutex};

use crate::exit::Failure;
use crate::settings::Family;

/// Something to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its address.
    pub addr: IpAddr,
    /// The name that stood for it.
    pub name: Option<String>,
}

impl Target {
    /// Whether one host can have the address, so that there is something to measure.
    pub(crate) const fn is_unicast(&self) -> bool {
        match self.addr {
            IpAddr::V4(v4) => !v4.is_unspecified() && !v4.is_multicast() && !v4.is_broadcast(),
            IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_multicast(),
        }
    }

    /// Reads an address or resolves a name, which may take as long as the system's resolver waits.
    ///
    /// # Errors
    ///
    /// Why there is no target, in a line.
    pub fn resolve(text: &str, family: Family) -> Result<Self, String> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            return match (addr, family) {
                (IpAddr::V4(_), Family::V6) => {
                    Err(format!("{text} is an IPv4 address, but IPv6 is asked for"))
                }
                (IpAddr::V6(_), Family::V4) => {
                    Err(format!("{text} is an IPv6 address, but IPv4 is asked for"))
                }
                _ => Ok(Self { addr, name: None }),
            };
        }
        if !is_name(text) {
            let shown: String = text.chars().take(60).flat_map(char::escape_debug).collect();
            return Err(format!("'{shown}' is neither an address nor a name"));
        }
        let mut addresses = (text, 0)
            .to_socket_addrs()
            .map_err(|e| format!("cannot resolve {text}: {}", resolver_error(&e)))?
            .map(|socket| socket.ip());
        let found = addresses.find(|addr| match family {
            Family::Any => true,
            Family::V4 => addr.is_ipv4(),
            Family::V6 => addr.is_ipv6(),
        });
        match (found, family) {
            (Some(addr), _) => Ok(Self {
                addr,
                name: Some(text.to_owned()),
            }),
            (None, Family::V6) => Err(format!("{text} has no IPv6 address")),
            (None, Family::Any | Family::V4) => Err(format!("{text} has no IPv4 address")),
        }
    }
}

/// A list that is being read.
#[derive(Debug)]
pub(crate) struct List {
    /// What reads, until it is started.
    reader: Option<Reader>,
    chunks: Receiver<Vec<Item>>,
    /// What is left of the last chunk.
    items: std::vec::IntoIter<Item>,
    bell: Bell,
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

/// Addresses that have been seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    v4: HashSet<u32>,
    v6: HashSet<u128>,
}

impl Seen {
    /// Adds `addr` and says whether it is new.
    pub(crate) fn insert(&mut self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.insert(Ipv4Addr::to_bits(addr)),
            IpAddr::V6(addr) => self.v6.insert(Ipv6Addr::to_bits(addr)),
        }
    }
}

/// Most targets that wait between the reader and the engine.
const QUEUED: usize = 4096;
/// Most targets that are handed over at once.
const CHUNK: usize = 256;
/// Threads that resolve the names in a list.
const RESOLVERS: usize = 8;
/// Longest line of a list in bytes; the longest name has 253.
const LONGEST_LINE: usize = 1024;

#[derive(Debug)]
struct Item {
    /// Bytes of the list up to and including this line.
    end: u64,
    /// Number of the line.
    line: u64,
    target: Result<Target, String>,
}

/// The reader's end of the queue.
#[derive(Clone, Debug)]
struct Output {
    chunks: SyncSender<Vec<Item>>,
    ringer: Ringer,
}

impl Output {
    /// Puts items into the queue; false if nobody takes them any more.
    fn put(&self, items: Vec<Item>) -> bool {
        let taken = self.chunks.send(items).is_ok();
        self.ringer.ring();
        taken
    }
}

/// Wakes the event loop when the queue is no longer empty, if it sleeps.
#[derive(Debug)]
struct Bell {
    stream: UnixStream,
    armed: Arc<AtomicBool>,
}

#[derive(Clone, Debug)]
struct Ringer {
    stream: Arc<UnixStream>,
    armed: Arc<AtomicBool>,
}

impl Bell {
    fn new() -> io::Result<(Self, Ringer)> {
        let (stream, far) = UnixStream::pair()?;
        stream.set_nonblocking(true)?;
        let armed = Arc::new(AtomicBool::new(false));
        let ringer = Ringer {
            stream: Arc::new(far),
            armed: Arc::clone(&armed),
        };
        Ok((Self { stream, armed }, ringer))
    }

    fn arm(&mut self) {
        let mut old = [0; 16];
        while matches!(self.stream.read(&mut old), Ok(1..)) {}
        self.armed.store(true, Ordering::SeqCst);
    }
}

impl Ringer {
    fn ring(&self) {
        if self.armed.swap(false, Ordering::SeqCst) {
            // If the other end is gone, nobody needs to be woken.
            let _ = (&*self.stream).write(&[0]);
        }
    }
}

impl Drop for Ringer {
    fn drop(&mut self) {
        // That a thread has ended may mean that the list has.
        let _ = (&*self.stream).write(&[0]);
    }
}

/// Reads a list in a thread of its own.
struct Reader {
    input: BufReader<Box<dyn Read + Send>>,
    family: Family,
    output: Output,
    /// Items that are not handed over yet.
    chunk: Vec<Item>,
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
    fn run(&mut self) {
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

/// Whether `text` can be a host name (RFC 1123 §2.1, with the underscores that exist), and not
/// one of the ways to write an IPv4 address that only inet_aton(3) knows.
fn is_name(text: &str) -> bool {
    let characters = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
    let last = text.trim_end_matches('.').rsplit('.').next();
    let numeric = |label: &str| {
        let hex = label.strip_prefix("0x").or(label.strip_prefix("0X"));
        match hex {
            Some(digits) => digits.bytes().all(|b| b.is_ascii_hexdigit()),
            None => label.bytes().all(|b| b.is_ascii_digit()),
        }
    };
    !text.is_empty()
        && text.len() <= 253
        && text.chars().all(characters)
        && !text.starts_with(['.', '-'])
        && !last.is_none_or(numeric)
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

/// What the resolver said, without the words that say that it was the resolver.
fn resolver_error(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ")
        .unwrap_or(&text)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in a list with this content, sorted.
    fn all(content: &[u8], family: Family) -> Vec<Next> {
        let dir = std::env::temp_dir();
        let path = dir.join(format!("plumb-list-{:?}", std::thread::current().id()));
        std::fs::write(&path, content).unwrap();
        let mut list = List::open(&path, family).unwrap();
        list.start();
        let mut found = Vec::new();
        loop {
            match list.poll() {
                Next::End => break,
                Next::Later => {
                    let mut byte = [0];
                    list.bell.stream.set_nonblocking(false).unwrap();
                    let _ = list.bell.stream.read(&mut byte);
                    list.bell.stream.set_nonblocking(true).unwrap();
                }
                next @ (Next::Target(_) | Next::Unusable(..)) => found.push(next),
            }
        }
        std::fs::remove_file(&path).unwrap();
        found
    }

    fn target(addr: &str) -> Next {
        Next::Target(Target {
            addr: addr.parse().unwrap(),
            name: None,
        })
    }

    #[test]
    fn a_list_may_have_comments_blank_lines_and_foreign_line_ends() {
        let content = b"\xef\xbb\xbf# head\r\n5.0.0.1\r\n\r\n  5.0.0.2 # why\n2a00::1\n5.0.0.3";
        assert_eq!(
            all(content, Family::Any),
            ["5.0.0.1", "5.0.0.2", "2a00::1", "5.0.0.3"].map(target)
        );
    }

    #[test]
    fn a_line_that_is_no_target_is_named_and_the_next_one_is_read() {
        let mut content = b"5.0.0.1\nwhat is this\n300.1.1.1\n2a00::1\n".to_vec();
        content.extend([b'x'; 5000]);
        content.extend(b"\n5.0.0.2\n");
        let found = all(&content, Family::V4);
        let lines: Vec<u64> = found
            .iter()
            .filter_map(|next| match next {
                Next::Unusable(line, _) => Some(*line),
                Next::Target(_) | Next::Later | Next::End => None,
            })
            .collect();
        assert_eq!(lines, [2, 3, 4, 5]);
        assert_eq!(found.first(), Some(&target("5.0.0.1")));
        assert_eq!(found.last(), Some(&target("5.0.0.2")));
    }

    #[test]
    fn names_in_a_list_are_resolved() {
        let found = all(b"localhost\n5.0.0.1\n", Family::V4);
        assert!(found.contains(&target("5.0.0.1")));
        assert!(found.contains(&Next::Target(Target {
            addr: Ipv4Addr::LOCALHOST.into(),
            name: Some("localhost".into()),
        })));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn what_is_no_list_is_refused_at_once() {
        let dir = std::env::temp_dir().join(format!("plumb-no-list-{}", std::process::id()));
        for (content, said) in [
            (b"".as_slice(), "is empty"),
            (b"\x7fELF\0\0", "not text"),
            (b"5.0.0.1\n\xff\xfe\n", "not text"),
        ] {
            std::fs::write(&dir, content).unwrap();
            let error = List::open(&dir, Family::Any).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        std::fs::remove_file(&dir).unwrap();
        assert!(List::open(&dir, Family::Any).is_err());
        assert!(List::open(Path::new("/"), Family::Any).is_err());
    }

    #[test]
    fn what_only_inet_aton_takes_for_an_address_is_no_name() {
        for no in [
            "",
            "1",
            "300",
            "1.2.3",
            "1.2.3.4.5",
            "0x7f000001",
            "a b",
            "-f",
            "a/24",
            "..",
        ] {
            assert!(!is_name(no), "{no}");
        }
        for yes in [
            "a",
            "a1",
            "1.example",
            "x_y.example.",
            "bücher.example",
            "0x7f.org",
        ] {
            assert!(is_name(yes), "{yes}");
        }
    }

    #[test]
    fn an_address_of_the_wrong_family_is_refused_with_both_named() {
        let error = Target::resolve("5.0.0.1", Family::V6).unwrap_err();
        assert!(error.contains("IPv4") && error.contains("IPv6"), "{error}");
        assert!(Target::resolve("::1", Family::V4).is_err());
        assert!(Target::resolve("::1", Family::V6).is_ok());
    }
}
