//! What goes with an Ethernet frame on its way through a stage: which side of the stage it is on,
//! and what segmentation and checksum work is left for later (virtio 1.3 §5.1.6).

use crate::{Malformed, head};

/// A side of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Where standard input comes from: towards the start of the pipeline.
    #[default]
    Left,
    /// Where standard output goes to: towards the end of the pipeline.
    Right,
}

impl Port {
    /// The other side.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }

    /// Its name, which is that of the interface in captures and counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

/// How a frame that is longer than the link's MTU is to be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Segmentation {
    /// TCP over IPv4.
    TcpV4 = 1,
    /// UDP fragmentation offload: one datagram, to be sent as IP fragments. Out of use.
    UdpFragments = 3,
    /// TCP over IPv6.
    TcpV6 = 4,
    /// Several UDP datagrams of one size.
    Udp = 5,
}

/// Segmentation that is left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gso {
    /// How the frame is to be cut.
    pub kind: Segmentation,
    /// Payload bytes of each piece.
    pub size: u16,
    /// Bytes of all headers up to the transport payload; a hint that may be 0.
    pub header_len: u16,
    /// TCP has ECN on: CWR belongs in the first segment only.
    pub ecn: bool,
}

/// A checksum that is left to do: its field holds the sum of the pseudo-header, and the sum of all
/// from `start` on is to be put there, complemented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartialChecksum {
    /// Offset of the transport header in the frame, in bytes.
    pub start: u16,
    /// Offset of the checksum field from there, in bytes.
    pub offset: u16,
}

/// What is left to do before a frame can go onto a real wire. The default is nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Offload {
    /// A checksum that is not complete.
    pub checksum: Option<PartialChecksum>,
    /// A frame that is to be cut.
    pub gso: Option<Gso>,
    /// Whoever received the frame has verified its transport checksum.
    pub checksum_verified: bool,
}

/// Length of `struct virtio_net_hdr` in bytes.
pub const VNET_HEADER_LEN: usize = 10;

const NEEDS_CHECKSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const ECN: u8 = 0x80;

impl Offload {
    /// Nothing is left to do.
    pub const NONE: Self = Self {
        checksum: None,
        gso: None,
        checksum_verified: false,
    };

    /// Says whether the frame could go onto a real wire as it is.
    pub const fn is_complete(&self) -> bool {
        self.checksum.is_none() && self.gso.is_none()
    }

    /// Reads a little-endian `struct virtio_net_hdr`. Whether its offsets lie within the frame is
    /// for whoever follows them to check.
    ///
    /// # Errors
    /// If there are fewer than [`VNET_HEADER_LEN`] bytes, or the segmentation is of an unknown
    /// kind or has the size 0.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "virtio-net header";
        let h = head(WHAT, bytes, VNET_HEADER_LEN)?;
        let le16 = |at: usize| u16::from_le_bytes([h[at], h[at + 1]]);
        let kind = match h[1] & !ECN {
            0 => None,
            1 => Some(Segmentation::TcpV4),
            3 => Some(Segmentation::UdpFragments),
            4 => Some(Segmentation::TcpV6),
            5 => Some(Segmentation::Udp),
            _ => return Err(invalid(WHAT, bytes)),
        };
        let gso = kind.map(|kind| Gso {
            kind,
            size: le16(4),
            header_len: le16(2),
            ecn: h[1] & ECN != 0,
        });
        if gso.is_some_and(|gso| gso.size == 0) {
            return Err(invalid(WHAT, bytes));
        }
        Ok(Self {
            checksum: (h[0] & NEEDS_CHECKSUM != 0).then(|| PartialChecksum {
                start: le16(6),
                offset: le16(8),
            }),
            gso,
            checksum_verified: h[0] & DATA_VALID != 0,
        })
    }

    /// Writes a little-endian `struct virtio_net_hdr` into the first [`VNET_HEADER_LEN`] bytes.
    ///
    /// # Panics
    /// If `into` is shorter.
    pub fn emit(&self, into: &mut [u8]) {
        let h = &mut into[..VNET_HEADER_LEN];
        h.fill(0);
        if let Some(checksum) = self.checksum {
            h[0] |= NEEDS_CHECKSUM;
            h[6..8].copy_from_slice(&checksum.start.to_le_bytes());
            h[8..10].copy_from_slice(&checksum.offset.to_le_bytes());
        }
        if self.checksum_verified {
            h[0] |= DATA_VALID;
        }
        if let Some(gso) = self.gso {
            h[1] = gso.kind as u8 | if gso.ecn { ECN } else { 0 };
            h[2..4].copy_from_slice(&gso.header_len.to_le_bytes());
            h[4..6].copy_from_slice(&gso.size.to_le_bytes());
        }
    }
}

const fn invalid(what: &'static str, bytes: &[u8]) -> Malformed {
    Malformed {
        what,
        need: 0,
        have: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_header_of_a_tcp_superframe_is_laid_out_as_linux_has_it() {
        let offload = Offload {
            checksum: Some(PartialChecksum {
                start: 34,
                offset: 16,
            }),
            gso: Some(Gso {
                kind: Segmentation::TcpV4,
                size: 1448,
                header_len: 66,
                ecn: false,
            }),
            checksum_verified: false,
        };
        let mut bytes = [0xff; VNET_HEADER_LEN];
        offload.emit(&mut bytes);
        assert_eq!(bytes, [1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
        assert_eq!(Offload::parse(&bytes), Ok(offload));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(bytes in proptest::array::uniform10(any::<u8>())) {
            if let Ok(offload) = Offload::parse(&bytes) {
                let mut written = [0; VNET_HEADER_LEN];
                offload.emit(&mut written);
                prop_assert_eq!(Offload::parse(&written), Ok(offload));
            }
        }
    }
}
