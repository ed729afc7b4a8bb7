//! Values of the fields of a packet.

use plumb_wire::frame::Port;

use super::compile::PORTS;
use super::evaluate::Packet;
use super::rules::Operand;
use super::syntax::ast::{Hook, Step};
use super::syntax::field::{Base, Ct, Field, Meta, Needs};

/// The value of a field; none if the packet does not have it.
pub(super) fn load(packet: &Packet<'_>, operand: &Operand) -> Option<u128> {
    let mut value = field(packet, &operand.field)?;
    for (step, with) in &operand.steps {
        value = match step {
            Step::And => value & with,
            Step::Or => value | with,
            Step::Xor => value ^ with,
            Step::Left => shifted(value, *with, true, operand.field.kind().bits),
            Step::Right => shifted(value, *with, false, operand.field.kind().bits),
        };
    }
    Some(value)
}

fn shifted(value: u128, by: u128, left: bool, bits: u8) -> u128 {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    let shifted = if left {
        value.checked_shl(by)
    } else {
        value.checked_shr(by)
    };
    let mask = u128::MAX >> (128 - u32::from(bits.clamp(1, 128)));
    shifted.unwrap_or(0) & mask
}

fn field(packet: &Packet<'_>, field: &Field) -> Option<u128> {
    match field {
        Field::Payload {
            base,
            needs,
            at,
            bits,
            ..
        } => payload(packet, *base, *needs, *at, *bits),
        Field::VlanTag { shift, bits, .. } => {
            let tag = packet.dissected.vlan[0]?;
            Some(u128::from(tag >> shift) & (u128::MAX >> (128 - u32::from(*bits))))
        }
        Field::Meta(meta) => self::meta(packet, *meta).map(u128::from),
        Field::Ct(ct) => self::ct(packet, *ct).map(u128::from),
    }
}

/// Where a header begins; none if the packet is not what the field needs, or has no such header.
#[inline]
fn start(packet: &Packet<'_>, base: Base, needs: Needs) -> Option<usize> {
    let dissected = packet.dissected;
    let is_there = match needs {
        Needs::Nothing => true,
        Needs::EtherType(ethertype) => dissected.ethertype == ethertype,
        Needs::Protocol(number) => dissected.ip.as_ref().is_some_and(|ip| {
            let family_fits = match number {
                1 => ip.src.is_ipv4(),
                58 => ip.src.is_ipv6(),
                _ => true,
            };
            ip.protocol == number && family_fits
        }),
        Needs::Transport => dissected.ip.is_some(),
    };
    if !is_there {
        return None;
    }
    match base {
        Base::Link => Some(0),
        Base::Network => Some(dissected.network),
        // What a damaged transport header holds can be matched all the same.
        Base::Transport => match &dissected.ip {
            Some(ip) if !ip.is_later() => Some(ip.payload),
            _ => None,
        },
    }
}

/// The bytes that a field of a header may be in: not those behind the packet.
#[inline]
fn within<'a>(packet: &Packet<'a>, base: Base) -> Option<&'a [u8]> {
    let bytes = &packet.frame.bytes[..];
    match (&packet.dissected.ip, base) {
        (Some(ip), Base::Network | Base::Transport) => bytes.get(..ip.end),
        _ => Some(bytes),
    }
}

/// The value of `len` bytes, 1, 2 or 4, behind `at` others of a header.
#[inline]
pub(super) fn bytes(
    packet: &Packet<'_>,
    base: Base,
    needs: Needs,
    at: u16,
    len: u8,
) -> Option<u32> {
    let first = start(packet, base, needs)? + usize::from(at);
    let bytes = within(packet, base)?.get(first..)?;
    Some(match len {
        1 => (*bytes.first()?).into(),
        2 => u16::from_be_bytes(*bytes.first_chunk()?).into(),
        _ => u32::from_be_bytes(*bytes.first_chunk()?),
    })
}

fn payload(packet: &Packet<'_>, base: Base, needs: Needs, at: u16, bits: u8) -> Option<u128> {
    // What most rules look at.
    if at.is_multiple_of(8) && matches!(bits, 8 | 16 | 32) {
        return bytes(packet, base, needs, at / 8, bits / 8).map(u128::from);
    }
    let start = start(packet, base, needs)?;
    let (at, bits) = (usize::from(at), u32::from(bits));
    let first = start + at / 8;
    let skipped = u32::try_from(at % 8).unwrap_or(0);
    let len = usize::try_from((skipped + bits).div_ceil(8)).unwrap_or(0);
    let bytes = within(packet, base)?.get(first..first + len)?;
    let value = bytes
        .iter()
        .fold(0_u128, |value, byte| value << 8 | u128::from(*byte));
    let behind = u32::try_from(len * 8).unwrap_or(0) - skipped - bits;
    Some(value >> behind & (u128::MAX >> (128 - bits)))
}

/// What is known of a packet beside its headers.
pub(super) fn meta(packet: &Packet<'_>, meta: Meta) -> Option<u32> {
    let ip = packet.dissected.ip.as_ref();
    let number = |port| match port {
        Port::Left => PORTS[0],
        Port::Right => PORTS[1],
    };
    Some(match meta {
        Meta::IifName => number(packet.from),
        // Where it goes is not known yet, and has no name.
        Meta::OifName if packet.hook == Hook::Prerouting => 0,
        Meta::OifName => number(packet.from.opposite()),
        Meta::L4Proto => ip?.protocol.into(),
        Meta::NfProto => {
            if ip?.src.is_ipv4() {
                2
            } else {
                10
            }
        }
        Meta::Protocol => packet.dissected.ethertype.into(),
        Meta::Length => packet.len,
        Meta::Mark => packet.mark,
        Meta::PktType => match packet.dissected.dst_mac {
            plumb_wire::ethernet::BROADCAST => 1,
            mac if plumb_wire::ethernet::is_multicast(mac) => 2,
            _ => 0,
        },
    })
}

/// What connection tracking says of a packet.
pub(super) fn ct(packet: &Packet<'_>, ct: Ct) -> Option<u32> {
    let tracked = &packet.tracked;
    Some(match ct {
        Ct::State => tracked.state.bit(),
        // Without a connection there is nothing to be known of it.
        _ if !tracked.state.has_connection() => return None,
        Ct::Status => tracked.status.bits(),
        Ct::Direction => match tracked.direction {
            crate::conntrack::Direction::Original => 0,
            crate::conntrack::Direction::Reply => 1,
        },
        Ct::Mark => tracked.mark,
        Ct::Zone => tracked.zone.into(),
    })
}
