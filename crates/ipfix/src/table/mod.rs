//! The one table of information elements, and the fields of records that they carry.
//!
//! Templates, records of RFC 5610, what a collector calls an element and the documentation are all
//! read from here. Numbers of plumb's own elements are a contract: added, never changed.

mod codes;
mod dns;
mod element;
mod flow;
mod identity;
mod kpi;
mod markdown;
mod process;
mod tap;

use plumb_record::{DnsProfile, FlowProfile, TapFlow};

pub use element::{Column, Element, Group, Scope};
pub use markdown::kpis as kpis_markdown;
pub(crate) use process::{
    EXPORTER_FIELDS, EXPORTER_SCOPE, ExporterFields, TYPE_FIELDS, TYPE_SCOPE, process_elements,
};

/// The enterprise number that RFC 5612 keeps for examples. Plumb has none of its own yet; sites that
/// have one should set it.
pub const DOCUMENTATION_ENTERPRISE: u32 = 32_473;

/// The enterprise number that stands for the reverse direction of IANA's elements (RFC 5103 §6.1).
pub const REVERSE_ENTERPRISE: u32 = 29_305;

/// What a record of connections' profiles is made of, by groups, in the order of the wire.
pub const FLOW: &[Group<FlowProfile>] = flow::GROUPS;

/// What a record of name lookups is made of, by groups, in the order of the wire.
pub const DNS: &[Group<DnsProfile>] = dns::GROUPS;

/// What a record of a tap's flows is made of, by groups, in the order of the wire.
pub const TAP: &[Group<TapFlow>] = tap::GROUPS;

/// All columns of some groups, in the order of the wire.
pub fn columns<R>(groups: &'static [Group<R>]) -> impl Iterator<Item = &'static Column<R>> {
    groups.iter().flat_map(|group| group.columns)
}

/// All elements that plumb sends, each once, in the order of their scopes and numbers.
pub fn elements() -> impl Iterator<Item = &'static Element> {
    let all = columns(FLOW)
        .map(|column| &column.element)
        .chain(columns(DNS).map(|column| &column.element))
        .chain(columns(TAP).map(|column| &column.element))
        .chain(process_elements());
    let mut sorted: alloc::collections::BTreeMap<(Scope, u16), &'static Element> =
        alloc::collections::BTreeMap::new();
    for element in all {
        sorted.entry((element.scope, element.id)).or_insert(element);
    }
    sorted.into_values()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::string::String;

    use super::*;
    use crate::Semantics;

    fn all() -> impl Iterator<Item = &'static Element> {
        columns(FLOW)
            .map(|column| &column.element)
            .chain(columns(DNS).map(|column| &column.element))
            .chain(columns(TAP).map(|column| &column.element))
            .chain(process_elements())
    }

    #[test]
    fn a_number_has_one_name_and_a_name_one_number() {
        let mut names = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        for element in all() {
            let number = (element.scope, element.id);
            let known: &Element = names.entry(number).or_insert(element);
            // What it says of a record depends on the record, and so does how long it needs to be.
            let same = |e: &Element| (e.name, e.kind, e.semantics, e.unit);
            assert_eq!(same(known), same(element), "{number:?}");
            assert_eq!(*numbers.entry(element.name).or_insert(number), number);
        }
    }

    #[test]
    fn names_are_as_rfc_7013_wants_them() {
        for element in all() {
            let name = element.name;
            assert!(
                name.starts_with(|first: char| first.is_ascii_lowercase()),
                "{name}"
            );
            assert!(
                name.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "{name}"
            );
            assert!(element.description.ends_with('.'), "{name}");
            assert_eq!(
                name.contains("DeltaCount"),
                element.semantics == Semantics::DeltaCounter,
                "{name}"
            );
            let total = name.contains("TotalCount") || name.starts_with("notSent");
            assert_eq!(
                total,
                element.semantics == Semantics::TotalCounter,
                "{name}"
            );
        }
    }

    #[test]
    fn lengths_are_allowed_for_their_types_and_ranges_for_their_lengths() {
        for element in all() {
            let kind = element.kind;
            assert!(
                kind.wire_len().unwrap_or(crate::VARIABLE) == element.len
                    || kind.may_be_reduced(element.len),
                "{}",
                element.name
            );
            if let Some((low, high)) = element.range {
                assert!(low <= high, "{}", element.name);
            }
        }
    }

    #[test]
    fn every_column_says_where_the_kernel_has_it_and_since_when() {
        let flow = columns(FLOW).map(|column| (column.field, column.source, column.since));
        let dns = columns(DNS).map(|column| (column.field, column.source, column.since));
        for (field, source, since) in flow.chain(dns) {
            assert!(!field.is_empty() && !source.is_empty(), "{field}");
            let release = since.split("; ").all(|release| {
                let (major, minor) = release.split_once('.').unwrap_or_default();
                major.parse::<u8>().is_ok() && minor.parse::<u8>().is_ok()
            });
            assert!(release, "{field}: {since}");
        }
    }

    #[test]
    fn a_template_has_no_more_columns_than_a_mask_has_bits() {
        assert!(columns(FLOW).count() <= 128);
        assert!(columns(DNS).count() <= 128);
        assert!(columns(TAP).count() <= 128);
    }

    #[test]
    fn every_field_of_a_record_has_a_column() {
        let text = include_str!("../../../record/src/flow.rs");
        let fields = |name: &str| -> std::vec::Vec<String> {
            let start = text.find(&std::format!("pub struct {name} {{")).unwrap();
            let body = &text[start..];
            let body = &body[..body.find("\n}").unwrap()];
            body.lines()
                .filter_map(|line| line.trim().strip_prefix("pub "))
                .filter_map(|line| line.split_once(": "))
                .filter(|(_, kind)| !kind.contains("{"))
                .map(|(field, _)| field.into())
                .collect()
        };
        let carried: std::vec::Vec<&str> = columns(FLOW).map(|column| column.field).collect();
        for field in fields("FlowProfile") {
            let by_its_place = ["schema", "kind", "mptcp"].contains(&field.as_str());
            assert!(by_its_place || carried.contains(&field.as_str()), "{field}");
        }
        for field in fields("FlowMptcp") {
            let field = std::format!("mptcp.{field}");
            assert!(carried.contains(&field.as_str()), "{field}");
        }
    }
}
