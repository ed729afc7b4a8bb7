//! Numbers and addresses as bytes: little-endian, options behind a byte that is 0 or 1.

use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;

use plumb_wire::Instant;

use crate::Fault;

/// Writes behind what is there.
#[derive(Debug)]
pub(crate) struct Writer<'a>(pub(crate) &'a mut Vec<u8>);

impl Writer<'_> {
    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.u8(value.into());
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn duration(&mut self, value: Duration) {
        self.u64(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(crate) fn instant(&mut self, value: Instant) {
        self.u64(value.as_nanos());
    }

    pub(crate) fn address(&mut self, value: IpAddr) {
        match value {
            IpAddr::V4(v4) => {
                self.u8(4);
                self.bytes(&v4.octets());
            }
            IpAddr::V6(v6) => {
                self.u8(6);
                self.bytes(&v6.octets());
            }
        }
    }

    pub(crate) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }
}

/// Reads the payload of a frame from its beginning. Every method names the field that it reads, for
/// the sake of the [`Fault`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    frame: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(rest: &'a [u8], frame: &'static str) -> Self {
        Self { rest, frame }
    }

    pub(crate) const fn fault(&self, field: &'static str) -> Fault {
        Fault::Malformed {
            frame: self.frame,
            field,
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let Some((bytes, rest)) = self.rest.split_first_chunk() else {
            return Err(self.fault(field));
        };
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        self.array(field).map(u8::from_le_bytes)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, Fault> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.fault(field)),
        }
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Fault> {
        self.array(field).map(u16::from_le_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, Fault> {
        self.array(field).map(i16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Fault> {
        self.array(field).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, Fault> {
        self.array(field).map(u64::from_le_bytes)
    }

    pub(crate) fn size(&mut self, field: &'static str) -> Result<usize, Fault> {
        let value = self.u32(field)?;
        usize::try_from(value).map_err(|_| self.fault(field))
    }

    pub(crate) fn duration(&mut self, field: &'static str) -> Result<Duration, Fault> {
        self.u64(field).map(Duration::from_nanos)
    }

    pub(crate) fn instant(&mut self, field: &'static str) -> Result<Instant, Fault> {
        self.u64(field).map(Instant::from_nanos)
    }

    pub(crate) fn mac(&mut self, field: &'static str) -> Result<[u8; 6], Fault> {
        self.array(field)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<IpAddr, Fault> {
        match self.u8(field)? {
            4 => self.array::<4>(field).map(IpAddr::from),
            6 => self.array::<16>(field).map(IpAddr::from),
            _ => Err(self.fault(field)),
        }
    }

    pub(crate) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self, &'static str) -> Result<T, Fault>,
    ) -> Result<Option<T>, Fault> {
        match self.bool(field)? {
            true => read(self, field).map(Some),
            false => Ok(None),
        }
    }

    /// All that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Makes sure that nothing is left.
    pub(crate) const fn end(self) -> Result<(), Fault> {
        match self.rest {
            [] => Ok(()),
            [..] => Err(self.fault("end")),
        }
    }
}

/// A count as the wire has it.
pub(crate) fn count(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
