//! Where profiles leave the process.

use core::sync::atomic::{AtomicU64, Ordering};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use plumb_record::FlowProfile;

/// Sends profiles to a Unix datagram socket, one JSON object a datagram.
///
/// It never waits for the reader: a profile that cannot be sent now is lost and counted. The reader
/// may come, go and come back.
#[derive(Debug)]
pub struct Emitter {
    socket: UnixDatagram,
    path: PathBuf,
    lost: AtomicU64,
    connections: AtomicU64,
}

impl Emitter {
    /// An emitter to the socket at `path`, which need not be there yet.
    ///
    /// # Errors
    ///
    /// The system's, if it has no socket to spare.
    pub fn new(path: impl AsRef<Path>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path: path.as_ref().to_owned(),
            lost: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        })
    }

    /// Sends a profile, or counts it as lost.
    pub fn emit(&self, profile: &FlowProfile) {
        let sent = serde_json::to_vec(profile)
            .map_err(io::Error::from)
            .and_then(|text| self.socket.send_to(&text, &self.path));
        if sent.is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Profiles that nobody took.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// An identifier for the next connection: the process in the upper half, then a number.
    pub fn next_flow_id(&self) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::Relaxed);
        (u64::from(std::process::id()) << 32) | (number & 0xffff_ffff)
    }
}
