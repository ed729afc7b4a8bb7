//! What the primitives of an expression ask, in terms of offsets in an Ethernet frame.

use super::condition::{Comparison, Condition, Value};

/// Where headers are, as far as the expression has said: `vlan` and `mpls` move what follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Offset of the type of what follows.
    pub(super) type_at: u32,
    /// Offset of what follows.
    pub(super) payload: u32,
    /// Labels that were passed.
    pub(super) labels: u32,
}

/// Which of two addresses or ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Src,
    Dst,
    SrcOrDst,
    SrcAndDst,
}

pub(super) const IP: u32 = 0x0800;
pub(super) const ARP: u32 = 0x0806;
pub(super) const RARP: u32 = 0x8035;
pub(super) const IP6: u32 = 0x86dd;
const MPLS: u32 = 0x8847;
const MAX_LENGTH_FIELD: u32 = 1500;
const FRAGMENT_HEADER: u32 = 44;

pub(super) const TCP: u32 = 6;
pub(super) const UDP: u32 = 17;
pub(super) const ICMP6: u32 = 58;
pub(super) const SCTP: u32 = 132;

pub(super) const fn at(offset: u32, size: u8) -> Value {
    Value::At { offset, size }
}

/// The bits of a mask are those of an address.
fn masked(value: Value, address: u32, mask: u32) -> Condition {
    if mask == u32::MAX {
        value.equals(address)
    } else {
        value.masked(mask).equals(address & mask)
    }
}

impl Direction {
    /// Asks of one or both, as the direction says.
    pub(super) fn apply(self, src: Condition, dst: Condition) -> Condition {
        match self {
            Self::Src => src,
            Self::Dst => dst,
            Self::SrcOrDst => src.or(dst),
            Self::SrcAndDst => src.and(dst),
        }
    }
}

impl Link {
    pub(super) const fn new() -> Self {
        Self {
            type_at: 12,
            payload: 14,
            labels: 0,
        }
    }

    /// What follows has this type.
    pub(super) fn ethertype(&self, number: u32) -> Condition {
        if self.labels > 0 {
            // Behind labels, only the version of IP tells.
            let bottom = at(self.payload - 2, 1).masked(1).equals(1);
            let version = match number {
                IP => 0x40,
                IP6 => 0x60,
                _ => return bottom.clone().and(bottom.not()),
            };
            return bottom.and(at(self.payload, 1).masked(0xf0).equals(version));
        }
        if number <= MAX_LENGTH_FIELD {
            let has_length =
                at(self.type_at, 2).compares(Comparison::LessOrEqual, MAX_LENGTH_FIELD);
            return has_length.and(at(self.type_at + 2, 1).equals(number));
        }
        at(self.type_at, 2).equals(number)
    }

    /// IPv4 carries this protocol.
    pub(super) fn ip_protocol(&self, number: u32) -> Condition {
        self.ethertype(IP)
            .and(at(self.payload + 9, 1).equals(number))
    }

    /// IPv6 carries this protocol, at once or behind a fragment header.
    pub(super) fn ip6_protocol(&self, number: u32) -> Condition {
        let next = |number| at(self.payload + 6, 1).equals(number);
        let fragment = next(FRAGMENT_HEADER).and(at(self.payload + 40, 1).equals(number));
        self.ethertype(IP6).and(next(number).or(fragment))
    }

    pub(super) fn protocol(&self, number: u32) -> Condition {
        self.ip_protocol(number).or(self.ip6_protocol(number))
    }

    /// It is not a later fragment.
    pub(super) fn has_transport(&self) -> Condition {
        at(self.payload + 6, 2).masked(0x1fff).equals(0)
    }

    /// An address of IPv4 in a packet of one type, with its offsets there.
    pub(super) fn v4(
        &self,
        ethertype: u32,
        address: u32,
        mask: u32,
        direction: Direction,
    ) -> Condition {
        let (src, dst) = if ethertype == IP { (12, 16) } else { (14, 24) };
        if mask == 0 {
            return self.ethertype(ethertype);
        }
        let of = |offset| masked(at(self.payload + offset, 4), address, mask);
        self.ethertype(ethertype)
            .and(direction.apply(of(src), of(dst)))
    }

