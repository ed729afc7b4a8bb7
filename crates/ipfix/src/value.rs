//! Values of elements as they are on the wire (RFC 7011 §6).

use alloc::vec::Vec;
use core::net::{Ipv4Addr, Ipv6Addr};

use crate::DataType;

/// The value of an element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A number without sign.
    Unsigned(u64),
    /// A number with sign.
    Signed(i64),
    /// A number with a point.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A MAC address.
    Mac([u8; 6]),
    /// Text.
    Text(&'a str),
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    Time(u64),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Addr),
    /// Octets: of an element that is not known, a list, or a value that is not of its type.
    Octets(&'a [u8]),
}

/// Seconds from NTP's epoch, 1900, to 1970.
const NTP_OFFSET: u64 = 2_208_988_800;
const NANOS: u64 = 1_000_000_000;

impl Value<'_> {
    /// Whether the value can be sent as this type in `len` bytes without being changed.
    pub fn fits(&self, kind: DataType, len: u16) -> bool {
        if kind.wire_len().is_some_and(|full| full != len) && !kind.may_be_reduced(len) {
            return false;
        }
        match *self {
            Self::Unsigned(n) => {
                use DataType::{Unsigned8, Unsigned16, Unsigned32, Unsigned64};
                matches!(kind, Unsigned8 | Unsigned16 | Unsigned32 | Unsigned64)
                    && (len >= 8 || n >> (8 * u32::from(len)) == 0)
            }
            Self::Signed(n) => {
                use DataType::{Signed8, Signed16, Signed32, Signed64};
                matches!(kind, Signed8 | Signed16 | Signed32 | Signed64)
                    && (len >= 8
                        || (n << (64 - 8 * u32::from(len))) >> (64 - 8 * u32::from(len)) == n)
            }
            Self::Float(_) => matches!(kind, DataType::Float32 | DataType::Float64),
            Self::Boolean(_) => kind == DataType::Boolean,
            Self::Mac(_) => kind == DataType::MacAddress,
            Self::Text(_) => kind == DataType::String,
            Self::Time(_) => matches!(
                kind,
                DataType::DateTimeSeconds
                    | DataType::DateTimeMilliseconds
                    | DataType::DateTimeMicroseconds
                    | DataType::DateTimeNanoseconds
            ),
            Self::V4(_) => kind == DataType::Ipv4Address,
            Self::V6(_) => kind == DataType::Ipv6Address,
            Self::Octets(_) => kind.wire_len().is_none() && kind != DataType::String,
        }
    }

    /// The number, if it is one without sign.
    pub const fn number(&self) -> Option<u64> {
        if let Self::Unsigned(n) = *self {
            Some(n)
        } else {
            None
        }
    }

    /// Whether it is true, if it is true or false.
    pub const fn truth(&self) -> Option<bool> {
        if let Self::Boolean(yes) = *self {
            Some(yes)
        } else {
            None
        }
    }

    /// Appends the value in `len` bytes, or with its length before it where `len` is
    /// [`VARIABLE`](crate::VARIABLE). A value that does not [fit](Self::fits) is cut.
    pub fn emit(&self, kind: DataType, len: u16, into: &mut Vec<u8>) {
        let low = |n: u64, into: &mut Vec<u8>| {
            let from = 8_usize.saturating_sub(usize::from(len));
            into.extend_from_slice(&n.to_be_bytes()[from..]);
        };
        match *self {
            Self::Unsigned(n) => low(n, into),
            Self::Signed(n) => low(n.cast_unsigned(), into),
            #[expect(
                clippy::cast_possible_truncation,
                reason = "fewer digits are what 4 bytes are chosen for"
            )]
            Self::Float(n) if len == 4 => into.extend_from_slice(&(n as f32).to_be_bytes()),
            Self::Float(n) => into.extend_from_slice(&n.to_be_bytes()),
            Self::Boolean(yes) => into.push(if yes { 1 } else { 2 }),
            Self::Mac(mac) => into.extend_from_slice(&mac),
            Self::Time(nanos) => low(time_on_wire(nanos, kind), into),
            Self::V4(addr) => into.extend_from_slice(&addr.octets()),
            Self::V6(addr) => into.extend_from_slice(&addr.octets()),
            Self::Text(text) => emit_octets(text.as_bytes(), len, into),
            Self::Octets(octets) => emit_octets(octets, len, into),
        }
    }

    /// Appends the value in `len` bytes, which its type allows, if it [fits](Self::fits); else what
    /// is appended is of no use.
    pub(crate) fn emit_fitting(&self, kind: DataType, len: u16, into: &mut Vec<u8>) -> bool {
        // Most of what is sent are numbers; with their lengths known they are written in no time.
        let Self::Unsigned(n) = *self else {
            self.emit(kind, len, into);
            return self.fits(kind, len);
        };
        let [.., a, b, c, d] = n.to_be_bytes();
        match len {
            1 => into.push(d),
            2 => into.extend_from_slice(&[c, d]),
            4 => into.extend_from_slice(&[a, b, c, d]),
            8 => into.extend_from_slice(&n.to_be_bytes()),
            _ => self.emit(kind, len, into),
        }
        let fits = n >> (8 * u32::from(len.min(7))) == 0 || len >= 8;
        debug_assert_eq!(fits, self.fits(kind, len), "{kind:?} in {len} bytes");
        fits
    }
}

