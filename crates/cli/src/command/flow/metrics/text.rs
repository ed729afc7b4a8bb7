//! Prometheus' text format, version 0.0.4.

use core::fmt::{self, Write};

/// Media type of a page.
pub(super) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of metric a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// How a number that is counted in small units is written: with so many decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    One,
    Millionths,
    Billionths,
}

impl Scale {
    const fn decimals(self) -> (u128, usize) {
        match self {
            Self::One => (1, 0),
            Self::Millionths => (1_000_000, 6),
            Self::Billionths => (1_000_000_000, 9),
        }
    }

    /// A number in base units, without zeros at the end.
    pub(super) fn write(self, number: u128) -> String {
        let (unit, digits) = self.decimals();
        if number.is_multiple_of(unit) {
            return (number / unit).to_string();
        }
        let rest = format!("{:0digits$}", number % unit);
        format!("{}.{}", number / unit, rest.trim_end_matches('0'))
    }
}

/// A page of metrics.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    /// Begins a family.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.put(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        self
    }

    /// Adds a sample of the family.
    pub(super) fn sample(
        &mut self,
        labels: &[(&str, &str)],
        value: impl fmt::Display,
    ) -> &mut Self {
        self.line("", labels, value);
        self
    }

    /// A family of one sample.
    pub(super) fn single(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl fmt::Display,
    ) {
        self.family(name, kind, help).sample(&[], value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl fmt::Display) {
        let name = self.name;
        self.put(format_args!("{name}{suffix}"));
        for (n, (label, text)) in labels.iter().enumerate() {
            let before = if n == 0 { '{' } else { ',' };
            let text = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            self.put(format_args!("{before}{label}=\"{text}\""));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        self.put(format_args!("{after} {value}\n"));
    }

    fn put(&mut self, arguments: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(arguments);
    }

    /// The page.
    pub(super) fn finish(self) -> String {
        self.text
    }
}

/// Counts values by their size.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    scale: Scale,
    bounds: &'static [u64],
    counts: Vec<u64>,
    above: u64,
    sum: u128,
}

impl Histogram {
    /// One that counts values up to each of these bounds, which ascend.
    pub(super) fn new(scale: Scale, bounds: &'static [u64]) -> Self {
        Self {
            scale,
            bounds,
            counts: vec![0; bounds.len()],
            above: 0,
            sum: 0,
        }
    }

    /// Counts a value.
    pub(super) fn observe(&mut self, value: u64) {
        self.sum = self.sum.saturating_add(value.into());
        let place = self.bounds.partition_point(|bound| *bound < value);
        match self.counts.get_mut(place) {
            Some(count) => *count += 1,
            None => self.above += 1,
        }
    }

    /// Adds its samples to a family.
    pub(super) fn write(&self, page: &mut Page, labels: &[(&str, &str)]) {
        let mut below = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            below += count;
            let bound = self.scale.write((*bound).into());
            let labels = [labels, &[("le", bound.as_str())]].concat();
            page.line("_bucket", &labels, below);
        }
        let all = below + self.above;
        page.line("_bucket", &[labels, &[("le", "+Inf")]].concat(), all);
        page.line("_sum", labels, self.scale.write(self.sum));
        page.line("_count", labels, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_as_the_format_has_it() {
        let mut page = Page::default();
        page.family("a_total", Kind::Counter, "Slash \\ and\nline.")
            .sample(&[("to", "a\"b\\c\nd"), ("x", "y")], 7);
        page.single(
            "b",
            Kind::Gauge,
            "One.",
            Scale::Billionths.write(1_500_000_000),
        );
        assert_eq!(
            page.finish(),
            "# HELP a_total Slash \\\\ and\\nline.\n# TYPE a_total counter\n\
             a_total{to=\"a\\\"b\\\\c\\nd\",x=\"y\"} 7\n\
             # HELP b One.\n# TYPE b gauge\nb 1.5\n"
        );
    }

    #[test]
    fn numbers_are_exact() {
        let write = |scale: Scale, number| scale.write(number);
        assert_eq!(write(Scale::Billionths, 0), "0");
        assert_eq!(write(Scale::Billionths, 1), "0.000000001");
        assert_eq!(write(Scale::Billionths, 2_000_000_000), "2");
        assert_eq!(write(Scale::Millionths, 1_250_000), "1.25");
        assert_eq!(write(Scale::One, u128::MAX), u128::MAX.to_string());
    }

    #[test]
    fn buckets_are_cumulative_and_their_bounds_belong_to_them() {
        let mut histogram = Histogram::new(Scale::One, &[10, 100]);
        for value in [0, 10, 11, 100, 101, u64::MAX] {
            histogram.observe(value);
        }
        let mut page = Page::default();
        page.family("h", Kind::Histogram, "H.");
        histogram.write(&mut page, &[("a", "b")]);
        let text = page.finish();
        let lines: Vec<_> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "h_bucket{a=\"b\",le=\"10\"} 2",
                "h_bucket{a=\"b\",le=\"100\"} 4",
                "h_bucket{a=\"b\",le=\"+Inf\"} 6",
                "h_sum{a=\"b\"} 18446744073709551837",
                "h_count{a=\"b\"} 6",
            ]
        );
    }
}
