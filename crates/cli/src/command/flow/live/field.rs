//! What connections are sorted by and columns show: the fields of a profile, and what follows from
//! two looks at it.

use core::cmp::{Ordering, Reverse};
use core::net::IpAddr;

use plumb_ipfix::table::{Column, FLOW, columns};
use plumb_ipfix::{Unit, Value};
use plumb_record::FlowProfile;
use plumb_wire::Instant;

use super::model::Connection;
use crate::output::text;

/// Something that a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Bytes per second in both directions since the look before.
    Rate,
    /// Bytes per second sent.
    SendRate,
    /// Bytes per second received.
    ReceiveRate,
    /// Segments sent again, of those that carried data.
    RetransmissionRatio,
    /// Time since it began, or was first seen.
    Age,
    /// A field of its record, by name.
    Recorded(&'static str),
}

/// Columns in the order of their use: the first are shown where there is little room.
pub(super) const COLUMNS: [Field; 17] = [
    Field::SendRate,
    Field::ReceiveRate,
    Field::Recorded("rtt_ns"),
    Field::Recorded("packets_retransmitted"),
    Field::Recorded("bytes_sent"),
    Field::Recorded("bytes_received"),
    Field::Age,
    Field::RetransmissionRatio,
    Field::Recorded("rtos"),
    Field::Recorded("rtt_min_ns"),
    Field::Recorded("rtt_variance_ns"),
    Field::Recorded("packets_lost"),
    Field::Recorded("out_of_order_packets"),
    Field::Recorded("congestion_window_packets"),
    Field::Recorded("delivery_rate_bytes_per_second"),
    Field::Recorded("receive_window_limited_ns"),
    Field::Recorded("establishment_ns"),
];

/// Names and headings of what is no field of the record.
const DERIVED: [(&str, &str, Field); 5] = [
    ("rate", "rate", Field::Rate),
    ("send_rate", "send/s", Field::SendRate),
    ("receive_rate", "recv/s", Field::ReceiveRate),
    (
        "retransmission_ratio",
        "rexmit%",
        Field::RetransmissionRatio,
    ),
    ("age", "age", Field::Age),
];

/// Headings that are shorter than the name.
const HEADINGS: [(&str, &str); 12] = [
    ("rtt_ns", "rtt"),
    ("packets_retransmitted", "rexmit"),
    ("bytes_sent", "sent"),
    ("bytes_received", "received"),
    ("rtt_min_ns", "rtt min"),
    ("rtt_variance_ns", "rtt dev"),
    ("packets_lost", "lost"),
    ("out_of_order_packets", "ooo"),
    ("congestion_window_packets", "cwnd"),
    ("delivery_rate_bytes_per_second", "delivery"),
    ("receive_window_limited_ns", "rwnd-lim"),
    ("establishment_ns", "open"),
];

/// Fields whose numbers in IPFIX are words elsewhere.
const WORDS: [&str; 7] = [
    "protocol",
    "open",
    "state_before",
    "state",
    "phase",
    "event",
    "end_reason",
];

/// Least columns of a figure.
const LEAST: usize = 8;

/// What a field is ordered by. What is not known comes last, whichever way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Number(u64),
    Text(String),
    Address(IpAddr),
    Unknown,
}

impl Key {
    /// Numbers from the greatest, the rest from A to Z.
    pub(super) fn order(&self, other: &Self, reverse: bool) -> Ordering {
        let order = match (self, other) {
            (Self::Unknown, Self::Unknown) => return Ordering::Equal,
            (Self::Unknown, _) => return Ordering::Greater,
            (_, Self::Unknown) => return Ordering::Less,
            (Self::Number(a), Self::Number(b)) => Reverse(a).cmp(&Reverse(b)),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Address(a), Self::Address(b)) => a.cmp(b),
            // One field has one kind of value.
            _ => Ordering::Equal,
        };
        if reverse { order.reverse() } else { order }
    }
}

/// The names of all fields, each once.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let derived = DERIVED.iter().map(|(name, _, _)| *name);
    derived.chain(recorded().map(|column| column.field))
}

