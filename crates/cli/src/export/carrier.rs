//! What carries messages: datagrams, a stream with or without TLS, a file.

use core::fmt;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{TcpStream, ToSocketAddrs, UdpSocket};
use std::path::Path;

use anyhow::Context;

use super::tls::{TlsClient, TlsStream};
use crate::args::CollectorAddress;

/// Opens a way to a destination, as often as it is lost.
pub(super) trait Opener: Send + fmt::Debug {
    /// Opens it; may take some seconds.
    fn open(&mut self) -> io::Result<Box<dyn Carrier>>;
}

/// A way to a destination.
pub(super) trait Carrier: Send + fmt::Debug {
    /// Sends a message, all of it; may take some seconds.
    fn send(&mut self, message: &[u8]) -> io::Result<()>;

    /// The longest message in bytes.
    fn max_message_len(&self) -> usize;

    /// Ends it in order.
    fn close(&mut self) {}
}

const PATIENCE: Duration = Duration::from_secs(5);

/// The address that connects, of all that a name has.
fn first_that<T>(
    address: &CollectorAddress,
    mut works: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for addr in (address.host.as_str(), address.port).to_socket_addrs()? {
        match works(addr) {
            Ok(found) => return Ok(found),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Datagrams to a collector.
#[derive(Debug)]
pub(super) struct Datagrams {
    address: CollectorAddress,
    rate: u32,
}

impl Datagrams {
    /// Datagrams to this collector, so many a second at most.
    pub(super) fn to(address: &CollectorAddress, rate: u32) -> Self {
        Self {
            address: address.clone(),
            rate,
        }
    }
}

impl Opener for Datagrams {
    fn open(&mut self) -> io::Result<Box<dyn Carrier>> {
        let (socket, addr) = first_that(&self.address, |addr| {
            let any = match addr.ip() {
                IpAddr::V4(_) => SocketAddr::from(([0; 4], 0)),
                IpAddr::V6(_) => SocketAddr::from(([0_u16; 8], 0)),
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(addr)?;
            Ok((socket, addr))
        })?;
        let (mtu, headers) = match addr.ip() {
            IpAddr::V4(_) => (rustix::net::sockopt::ip_mtu(&socket)?, 28),
            IpAddr::V6(_) => (rustix::net::sockopt::ipv6_mtu(&socket)?, 48),
        };
        let max_message_len = usize::try_from(mtu).unwrap_or(LONGEST_PACKET);
        Ok(Box::new(ConnectedDatagrams {
            socket,
            sent: 0,
            rate: self.rate,
            max_message_len: max_message_len.min(LONGEST_PACKET) - headers,
        }))
    }
}

/// A packet that goes through everywhere where IPv6 or Ethernet does; beyond the first link nothing
/// is known of longer ones.
const LONGEST_PACKET: usize = 1500;

/// Most datagrams between two pauses.
const LONGEST_BURST: u32 = 20;

#[derive(Debug)]
struct ConnectedDatagrams {
    socket: UdpSocket,
    sent: u32,
    /// Datagrams a second, at most.
    rate: u32,
    max_message_len: usize,
}

impl Carrier for ConnectedDatagrams {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.socket.send(message)?;
        self.sent = self.sent.wrapping_add(1);
        // Nobody says when a collector's buffer is full, and the smallest are of some 100 packets.
        let burst = (self.rate / 500).clamp(1, LONGEST_BURST);
        if self.sent.is_multiple_of(burst) {
            std::thread::sleep(Duration::from_secs(1) * burst / self.rate);
        }
        Ok(())
    }

    fn max_message_len(&self) -> usize {
        self.max_message_len
    }
}

/// A connection to a collector.
#[derive(Debug)]
pub(super) struct Stream {
    address: CollectorAddress,
    tls: Option<TlsClient>,
}

impl Stream {
    pub(super) fn to(address: &CollectorAddress) -> Self {
        Self {
            address: address.clone(),
            tls: None,
        }
    }

    pub(super) fn over_tls(address: &CollectorAddress, tls: TlsClient) -> Self {
        Self {
            address: address.clone(),
            tls: Some(tls),
        }
    }
}

impl Opener for Stream {
    fn open(&mut self) -> io::Result<Box<dyn Carrier>> {
        let stream = first_that(&self.address, |addr| {
            let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(stream)
        })?;
        match &self.tls {
            None => Ok(Box::new(Plain { stream })),
            Some(tls) => Ok(Box::new(tls.connect(&self.address.host, stream)?)),
        }
    }
}

#[derive(Debug)]
struct Plain {
    stream: TcpStream,
}

/// Messages on a stream: not so long that a record waits for its message's transmission.
const LONGEST_ON_STREAM: usize = 8192;

impl Carrier for Plain {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        // Collectors say nothing; but they close, and what is written after that is lost.
        self.stream.set_nonblocking(true)?;
        let heard = hear(&mut self.stream);
        self.stream.set_nonblocking(false)?;
        heard?;
        self.stream.write_all(message)
    }

    fn max_message_len(&self) -> usize {
        LONGEST_ON_STREAM
    }
}

/// Reads what a collector says until there is nothing more for now.
fn hear(stream: &mut TcpStream) -> io::Result<()> {
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return Err(closed()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The other end has closed the connection.
pub(super) fn closed() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the collector closed the connection",
    )
}

impl Carrier for TlsStream {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.hear()?;
        self.write_all(message)
    }

    fn max_message_len(&self) -> usize {
        LONGEST_ON_STREAM
    }

    fn close(&mut self) {
        self.end();
    }
}

/// A file of messages (RFC 5655).
#[derive(Debug)]
pub(super) struct FileCarrier {
    file: File,
    /// Where the last whole message ends.
    end: u64,
}

impl FileCarrier {
    /// Creates the file, or empties it.
    pub(super) fn create(path: &Path) -> anyhow::Result<Self> {
        let file =
            File::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Self { file, end: 0 })
    }
}

impl Opener for FileCarrier {
    fn open(&mut self) -> io::Result<Box<dyn Carrier>> {
        let mut file = self.file.try_clone()?;
        // A pipe has no position, and nothing that could be taken back.
        let end = file.stream_position().unwrap_or(0);
        Ok(Box::new(Self { file, end }))
    }
}

impl Carrier for FileCarrier {
    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(message);
        if written.is_ok() {
            self.end += u64::try_from(message.len()).unwrap_or(0);
        } else {
            // A message that a full disk has cut must not stay in the middle.
            drop(self.file.set_len(self.end));
            drop(self.file.seek(SeekFrom::Start(self.end)));
        }
        written
    }

    fn max_message_len(&self) -> usize {
        LONGEST_ON_STREAM
    }
}
