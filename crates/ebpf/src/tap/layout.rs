//! What the programs share with their loader; `tap.h` has the same in C.

/// Mark of every packet that a tap has put out ("pltp"): no tap takes it in again.
pub const MARK: u32 = 0x706c_7470;
/// Outputs that a session can have.
pub const MAX_OUTPUTS: usize = 8;
/// Longest header that goes before a clone, in bytes.
pub(crate) const MAX_HEADER: usize = 112;

pub(crate) const TO_RING: u32 = 1;
pub(crate) const WAKE: u32 = 2;
pub(crate) const HEADERS_ONLY: u32 = 4;
pub(crate) const BALANCE: u32 = 8;
pub(crate) const LIMIT_RATE: u32 = 16;
pub(crate) const DEDUPLICATE: u32 = 32;
pub(crate) const NEEDS_FLOW: u32 = 128;
pub(crate) const MASK: u32 = 256;

pub(crate) const INCLUDE: u32 = 1;
pub(crate) const EXCLUDE: u32 = 2;

/// `struct config`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) wall_offset: u64,
    pub(crate) packets_per_s: u64,
    pub(crate) bytes_per_s: u64,
    pub(crate) dedup_ns: u64,
    pub(crate) id: u32,
    pub(crate) flags: u32,
    pub(crate) snaplen: u32,
    pub(crate) sample: u32,
    pub(crate) flow_threshold: u32,
    pub(crate) outputs: u32,
    pub(crate) watermark: u32,
}

/// `struct output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RawOutput {
    pub(crate) ifindex: u32,
    pub(crate) mtu: u32,
    pub(crate) ip_sum: u32,
    pub(crate) len: u16,
    pub(crate) kind: u8,
    pub(crate) ip: u8,
    pub(crate) header: [u8; MAX_HEADER],
}

/// What became of the packets of a session, and why (`struct counters`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came by.
    pub seen: u64,
    /// Their bytes.
    pub seen_bytes: u64,
    /// Packets that the filter chose.
    pub matched: u64,
    /// Copies that were handed on, one for each output.
    pub delivered: u64,
    /// Their bytes, headers of tunnels included.
    pub delivered_bytes: u64,
    /// Packets that sampling left out.
    pub sampled_out: u64,
    /// Packets that the cap left out.
    pub rate_limited: u64,
    /// Packets that were the same as one seen elsewhere.
    pub duplicates: u64,
    /// Packets that were cut.
    pub truncated: u64,
    /// Packets for which there was no room in the ring.
    pub ring_full: u64,
    /// Copies that an output did not take.
    pub output_failed: u64,
    /// Packets that a tap has put out, and that were therefore not taken.
    pub own: u64,
}

/// Words of [`Counters`].
const WORDS: usize = size_of::<Counters>() / 8;

impl Counters {
    /// Adds up what each processor has counted; `bytes` is the value of a per-CPU map.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_ne_bytes(*bytes);
        }
        let [
            seen,
            seen_bytes,
            matched,
            delivered,
            delivered_bytes,
            sampled_out,
            rate_limited,
            duplicates,
            truncated,
            ring_full,
            output_failed,
            own,
        ] = words;
        self.seen += seen;
        self.seen_bytes += seen_bytes;
        self.matched += matched;
        self.delivered += delivered;
        self.delivered_bytes += delivered_bytes;
        self.sampled_out += sampled_out;
        self.rate_limited += rate_limited;
        self.duplicates += duplicates;
        self.truncated += truncated;
        self.ring_full += ring_full;
        self.output_failed += output_failed;
        self.own += own;
    }
}

impl Config {
    /// As the kernel has it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let words = [
            self.wall_offset,
            self.packets_per_s,
            self.bytes_per_s,
            self.dedup_ns,
        ];
        let halves = [
            self.id,
            self.flags,
            self.snaplen,
            self.sample,
            self.flow_threshold,
            self.outputs,
            self.watermark,
            0,
        ];
        let words = words.iter().flat_map(|word| word.to_ne_bytes());
        let halves = halves.iter().flat_map(|half| half.to_ne_bytes());
        words.chain(halves).collect()
    }
}

impl RawOutput {
    /// As the kernel has it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(size_of::<Self>());
        for word in [self.ifindex, self.mtu, self.ip_sum] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(self.len.to_ne_bytes());
        bytes.extend([self.kind, self.ip]);
        bytes.extend(self.header);
        bytes
    }
}