/// A column of the table for each field of the record, in its order.
pub(super) fn recorded() -> impl Iterator<Item = &'static Column<FlowProfile>> {
    let single = |column: &&Column<FlowProfile>| !column.field.contains(',');
    columns(FLOW)
        .filter(single)
        .enumerate()
        .filter_map(move |(n, column)| {
            let before = columns(FLOW).filter(single).take(n);
            let known = before
                .into_iter()
                .any(|before| before.field == column.field);
            (!known).then_some(column)
        })
}

impl Field {
    /// The field of this name; `bytes-sent` is `bytes_sent`.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = name.trim().to_lowercase().replace('-', "_");
        let derived = DERIVED.iter().find(|derived| derived.0 == name);
        derived.map(|derived| derived.2).or_else(|| {
            let column = recorded().find(|column| column.field == name)?;
            Some(Self::Recorded(column.field))
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Recorded(name) => name,
            Self::Rate
            | Self::SendRate
            | Self::ReceiveRate
            | Self::RetransmissionRatio
            | Self::Age => DERIVED
                .iter()
                .find(|derived| derived.2 == self)
                .map_or("", |derived| derived.0),
        }
    }

    pub(super) fn heading(self) -> &'static str {
        let derived = DERIVED.iter().find(|derived| derived.2 == self);
        let short = HEADINGS.iter().find(|(name, _)| *name == self.name());
        derived
            .map(|derived| derived.1)
            .or(short.map(|short| short.1))
            .unwrap_or_else(|| self.name())
    }

    /// Columns of the screen that it takes.
    pub(super) fn width(self) -> usize {
        self.heading().len().max(LEAST)
    }

    /// What a connection is ordered by.
    pub(super) fn key(self, connection: &Connection, now: Instant) -> Key {
        let number = |value: Option<u64>| value.map_or(Key::Unknown, Key::Number);
        let rates = connection.rates();
        match self {
            Self::Rate => number(rates.map(|rates| rates.sent.saturating_add(rates.received))),
            Self::SendRate => number(rates.map(|rates| rates.sent)),
            Self::ReceiveRate => number(rates.map(|rates| rates.received)),
            Self::RetransmissionRatio => number(retransmitted(connection.profile())),
            Self::Age => Key::Number(nanos(connection.age(now))),
            Self::Recorded(name) => match value(connection.profile(), name) {
                None => Key::Unknown,
                Some((Value::Unsigned(n) | Value::Time(n), _)) => Key::Number(n),
                Some((Value::Boolean(is), _)) => Key::Number(is.into()),
                Some((Value::V4(address), _)) => Key::Address(address.into()),
                Some((Value::V6(address), _)) => Key::Address(address.into()),
                Some((Value::Text(text), _)) => Key::Text(text.to_owned()),
                Some((
                    Value::Signed(_) | Value::Float(_) | Value::Mac(_) | Value::Octets(_),
                    _,
                )) => Key::Unknown,
            },
        }
    }

    /// What is shown of a connection; `-` if it is not known.
    pub(super) fn text(self, connection: &Connection, now: Instant) -> String {
        let rate = |value: Option<u64>| value.map(|rate| format!("{}/s", text::bytes(rate)));
        let rates = connection.rates();
        let shown = match self {
            Self::Rate => rate(rates.map(|rates| rates.sent.saturating_add(rates.received))),
            Self::SendRate => rate(rates.map(|rates| rates.sent)),
            Self::ReceiveRate => rate(rates.map(|rates| rates.received)),
            Self::RetransmissionRatio => retransmitted(connection.profile())
                .map(|millionths| format!("{}.{:02}", millionths / 10_000, millionths / 100 % 100)),
            Self::Age => Some(age(connection.age(now))),
            Self::Recorded(name) => recorded_text(connection.profile(), name),
        };
        shown.unwrap_or_else(|| "-".to_owned())
    }
}

