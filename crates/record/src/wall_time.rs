//! Wall time as records carry it.

use core::fmt;
use core::str::FromStr;

use alloc::string::{String, ToString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Nanoseconds since 1970-01-01T00:00:00Z, written as RFC 3339 in UTC with nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
pub struct WallTime(pub u64);

const NANOS: u64 = 1_000_000_000;

impl fmt::Display for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.digits();
        f.write_str(core::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl WallTime {
    /// The time as text. Two of them are in every record: written digit by digit, they take a tenth
    /// of what the machinery of formats takes.
    fn digits(self) -> [u8; 30] {
        let (seconds, nanos) = (self.0 / NANOS, self.0 % NANOS);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(days);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        let fields = [
            (0..4, year),
            (5..7, month),
            (8..10, day),
            (11..13, second / 3600),
            (14..16, second / 60 % 60),
            (17..19, second % 60),
            (20..29, nanos),
        ];
        for (place, mut rest) in fields {
            for digit in text[place].iter_mut().rev() {
                *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
                rest /= 10;
            }
        }
        text
    }
}

/// Not a time as [`WallTime`] writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWallTime;

impl fmt::Display for NotWallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an RFC 3339 time in UTC from 1970 on")
    }
}

impl FromStr for WallTime {
    type Err = NotWallTime;

    fn from_str(text: &str) -> Result<Self, NotWallTime> {
        let number = |range: core::ops::Range<usize>| -> Result<u64, NotWallTime> {
            let digits = text.get(range).ok_or(NotWallTime)?;
            if !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(NotWallTime);
            }
            digits.parse().map_err(|_| NotWallTime)
        };
        let fraction = match text.get(19..) {
            Some("Z" | "+00:00") => "",
            Some(rest) => rest
                .strip_prefix('.')
                .and_then(|r| r.strip_suffix('Z').or_else(|| r.strip_suffix("+00:00")))
                .filter(|r| (1..=9).contains(&r.len()) && r.bytes().all(|b| b.is_ascii_digit()))
                .ok_or(NotWallTime)?,
            None => return Err(NotWallTime),
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
            return Err(NotWallTime);
        }
        let seconds = days_from_civil(year, month, day) * 86_400
            + number(11..13)? * 3600
            + number(14..16)? * 60
            + number(17..19)?;
        let nanos = fraction
            .bytes()
            .chain(core::iter::repeat(b'0'))
            .take(9)
            .fold(0, |n, digit| n * 10 + u64::from(digit - b'0'));
        seconds
            .checked_mul(NANOS)
            .and_then(|n| n.checked_add(nanos))
            .map(Self)
            .ok_or(NotWallTime)
    }
}

impl Serialize for WallTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.digits();
        match core::str::from_utf8(&text) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for WallTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse()
            .map_err(|e: NotWallTime| D::Error::custom(e.to_string()))
    }
}

/// Days since 1970-01-01 as year, month, day of the proleptic Gregorian calendar
/// (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + (month <= 2) as u64, month, day)
}

/// The inverse of [`civil_from_days`], for years from 1970 on.
const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = year - (month <= 2) as u64;
    let (era, yoe) = (y / 400, y % 400);
    let mp = if month > 2 { month - 3 } else { month + 9 };
    let doy = (153 * mp + 2) / 5 + day - 1;
    era * 146_097 + (yoe * 365 + yoe / 4 - yoe / 100 + doy) - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_written_as_rfc_3339_and_read_back() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400 * NANOS + 5, "2000-02-29T00:00:00.000000005Z"),
            (1_795_231_111_120_000_000, "2026-11-21T03:18:31.120000000Z"),
            (4_107_542_400 * NANOS, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(WallTime(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(WallTime(nanos)));
        }
        assert_eq!(
            "2000-02-29T00:00:00+00:00".parse(),
            Ok(WallTime(951_782_400 * NANOS))
        );
        for wrong in [
            "",
            "1969-12-31T23:59:59Z",
            "2000-02-29T00:00:00",
            "2000-13-01T00:00:00Z",
            "2000-1é-01T00:00:00Z",
        ] {
            assert_eq!(wrong.parse::<WallTime>(), Err(NotWallTime), "{wrong}");
        }
    }
}