impl<'a> Value<'a> {
    /// The text, if it is some.
    pub const fn text(&self) -> Option<&'a str> {
        if let Self::Text(text) = *self {
            Some(text)
        } else {
            None
        }
    }

    /// Reads a value of this type; octets where they cannot be one.
    pub fn parse(kind: DataType, bytes: &'a [u8]) -> Self {
        Self::typed(kind, bytes).unwrap_or(Self::Octets(bytes))
    }

    fn typed(kind: DataType, bytes: &'a [u8]) -> Option<Self> {
        let len = u16::try_from(bytes.len()).ok()?;
        if kind.wire_len().is_some_and(|full| full != len) && !kind.may_be_reduced(len) {
            return None;
        }
        let number = || {
            bytes
                .iter()
                .fold(0_u64, |n, &byte| n << 8 | u64::from(byte))
        };
        Some(match kind {
            DataType::OctetArray
            | DataType::BasicList
            | DataType::SubTemplateList
            | DataType::SubTemplateMultiList => Self::Octets(bytes),
            DataType::Unsigned8
            | DataType::Unsigned16
            | DataType::Unsigned32
            | DataType::Unsigned64 => Self::Unsigned(number()),
            DataType::Signed8 | DataType::Signed16 | DataType::Signed32 | DataType::Signed64 => {
                let unused = 64 - 8 * u32::from(len);
                Self::Signed((number() << unused).cast_signed() >> unused)
            }
            DataType::Float32 | DataType::Float64 => match len {
                4 => Self::Float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
                _ => Self::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
            },
            DataType::Boolean => match bytes {
                [1] => Self::Boolean(true),
                [2] => Self::Boolean(false),
                _ => return None,
            },
            DataType::MacAddress => Self::Mac(bytes.try_into().ok()?),
            DataType::String => Self::Text(core::str::from_utf8(bytes).ok()?),
            DataType::DateTimeSeconds
            | DataType::DateTimeMilliseconds
            | DataType::DateTimeMicroseconds
            | DataType::DateTimeNanoseconds => Self::Time(time_from_wire(number(), kind)?),
            DataType::Ipv4Address => Self::V4(<[u8; 4]>::try_from(bytes).ok()?.into()),
            DataType::Ipv6Address => Self::V6(<[u8; 16]>::try_from(bytes).ok()?.into()),
        })
    }
}

/// The longest value of variable length.
pub(crate) const MAX_OCTETS: usize = 65_535;

fn emit_octets(octets: &[u8], len: u16, into: &mut Vec<u8>) {
    if len != crate::VARIABLE {
        let len = usize::from(len);
        let there = octets.len().min(len);
        into.extend_from_slice(&octets[..there]);
        into.resize(into.len() + len - there, 0);
        return;
    }
    let octets = &octets[..octets.len().min(MAX_OCTETS)];
    match u8::try_from(octets.len()) {
        Ok(short) if short < 255 => into.push(short),
        _ => {
            let long = u16::try_from(octets.len()).unwrap_or(u16::MAX);
            into.push(255);
            into.extend_from_slice(&long.to_be_bytes());
        }
    }
    into.extend_from_slice(octets);
}

/// A time as it is sent: RFC 7011 §6.1.7 to §6.1.10. Seconds of NTP wrap in 2036.
fn time_on_wire(nanos: u64, kind: DataType) -> u64 {
    let (seconds, rest) = (nanos / NANOS, nanos % NANOS);
    let ntp = |fraction: u64| ((seconds + NTP_OFFSET) & 0xffff_ffff) << 32 | fraction;
    // Rounded up, so that cutting it leads back to the same nanosecond.
    let fraction = (rest << 32).div_ceil(NANOS);
    if kind == DataType::DateTimeSeconds {
        seconds
    } else if kind == DataType::DateTimeMilliseconds {
        nanos / 1_000_000
    } else if kind == DataType::DateTimeMicroseconds {
        // The lowest eleven bits are zero (§6.1.9).
        ntp(fraction & !0x7ff)
    } else {
        ntp(fraction)
    }
}

