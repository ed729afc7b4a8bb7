//! What a collector must be told before it can read records, and again from time to time.

use alloc::vec::Vec;

use super::builder::Builder;
use super::layout::Layouts;
use crate::table::{
    EXPORTER_FIELDS, EXPORTER_SCOPE, Element, ExporterFields, Scope, TYPE_FIELDS, TYPE_SCOPE,
    elements,
};
use crate::{DataType, OPTIONS_TEMPLATE_SET, TEMPLATE_SET, Template, Value};

/// Template of the statistics of the exporting process.
const STATISTICS: u16 = crate::FIRST_TEMPLATE;
/// Template of the description of an element.
const TYPE: u16 = STATISTICS + 1;
/// The first template of data.
pub(super) const FIRST_DATA: u16 = STATISTICS + 2;

/// What is still to be told.
#[derive(Debug)]
pub(super) struct Announcements {
    enterprise: u32,
    options: Vec<Template>,
    options_told: bool,
    /// Plumb's own elements, and how many of them were described.
    described: Vec<&'static Element>,
    types_told: usize,
    /// For each data template, whether it was told.
    data_told: Vec<bool>,
    statistics_due: bool,
}

impl Announcements {
    pub(super) fn new(enterprise: u32) -> Self {
        let described: Vec<&Element> = elements()
            .filter(|element| element.scope == Scope::Plumb)
            .collect();
        Self {
            enterprise,
            options: alloc::vec![
                options_template(
                    enterprise,
                    STATISTICS,
                    EXPORTER_SCOPE,
                    EXPORTER_FIELDS.iter().map(|(element, _)| element),
                ),
                options_template(enterprise, TYPE, TYPE_SCOPE, TYPE_FIELDS.iter()),
            ],
            options_told: false,
            described,
            types_told: 0,
            data_told: Vec::new(),
            statistics_due: true,
        }
    }

    /// All is to be told again.
    pub(super) fn again(&mut self) {
        self.options_told = false;
        self.types_told = 0;
        self.data_told.clear();
        self.statistics_due = true;
    }

    pub(super) const fn statistics_are_due(&mut self) {
        self.statistics_due = true;
    }

    /// Whether something is to be told of the exporter and its elements; data templates wait for
    /// their records.
    pub(super) const fn pending(&self) -> bool {
        !self.options_told || self.types_told < self.described.len() || self.statistics_due
    }

    /// Tells as much as there is room for of the exporter and its elements.
    pub(super) fn tell_options(
        &mut self,
        process: u32,
        statistics: &ExporterFields,
        into: &mut Builder,
    ) {
        if !self.options_told {
            for template in &self.options {
                // pmacct 1.7.7 reads no set of three.
                into.append(OPTIONS_TEMPLATE_SET, |bytes| template.emit(bytes));
                into.close();
            }
            self.options_told = true;
        }
        while let Some(element) = self.described.get(self.types_told) {
            let mut record = Vec::new();
            describe(element, self.enterprise, &mut record);
            if !into.has_room(TYPE, record.len()) {
                return;
            }
            into.append(TYPE, |bytes| bytes.extend_from_slice(&record));
            self.types_told += 1;
        }
        if self.statistics_due {
            let mut record = Vec::new();
            emit(
                &EXPORTER_SCOPE[0],
                Value::Unsigned(process.into()),
                &mut record,
            );
            for (element, read) in EXPORTER_FIELDS {
                let number = read(statistics);
                let value = if element.kind == DataType::DateTimeNanoseconds {
                    Value::Time(number)
                } else {
                    Value::Unsigned(number)
                };
                emit(element, value, &mut record);
            }
            if into.has_room(STATISTICS, record.len()) {
                into.append(STATISTICS, |bytes| bytes.extend_from_slice(&record));
                self.statistics_due = false;
            }
        }
    }

    /// Tells as many of the data templates as there is room for; says whether all are told.
    pub(super) fn tell_templates(&mut self, layouts: &Layouts, into: &mut Builder) -> bool {
        (0..layouts.len())
            .all(|layout| self.is_told(layout) || self.tell_template(layouts, layout, into))
    }

    fn is_told(&self, layout: usize) -> bool {
        self.data_told.get(layout).copied().unwrap_or(false)
    }

    fn tell_template(&mut self, layouts: &Layouts, layout: usize, into: &mut Builder) -> bool {
        let template = layouts.template(layout);
        if !into.has_room(TEMPLATE_SET, template.wire_len()) {
            return false;
        }
        into.append(TEMPLATE_SET, |bytes| template.emit(bytes));
        if self.data_told.len() <= layout {
            self.data_told.resize(layout + 1, false);
        }
        self.data_told[layout] = true;
        true
    }
}

fn options_template(
    enterprise: u32,
    id: u16,
    scope: &'static [Element],
    fields: impl Iterator<Item = &'static Element>,
) -> Template {
    let all = scope.iter().chain(fields);
    Template {
        id,
        scope_len: u16::try_from(scope.len()).unwrap_or(u16::MAX),
        fields: all.map(|element| element.spec(enterprise, true)).collect(),
    }
}

/// Writes the description of an element (RFC 5610). One that has no range gets one from 0 to 0:
/// libfixbuf learns nothing from records that leave out any of these fields, and takes that for none.
fn describe(element: &Element, enterprise: u32, into: &mut Vec<u8>) {
    let (low, high) = range(element).unwrap_or((0, 0));
    let number = |n: u64| Value::Unsigned(n);
    let values = [
        number(element.kind.number().into()),
        number(element.semantics.number().into()),
        number(element.unit.number().into()),
        number(low),
        number(high),
        Value::Text(element.name),
        Value::Text(element.description),
    ];
    emit(&TYPE_SCOPE[0], number(enterprise.into()), into);
    emit(&TYPE_SCOPE[1], number(element.id.into()), into);
    for (field, value) in TYPE_FIELDS.iter().zip(values) {
        emit(field, value, into);
    }
}

fn emit(element: &Element, value: Value<'_>, into: &mut Vec<u8>) {
    value.emit(element.kind, element.wire_len(true), into);
}

/// The values that an element may have, if it is a number without sign.
fn range(element: &Element) -> Option<(u64, u64)> {
    element.range.or_else(|| natural_range(element.kind))
}

/// All values of a type of numbers without sign.
const fn natural_range(kind: DataType) -> Option<(u64, u64)> {
    match kind {
        DataType::Unsigned8 => Some((0, u8::MAX as u64)),
        DataType::Unsigned16 => Some((0, u16::MAX as u64)),
        DataType::Unsigned32 => Some((0, u32::MAX as u64)),
        DataType::Unsigned64 => Some((0, u64::MAX)),
        DataType::OctetArray
        | DataType::Signed8
        | DataType::Signed16
        | DataType::Signed32
        | DataType::Signed64
        | DataType::Float32
        | DataType::Float64
        | DataType::Boolean
        | DataType::MacAddress
        | DataType::String
        | DataType::DateTimeSeconds
        | DataType::DateTimeMilliseconds
        | DataType::DateTimeMicroseconds
        | DataType::DateTimeNanoseconds
        | DataType::Ipv4Address
        | DataType::Ipv6Address
        | DataType::BasicList
        | DataType::SubTemplateList
        | DataType::SubTemplateMultiList => None,
    }
}