    /// An address of IPv4, wherever there may be one.
    pub(super) fn any_v4(&self, address: u32, mask: u32, direction: Direction) -> Condition {
        let ip = self.v4(IP, address, mask, direction);
        if self.labels > 0 {
            return ip;
        }
        ip.or(self.v4(ARP, address, mask, direction))
            .or(self.v4(RARP, address, mask, direction))
    }

    pub(super) fn v6(&self, address: u128, mask: u128, direction: Direction) -> Condition {
        if mask == 0 {
            return self.ethertype(IP6);
        }
        let of = |offset: u32| {
            let words = (0..4u32).filter_map(|word| {
                let part = |value: u128| {
                    u32::try_from(value >> (96 - 32 * word) & 0xffff_ffff).unwrap_or(0)
                };
                let value = at(self.payload + offset + 4 * word, 4);
                (part(mask) != 0).then(|| masked(value, part(address), part(mask)))
            });
            Condition::All(words.collect())
        };
        self.ethertype(IP6).and(direction.apply(of(8), of(24)))
    }

    /// Ports of both IP versions that lie within a range, of these protocols.
    pub(super) fn ports(
        &self,
        protocols: &[u32],
        (low, high): (u32, u32),
        direction: Direction,
    ) -> Condition {
        let within = |value: Value| {
            if low == high {
                return value.equals(low);
            }
            value
                .clone()
                .compares(Comparison::GreaterOrEqual, low)
                .and(value.compares(Comparison::LessOrEqual, high))
        };
        let is_one = |offset| {
            let tests = protocols.iter();
            let tests = tests.map(|number| at(self.payload + offset, 1).equals(*number));
            Condition::Any(tests.collect())
        };
        let behind_ip = |offset| Value::BehindIp {
            ip: self.payload,
            offset,
            size: 2,
        };
        let v4 = self
            .ethertype(IP)
            .and(is_one(9))
            .and(self.has_transport())
            .and(direction.apply(within(behind_ip(0)), within(behind_ip(2))));
        let v6 = self.ethertype(IP6).and(is_one(6)).and(direction.apply(
            within(at(self.payload + 40, 2)),
            within(at(self.payload + 42, 2)),
        ));
        v4.or(v6)
    }

    /// An Ethernet address.
    pub(super) fn mac(&self, mac: [u8; 6], direction: Direction) -> Condition {
        let [a, b, c, d, e, f] = mac;
        let of = |offset| {
            at(offset + 2, 4)
                .equals(u32::from_be_bytes([c, d, e, f]))
                .and(at(offset, 2).equals(u32::from_be_bytes([0, 0, a, b])))
        };
        direction.apply(of(6), of(0))
    }

    /// A tag is there, of this network if one is given; what follows is behind it.
    pub(super) fn vlan(&mut self, network: Option<u32>) -> Condition {
        let tag = self
            .ethertype(0x8100)
            .or(self.ethertype(0x88a8))
            .or(self.ethertype(0x9100));
        let condition = match network {
            None => tag,
            Some(network) => tag.and(at(self.payload, 2).masked(0x0fff).equals(network)),
        };
        self.payload += 4;
        self.type_at += 4;
        condition
    }

    /// A label is there, this one if it is given; what follows is behind it.
    pub(super) fn mpls(&mut self, label: Option<u32>) -> Condition {
        let there = if self.labels > 0 {
            // The one before is not the last.
            at(self.payload - 2, 1).masked(1).equals(0)
        } else {
            self.ethertype(MPLS)
        };
        let condition = match label {
            None => there,
            Some(label) => there.and(at(self.payload, 4).masked(0xffff_f000).equals(label << 12)),
        };
        self.payload += 4;
        self.labels += 1;
        condition
    }
}
