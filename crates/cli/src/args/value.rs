//! Values that are written with a unit.

use core::fmt;
use core::str::FromStr;
use core::time::Duration;

/// A duration as it is written on the command line: `1s`, `300ms`, `1.5`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
