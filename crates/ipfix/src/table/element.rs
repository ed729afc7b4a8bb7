//! What the table is made of.

use crate::{DataType, FieldSpec, Semantics, Unit, VARIABLE, Value};

/// Whose an element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// IANA's.
    Iana,
    /// IANA's, of the other direction of a flow (RFC 5103).
    Reverse,
    /// Plumb's, under the enterprise number that the exporter is given.
    Plumb,
}

impl Scope {
    /// The enterprise number on the wire; 0 for none.
    pub const fn enterprise(self, plumb: u32) -> u32 {
        match self {
            Self::Iana => 0,
            Self::Reverse => super::REVERSE_ENTERPRISE,
            Self::Plumb => plumb,
        }
    }
}

/// An information element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Whose it is.
    pub scope: Scope,
    /// Its number.
    pub id: u16,
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: DataType,
    /// What kind of quantity it is.
    pub semantics: Semantics,
    /// Its unit.
    pub unit: Unit,
    /// The least and the greatest value, if they are not those of the type.
    pub range: Option<(u64, u64)>,
    /// What it means.
    pub description: &'static str,
    /// Length in bytes that it is sent with as long as values fit.
    pub len: u16,
}

impl Element {
    /// An element of full length without range.
    pub(crate) const fn new(
        scope: Scope,
        id: u16,
        name: &'static str,
        kind: DataType,
        semantics: Semantics,
        unit: Unit,
        description: &'static str,
    ) -> Self {
        let len = match kind.wire_len() {
            Some(len) => len,
            None => VARIABLE,
        };
        Self {
            scope,
            id,
            name,
            kind,
            semantics,
            unit,
            range: None,
            description,
            len,
        }
    }

    /// Its specifier in a template, at full length if `wide`.
    pub const fn spec(&self, plumb: u32, wide: bool) -> FieldSpec {
        FieldSpec {
            enterprise: self.scope.enterprise(plumb),
            id: self.id,
            len: self.wire_len(wide),
        }
    }

    /// Its length in a template, at full length if `wide`.
    pub const fn wire_len(&self, wide: bool) -> u16 {
        match self.kind.wire_len() {
            Some(full) if wide => full,
            _ => self.len,
        }
    }
}

/// An element, the field of a record that it carries, and where a kernel has it.
#[derive(Debug)]
pub struct Column<R: 'static> {
    /// The element.
    pub element: Element,
    /// The field's name in the NDJSON record.
    pub field: &'static str,
    /// Where the kernel has it.
    pub source: &'static str,
    /// The kernel that first had it.
    pub since: &'static str,
    /// Whether `plumb flow` records it only where each segment is watched.
    pub is_per_segment: bool,
    /// The field's value; `None` where it is not known.
    pub get: for<'a> fn(&'a R) -> Option<Value<'a>>,
    /// Sets the field, or nothing where the value cannot be one or follows from others.
    pub set: fn(&mut R, Value<'_>),
}

/// Columns that belong together.
#[derive(Debug)]
pub struct Group<R: 'static> {
    /// What they are about.
    pub title: &'static str,
    /// The columns in the order of the wire.
    pub columns: &'static [Column<R>],
}

impl<R> Column<R> {
    /// A column of an element.
    pub(super) const fn new(
        element: Element,
        field: &'static str,
        get: for<'a> fn(&'a R) -> Option<Value<'a>>,
        set: fn(&mut R, Value<'_>),
    ) -> Self {
        Self {
            element,
            field,
            source: "",
            since: "",
            is_per_segment: false,
            get,
            set,
        }
    }

    /// Sent in fewer bytes as long as the value fits.
    pub(super) const fn short(mut self, len: u16) -> Self {
        self.element.len = len;
        self
    }

    /// Recorded only with `plumb flow --per-segment`: it takes a program that runs for each.
    pub(super) const fn per_segment(mut self) -> Self {
        self.is_per_segment = true;
        self
    }

    /// Only these values.
    pub(super) const fn range(mut self, low: u64, high: u64) -> Self {
        self.element.range = Some((low, high));
        self
    }

    /// Where a kernel has it, and from which on.
    pub(super) const fn kernel(mut self, source: &'static str, since: &'static str) -> Self {
        self.source = source;
        self.since = since;
        self
    }
}

/// An element of IANA's.
pub(super) const fn iana(
    id: u16,
    name: &'static str,
    kind: DataType,
    semantics: Semantics,
    unit: Unit,
    description: &'static str,
) -> Element {
    Element::new(Scope::Iana, id, name, kind, semantics, unit, description)
}

/// An element of plumb's.
pub(super) const fn ours(
    id: u16,
    name: &'static str,
    kind: DataType,
    semantics: Semantics,
    unit: Unit,
    description: &'static str,
) -> Element {
    Element::new(Scope::Plumb, id, name, kind, semantics, unit, description)
}

/// The number in a value.
pub(super) fn number<T: TryFrom<u64>>(value: Value<'_>) -> Option<T> {
    value.number()?.try_into().ok()
}

/// The text in a value.
pub(super) fn text(value: Value<'_>) -> Option<alloc::string::String> {
    value.text().map(Into::into)
}

/// Nothing to set: what other columns carry, or what follows from them.
pub(super) fn derived<R>(_: &mut R, _: Value<'_>) {}

/// The `get` and `set` of a field that is an optional number.
macro_rules! optional {
    ($($field:ident).+) => {
        (
            stringify!($($field).+),
            |record| record.$($field).+.map(|n| $crate::Value::Unsigned(n.into())),
            |record, value| record.$($field).+ = $crate::table::element::number(value),
        )
    };
}

/// The `get` and `set` of a field that is a number.
macro_rules! plain {
    ($field:ident) => {
        (
            stringify!($field),
            |record| Some($crate::Value::Unsigned(record.$field.into())),
            |record, value| {
                record.$field = $crate::table::element::number(value).unwrap_or_default()
            },
        )
    };
}

/// The `get` and `set` of a field that is optional text.
macro_rules! words {
    ($field:ident) => {
        (
            stringify!($field),
            |record| record.$field.as_deref().map($crate::Value::Text),
            |record, value| record.$field = $crate::table::element::text(value),
        )
    };
}

/// The `get` and `set` of a field of a multipath connection that is an optional number.
macro_rules! multipath {
    ($field:ident) => {
        (
            concat!("mptcp.", stringify!($field)),
            |record| {
                let there = record.mptcp.as_ref()?;
                Some($crate::Value::Unsigned(there.$field?.into()))
            },
            |record, value| {
                record.mptcp.get_or_insert_default().$field = $crate::table::element::number(value);
            },
        )
    };
}

pub(super) use {multipath, optional, plain, words};