/// Nanoseconds since 1970 of what was sent; `None` before 1970 and beyond 2554. NTP's seconds are
/// taken for the ones between 1968 and 2104 (RFC 4330 §3).
fn time_from_wire(number: u64, kind: DataType) -> Option<u64> {
    if kind == DataType::DateTimeSeconds {
        return number.checked_mul(NANOS);
    }
    if kind == DataType::DateTimeMilliseconds {
        return number.checked_mul(1_000_000);
    }
    let (mut seconds, fraction) = (number >> 32, number & 0xffff_ffff);
    if seconds < 0x8000_0000 {
        seconds += 1 << 32;
    }
    let seconds = seconds.checked_sub(NTP_OFFSET)?;
    Some(seconds * NANOS + ((fraction * NANOS) >> 32))
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::VARIABLE;

    fn emitted(value: Value<'_>, kind: DataType, len: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        value.emit(kind, len, &mut bytes);
        bytes
    }

    #[test]
    fn values_are_written_as_rfc_7011_shows_them() {
        let number = Value::Unsigned(5);
        assert_eq!(
            emitted(number, DataType::Unsigned64, 8),
            [0, 0, 0, 0, 0, 0, 0, 5]
        );
        assert_eq!(emitted(number, DataType::Unsigned64, 2), [0, 5]);
        assert_eq!(
            emitted(Value::Signed(-2), DataType::Signed32, 2),
            [0xff, 0xfe]
        );
        assert_eq!(emitted(Value::Boolean(false), DataType::Boolean, 1), [2]);
        assert_eq!(
            emitted(Value::Text("ab"), DataType::String, VARIABLE),
            [2, b'a', b'b']
        );
        assert_eq!(
            emitted(Value::Text("ab"), DataType::String, 4),
            [b'a', b'b', 0, 0]
        );
        let long = vec![7; 255];
        let bytes = emitted(Value::Octets(&long), DataType::OctetArray, VARIABLE);
        assert_eq!(bytes[..4], [255, 0, 255, 7]);
    }

    #[test]
    fn times_are_ntp_timestamps_and_wrap_in_2036() {
        // 2000-01-01T00:00:00.5Z is 3155673600.5 in NTP's seconds.
        let half = 946_684_800 * NANOS + NANOS / 2;
        let kind = DataType::DateTimeNanoseconds;
        assert_eq!(time_on_wire(half, kind), 3_155_673_600 << 32 | 0x8000_0000);
        // 2036-02-07T06:28:16Z is where they wrap.
        let wrap = 2_085_978_496 * NANOS;
        assert_eq!(time_on_wire(wrap, kind), 0);
        assert_eq!(time_from_wire(0, kind), Some(wrap));
        assert_eq!(time_from_wire((NTP_OFFSET - 1) << 32, kind), None);
        assert_eq!(time_on_wire(1, DataType::DateTimeMicroseconds) & 0x7ff, 0);
    }

    #[test]
    fn what_is_not_of_its_type_is_octets() {
        for (kind, bytes) in [
            (DataType::Boolean, &[3][..]),
            (DataType::Boolean, &[]),
            (DataType::Ipv4Address, &[1, 2, 3]),
            (DataType::Unsigned32, &[0; 5]),
            (DataType::Unsigned32, &[]),
            (DataType::String, &[0xff]),
            (DataType::Float64, &[0; 5]),
            (DataType::DateTimeNanoseconds, &[0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(Value::parse(kind, bytes), Value::Octets(bytes), "{kind:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_from_any_length_that_they_fit(n: u64, signed: i64, len in 1_u16..=8) {
            let value = Value::Unsigned(n >> (64 - 8 * u32::from(len)));
            prop_assert!(value.fits(DataType::Unsigned64, len));
            let bytes = emitted(value, DataType::Unsigned64, len);
            prop_assert_eq!(Value::parse(DataType::Unsigned64, &bytes), value);
            let mut again = Vec::new();
            prop_assert!(value.emit_fitting(DataType::Unsigned64, len, &mut again));
            prop_assert_eq!(again, bytes);
            let too_long = Value::Unsigned(u64::MAX).emit_fitting(DataType::Unsigned64, len, &mut Vec::new());
            prop_assert_eq!(too_long, len == 8);
            let value = Value::Signed(signed >> (64 - 8 * u32::from(len)));
            prop_assert!(value.fits(DataType::Signed64, len));
            let bytes = emitted(value, DataType::Signed64, len);
            prop_assert_eq!(Value::parse(DataType::Signed64, &bytes), value);
        }

        #[test]
        fn nanoseconds_come_back_exactly(nanos in 0..4_233_600_000 * NANOS) {
            let bytes = emitted(Value::Time(nanos), DataType::DateTimeNanoseconds, 8);
            prop_assert_eq!(Value::parse(DataType::DateTimeNanoseconds, &bytes), Value::Time(nanos));
        }

        #[test]
        fn no_bytes_panic(kind in 0_u8..23, bytes: Vec<u8>) {
            let kind = DataType::from_number(kind).unwrap();
            let _ = Value::parse(kind, &bytes);
        }
    }
}
