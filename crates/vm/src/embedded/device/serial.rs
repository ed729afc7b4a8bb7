//! The serial port: output only, bounded.

use std::io::Write;

/// First port of COM1.
const PORT: u16 = 0x3f8;
/// Ports of the device.
const PORTS: u16 = 8;
/// Bytes that a machine may write in its life; what comes then is lost. Half of what a pipe holds,
/// so that there is room for what the monitor says at the end, even if nobody has read anything.
const LIMIT: usize = 32 * 1024;

/// A serial port whose output goes to `W` as it comes. Where `W` takes nothing (a full pipe), the
/// output is lost: the machine never waits for it.
#[derive(Debug)]
pub struct Serial<W> {
    output: W,
    left: usize,
}

impl<W: Write> Serial<W> {
    /// A port that writes to `output`, which must not block.
    pub fn new(output: W) -> Self {
        Self {
            output,
            left: LIMIT,
        }
    }

    /// Whether a port belongs to this device.
    #[must_use]
    pub fn has(port: u16) -> bool {
        (PORT..PORT + PORTS).contains(&port)
    }

    /// What the guest reads.
    #[must_use]
    pub fn read(port: u16) -> u8 {
        // Line status: transmitter empty. Everything else: nothing happens here.
        if port == PORT + 5 { 0x60 } else { 0 }
    }

    /// What the guest writes.
    pub fn write(&mut self, port: u16, data: &[u8]) {
        if port == PORT && self.left > 0 {
            let now = &data[..data.len().min(self.left)];
            self.left -= now.len();
            // Nobody to tell, and nothing to be done about it.
            let _ = self.output.write(now);
        }
    }
}
