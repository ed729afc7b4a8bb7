//! The longest piece that a large frame may be cut into on its way out of an interface.

use core::time::Duration;
use std::os::fd::BorrowedFd;

use plumb_wire::frame::{Gso, Offload, Segmentation};
use plumb_wire::{Instant, ethernet};

use crate::sys;

/// How long an MTU is believed: it may change at any time.
const KEPT: Duration = Duration::from_secs(1);
/// Bytes of a VLAN tag (IEEE 802.1Q).
const TAG_LEN: usize = 4;

/// What a packet socket does not look after: the kernel holds frames that are whole against the MTU,
/// and large ones that it is to cut against nothing (`packet_snd`). Their pieces would be lost
/// further on without a word.
#[derive(Debug)]
pub(super) struct PieceLimit {
    mtu: usize,
    asked_at: Option<Instant>,
}

impl PieceLimit {
    pub(super) const fn new() -> Self {
        Self {
            mtu: usize::MAX,
            asked_at: None,
        }
    }

    /// Asks for the MTU of the interface of a packet socket, if what is known is old.
    pub(super) fn follow(&mut self, (fd, name): (BorrowedFd<'_>, &str), now: Instant) {
        if self.asked_at.is_none_or(|at| now.since(at) >= KEPT) {
            self.asked_at = Some(now);
            // Under another name, it is taken to be what it was.
            self.mtu = sys::interface_mtu(fd, name).unwrap_or(self.mtu);
        }
    }

    /// Whether the pieces of a frame of `len` bytes that is to be cut fit the interface. Its headers are in
    /// `head`.
    pub(super) fn allows(&self, head: &[u8], len: usize, offload: &Offload, gso: Gso) -> bool {
        let tagged = matches!(head.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
        let link_len = ethernet::HEADER_LEN + if tagged { TAG_LEN } else { 0 };
        // Without a checksum to be made there is no telling, and the kernel refuses it.
        piece_len(head, len, offload, gso)
            .is_none_or(|len| len <= self.mtu.saturating_add(link_len))
    }
}

/// Bytes of the longest piece of a frame, with all headers.
fn piece_len(head: &[u8], len: usize, offload: &Offload, gso: Gso) -> Option<usize> {
    let start = usize::from(offload.checksum?.start);
    let transport_len = match gso.kind {
        Segmentation::TcpV4 | Segmentation::TcpV6 => usize::from(head.get(start + 12)? >> 4) * 4,
        Segmentation::Udp => 8,
        // Cut into fragments, whatever the MTU is.
        Segmentation::UdpFragments => return None,
    };
    let headers = start + transport_len;
    let payload = len.checked_sub(headers)?;
    Some(headers + payload.min(usize::from(gso.size)))
}

#[cfg(test)]
mod tests {
    use plumb_wire::frame::PartialChecksum;

    use super::*;

    #[test]
    fn a_piece_has_all_headers_and_as_much_payload_as_there_is() {
        let offload = |kind, size| {
            let gso = Gso {
                kind,
                size,
                header_len: 0,
                ecn: false,
            };
            let checksum = Some(PartialChecksum {
                start: 34,
                offset: 16,
            });
            let offload = Offload {
                checksum,
                gso: Some(gso),
                ..Offload::NONE
            };
            (offload, gso)
        };
        let mut frame = vec![0; 34 + 32 + 3000];
        frame[34 + 12] = 8 << 4;
        let len = |frame: &[u8], kind, size| {
            let (offload, gso) = offload(kind, size);
            piece_len(frame, frame.len(), &offload, gso)
        };
        assert_eq!(len(&frame, Segmentation::TcpV4, 1000), Some(34 + 32 + 1000));
        assert_eq!(len(&frame, Segmentation::TcpV4, 9000), Some(frame.len()));
        assert_eq!(len(&frame, Segmentation::Udp, 1000), Some(34 + 8 + 1000));
        assert_eq!(len(&frame[..40], Segmentation::TcpV4, 1000), None);
    }
}
