//! The header of every packet (virtio 1.2 §5.10.6).

/// Length of the header.
pub(super) const LEN: usize = 44;
/// The only type that is spoken: a reliable, ordered stream.
const STREAM: u16 = 1;

/// What a packet is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Asks for a connection.
    Request,
    /// Accepts one.
    Response,
    /// Refuses or ends one.
    Reset,
    /// Says that no more is sent or wanted.
    Shutdown,
    /// Carries bytes.
    Data,
    /// Says how many bytes there is room for.
    CreditUpdate,
    /// Asks for that.
    CreditRequest,
}

impl Operation {
    pub(super) const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }

    const fn number(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }
}

/// One end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// Machine: 2 is the host.
    pub(super) cid: u64,
    pub(super) port: u32,
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src: End,
    pub(super) dst: End,
    /// Bytes that follow the header.
    pub(super) len: u32,
    pub(super) operation: Operation,
    pub(super) flags: u32,
    /// Bytes that the sender has room for in all.
    pub(super) buffer: u32,
    /// Bytes that its reader has taken so far, modulo 2³².
    pub(super) forwarded: u32,
}

impl Header {
    /// Reads a header; `None` if it is cut off, or of another type or operation.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (h, rest) = bytes.split_first_chunk::<LEN>()?;
        let u32_at = |at: usize| u32::from_le_bytes([h[at], h[at + 1], h[at + 2], h[at + 3]]);
        let u16_at = |at: usize| u16::from_le_bytes([h[at], h[at + 1]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if u16_at(28) != STREAM {
            return None;
        }
        let header = Self {
            src: End {
                cid: u64_at(0),
                port: u32_at(16),
            },
            dst: End {
                cid: u64_at(8),
                port: u32_at(20),
            },
            len: u32_at(24),
            operation: Operation::from_number(u16_at(30))?,
            flags: u32_at(32),
            buffer: u32_at(36),
            forwarded: u32_at(40),
        };
        Some((header, rest))
    }

    /// Writes the header into the first [`LEN`] bytes.
    pub(super) fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..LEN];
        h[..8].copy_from_slice(&self.src.cid.to_le_bytes());
        h[8..16].copy_from_slice(&self.dst.cid.to_le_bytes());
        h[16..20].copy_from_slice(&self.src.port.to_le_bytes());
        h[20..24].copy_from_slice(&self.dst.port.to_le_bytes());
        h[24..28].copy_from_slice(&self.len.to_le_bytes());
        h[28..30].copy_from_slice(&STREAM.to_le_bytes());
        h[30..32].copy_from_slice(&self.operation.number().to_le_bytes());
        h[32..36].copy_from_slice(&self.flags.to_le_bytes());
        h[36..40].copy_from_slice(&self.buffer.to_le_bytes());
        h[40..44].copy_from_slice(&self.forwarded.to_le_bytes());
    }
}