/// A field of a record as it is shown; `None` if it is not known.
pub(super) fn recorded_text(profile: &FlowProfile, name: &str) -> Option<String> {
    if WORDS.contains(&name) {
        let json = serde_json::to_value(profile).ok()?;
        return json.get(name)?.as_str().map(str::to_owned);
    }
    let (value, unit) = value(profile, name)?;
    Some(match (value, unit) {
        (Value::Unsigned(ns), Unit::Nanoseconds) => match ns {
            ..1_000_000_000 => text::rtt(ns),
            _ => text::span(ns),
        },
        (Value::Unsigned(n), _) if name.ends_with("_per_second") => {
            format!("{}/s", text::bytes(n))
        }
        (Value::Unsigned(octets), Unit::Octets) => text::bytes(octets),
        (Value::Unsigned(n), _) => n.to_string(),
        (Value::Signed(n), _) => n.to_string(),
        (Value::Float(n), _) => n.to_string(),
        (Value::Boolean(is), _) => if is { "yes" } else { "no" }.to_owned(),
        (Value::Text(text), _) => text.to_owned(),
        (Value::Time(ns), _) => plumb_record::WallTime(ns).to_string(),
        (Value::V4(address), _) => address.to_string(),
        (Value::V6(address), _) => address.to_string(),
        (Value::Mac(_) | Value::Octets(_), _) => return None,
    })
}

fn value<'a>(profile: &'a FlowProfile, name: &str) -> Option<(Value<'a>, Unit)> {
    // In IPFIX, 0 stands for none.
    if name == "errno" && profile.errno.is_none() {
        return None;
    }
    // There is one for each IP version.
    let mut named = columns(FLOW).filter(|column| column.field == name);
    named.find_map(|column| Some(((column.get)(profile)?, column.element.unit)))
}

/// Millionths of the segments with data that were sent again.
fn retransmitted(profile: &FlowProfile) -> Option<u64> {
    let again = profile.packets_retransmitted?.saturating_mul(1_000_000);
    again.checked_div(profile.data_packets_sent?)
}

/// In whole units.
fn age(time: core::time::Duration) -> String {
    match time.as_secs() {
        0 => text::span(nanos(time)),
        seconds @ 1..600 => format!("{seconds} s"),
        seconds @ 600..36_000 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

fn nanos(time: core::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::flow::live::testing::{connection, profile};

    #[test]
    fn every_field_has_a_name_that_finds_it_and_every_column_is_one() {
        let names: Vec<_> = names().collect();
        for name in &names {
            let field = Field::named(name).unwrap();
            assert_eq!(field.name(), *name);
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1);
        }
        for field in COLUMNS {
            assert_eq!(Field::named(field.name()), Some(field));
            assert!(field.heading().len() <= LEAST, "{}", field.heading());
        }
        for (name, _) in HEADINGS {
            assert!(Field::named(name).is_some(), "{name}");
        }
        assert_eq!(Field::named("Bytes-Sent"), Field::named("bytes_sent"));
        assert_eq!(Field::named("bytes"), None);
    }

    #[test]
    fn numbers_are_from_the_greatest_and_what_is_not_known_is_last_whichever_way() {
        let order = |keys: &[Key], reverse| {
            let mut keys = keys.to_vec();
            keys.sort_by(|a, b| a.order(b, reverse));
            keys
        };
        use Key::{Number, Text, Unknown};
        let keys = [Number(2), Unknown, Number(7)];
        assert_eq!(order(&keys, false), [Number(7), Number(2), Unknown]);
        assert_eq!(order(&keys, true), [Number(2), Number(7), Unknown]);
        let words = [Text("b".into()), Text("a".into())];
        assert_eq!(order(&words, false)[0], Text("a".into()));
    }

    #[test]
    fn figures_are_short_and_words_are_those_of_the_record() {
        let mut profile = profile(1);
        profile.rtt_ns = Some(26_000);
        profile.bytes_sent = 12_345_678;
        profile.packets_retransmitted = Some(3);
        profile.data_packets_sent = Some(800);
        profile.ecn = Some(true);
        profile.delivery_rate_bytes_per_second = Some(9_000_000);
        let connection = connection(profile);
        let shown = |name: &str| {
            let field = Field::named(name).unwrap();
            field.text(&connection, Instant::ZERO)
        };
        assert_eq!(shown("rtt_ns"), "0.026 ms");
        assert_eq!(shown("bytes_sent"), "12 MB");
        assert_eq!(shown("retransmission_ratio"), "0.37");
        assert_eq!(shown("delivery_rate_bytes_per_second"), "9.0 MB/s");
        assert_eq!(shown("protocol"), "tcp");
        assert_eq!(shown("ecn"), "yes");
        assert_eq!(shown("remote_addr"), "192.0.2.2");
        assert_eq!(shown("errno"), "-");
        assert_eq!(shown("send_rate"), "-");
    }
}
