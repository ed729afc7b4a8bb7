//! Values that are written with a unit.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

use plumb_nf::Probability;
use plumb_nf::impair::Loss;
use serde::{Deserialize, Serialize};

/// A duration as it is written on the command line: `1s`, `300ms`, `1.5`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seconds(pub Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected a duration such as 1s, 300ms, 1.5 (seconds) or 2m";
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "us" => 1e-6,
            "ms" => 1e-3,
            "" | "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(EXAMPLE.into()),
        };
        let number: f64 = number.parse().map_err(|_| EXAMPLE)?;
        Duration::try_from_secs_f64(number * factor)
            .map(Self)
            .map_err(|_| EXAMPLE.into())
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A cap on packets per second: `1000`, `10k`, `1.5M` or `unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate(pub Option<u32>);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str =
            "expected packets per second such as 1000, 10k or 1.5M (at least 1), or unlimited";
        if text.eq_ignore_ascii_case("unlimited") {
            return Ok(Self(None));
        }
        let (number, factor) = if let Some(number) = text.strip_suffix(['k', 'K']) {
            (number, 1e3)
        } else if let Some(number) = text.strip_suffix(['m', 'M']) {
            (number, 1e6)
        } else {
            (text, 1.0)
        };
        if !number.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(EXAMPLE.into());
        }
        let rate = number.parse::<f64>().map_err(|_| EXAMPLE)? * factor;
        if !(1.0..=f64::from(u32::MAX)).contains(&rate) {
            return Err(EXAMPLE.into());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the line above checks the range"
        )]
        Ok(Self(Some(rate as u32)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{rate}"),
            None => f.write_str("unlimited"),
        }
    }
}

/// A share as it is written on the command line: `0.1%`, `5%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent(pub Probability);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected a percentage such as 0.1% or 5%";
        let number = text.strip_suffix('%').ok_or(EXAMPLE)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || whole.is_empty() || fraction.len() > 12 {
            return Err(EXAMPLE.into());
        }
        // Decimal throughout, so that no rounding depends on the machine.
        let parts = format!("{whole}{fraction:0<12}")
            .parse::<u64>()
            .map_err(|_| EXAMPLE)?;
        const HUNDRED: u64 = 100_000_000_000_000;
        if parts > HUNDRED {
            return Err("a percentage is 100% at most".into());
        }
        Ok(Self(Probability::ratio(parts, HUNDRED)))
    }
}

/// How packets are lost: a [`Percent`], or `gemodel:P,R[,BAD[,GOOD]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossModel(pub Loss);

impl FromStr for LossModel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix("gemodel:") else {
            return Ok(Self(Loss::Random(text.parse::<Percent>()?.0)));
        };
        let parts = rest
            .split(',')
            .map(|part| part.parse::<Percent>().map(|percent| percent.0))
            .collect::<Result<Vec<_>, _>>()?;
        let &[fail, recover, ref losses @ ..] = &parts[..] else {
            return Err("expected gemodel:P,R such as gemodel:1%,25%".into());
        };
        if losses.len() > 2 {
            return Err("expected gemodel:P,R,BAD,GOOD at most".into());
        }
        Ok(Self(Loss::GilbertElliott {
            fail,
            recover,
            in_bad: losses.first().copied().unwrap_or(Probability::ALWAYS),
            in_good: losses.get(1).copied().unwrap_or(Probability::NEVER),
        }))
    }
}

/// Bits per second: `10Mbit`, `1.5G`, `64kbit/s`, `9600`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitRate(pub u64);

impl FromStr for BitRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected bits per second such as 10Mbit, 1.5G or 64kbit";
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.to_ascii_lowercase();
        let unit = unit.strip_suffix("/s").unwrap_or(&unit);
        let factor = match unit.strip_suffix("bit").unwrap_or(unit) {
            "" => 1e0,
            "k" => 1e3,
            "m" => 1e6,
            "g" => 1e9,
            _ => return Err(EXAMPLE.into()),
        };
        let rate = number.parse::<f64>().map_err(|_| EXAMPLE)? * factor;
        if !(1.0..=1e15).contains(&rate) {
            return Err(EXAMPLE.into());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the line above checks the range"
        )]
        Ok(Self(rate as u64))
    }
}

/// A number of bytes: `100M`, `64k`, `4096`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteCount(pub u64);

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected a size such as 100M, 64k or 4096 (bytes)";
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" => 1000,
            "m" | "mb" => 1_000_000,
            "g" | "gb" => 1_000_000_000,
            _ => return Err(EXAMPLE.into()),
        };
        let number: u64 = number.parse().map_err(|_| EXAMPLE)?;
        let bytes = number.checked_mul(factor).filter(|bytes| *bytes > 0);
        bytes.map(Self).ok_or_else(|| EXAMPLE.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_with_decimal_prefixes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64k", 64_000),
            ("100M", 100_000_000),
            ("2GB", 2_000_000_000),
        ] {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)), "{text}");
        }
        for wrong in [
            "",
            "0",
            "-1",
            "1.5M",
            "M",
            "1T",
            "99999999999999999999",
            "20000000000G",
        ] {
            assert!(wrong.parse::<ByteCount>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, millis) in [
            ("1", 1000),
            ("1s", 1000),
            ("0.25", 250),
            ("300ms", 300),
            ("1.5s", 1500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0", 0),
        ] {
            assert_eq!(
                text.parse(),
                Ok(Seconds(Duration::from_millis(millis))),
                "{text}"
            );
        }
        for wrong in [
            "", "s", "-1", "1x", "1.2.3", "1e9", "1e400s", "NaN", "inf", "1 s",
        ] {
            assert!(wrong.parse::<Seconds>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn rates_are_at_least_one_packet_per_second() {
        for (text, rate) in [
            ("1", Some(1)),
            ("1000", Some(1000)),
            ("10k", Some(10_000)),
            ("1.5M", Some(1_500_000)),
            ("unlimited", None),
        ] {
            assert_eq!(text.parse(), Ok(Rate(rate)), "{text}");
        }
        for wrong in ["", "0", "0.5", "-5", "k", "5000000000", "inf", "NaN", "1e3"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_percentages() {
        for (text, parts, of) in [
            ("0%", 0, 1),
            ("0.1%", 1, 1000),
            ("5%", 5, 100),
            ("33.333%", 33_333, 100_000),
            ("100%", 1, 1),
        ] {
            let expected = Percent(Probability::ratio(parts, of));
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
        for wrong in [
            "",
            "%",
            "0.1",
            "101%",
            "-1%",
            ".5%",
            "1e1%",
            "1.2.3%",
            "99999999999%",
            " 1%",
        ] {
            assert!(wrong.parse::<Percent>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn losses_are_a_share_or_a_model_of_two_to_four() {
        let percent = |parts| Probability::ratio(parts, 100);
        assert_eq!("2%".parse(), Ok(LossModel(Loss::Random(percent(2)))));
        let model = Loss::GilbertElliott {
            fail: percent(1),
            recover: percent(25),
            in_bad: percent(90),
            in_good: Probability::NEVER,
        };
        assert_eq!("gemodel:1%,25%,90%".parse(), Ok(LossModel(model)));
        for wrong in ["gemodel:1%", "gemodel:", "gemodel:1%,2%,3%,4%,5%", "x", "1"] {
            assert!(wrong.parse::<LossModel>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bit_rates_have_decimal_prefixes() {
        for (text, rate) in [
            ("10Mbit", 10_000_000),
            ("1.5G", 1_500_000_000),
            ("64kbit/s", 64_000),
            ("9600", 9600),
        ] {
            assert_eq!(text.parse(), Ok(BitRate(rate)), "{text}");
        }
        for wrong in ["", "0", "10MB", "10Mbps", "-1k", "k", "1e9", "inf"] {
            assert!(wrong.parse::<BitRate>().is_err(), "{wrong}");
        }
    }
}
