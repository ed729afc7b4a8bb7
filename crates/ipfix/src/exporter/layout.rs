//! Which template a record goes with, and the record in it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use plumb_wire::Instant;

use crate::table::{Column, Group, columns};
use crate::{DataType, FIRST_TEMPLATE, Template, Value};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Flow,
    Lookup,
    Tapped,
}

/// Which columns a template has, and whether at full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    kind: Kind,
    /// One bit for each column of the table.
    mask: u128,
    wide: bool,
}

/// The templates that were needed so far. What is not known of a record is not in its template,
/// rather than a value that stands for nothing.
#[derive(Debug)]
pub(super) struct Layouts {
    enterprise: u32,
    first: u16,
    templates: Vec<Template>,
    shapes: BTreeMap<Shape, usize>,
    /// Room to put records together in.
    room: Vec<u8>,
}

/// A record as it will be sent.
#[derive(Debug)]
pub(super) struct Encoded {
    /// Number of its template in [`Layouts`].
    pub(super) layout: usize,
    pub(super) bytes: Box<[u8]>,
    /// When it came.
    pub(super) since: Instant,
    /// Packets and octets that it counts, for the case that it is not sent.
    pub(super) packets: u64,
    pub(super) octets: u64,
}

/// At least as many as any table has columns: a shape has a bit for each.
const MOST_COLUMNS: usize = 128;

/// Templates beyond which a record goes with one that has fewer of its columns.
const MAX_TEMPLATES: usize = 256;

impl Layouts {
    /// No templates yet; the first will have the identifier `first`.
    pub(super) const fn new(enterprise: u32, first: u16) -> Self {
        assert!(first >= FIRST_TEMPLATE);
        Self {
            enterprise,
            first,
            templates: Vec::new(),
            shapes: BTreeMap::new(),
            room: Vec::new(),
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.templates.len()
    }

    pub(super) fn template(&self, layout: usize) -> &Template {
        &self.templates[layout]
    }

    /// Encodes a record; without what has no bounds in length if it is longer than `max` else.
    /// `None` if it is too long even so.
    pub(super) fn encode<R>(
        &mut self,
        kind: Kind,
        groups: &'static [Group<R>],
        record: &R,
        max: usize,
    ) -> Option<(usize, Box<[u8]>)> {
        if let Some(encoded) = self.encode_again(kind, groups, record, max) {
            return Some(encoded);
        }
        let mut values: Vec<(u32, &Column<R>, Value<'_>)> = Vec::with_capacity(MOST_COLUMNS);
        for (n, column) in (0..).zip(columns(groups)) {
            if let Some(value) = (column.get)(record) {
                values.push((n, column, value));
            }
        }
        let mut encoded = self.place(kind, &values);
        if encoded.1.len() > max {
            values.retain(|(_, column, _)| column.element.kind != DataType::String);
            encoded = self.place(kind, &values);
        }
        (encoded.1.len() <= max).then_some(encoded)
    }

    /// The same in one go, for a record like nearly all: its values fit, and it has its template.
    fn encode_again<R>(
        &mut self,
        kind: Kind,
        groups: &'static [Group<R>],
        record: &R,
        max: usize,
    ) -> Option<(usize, Box<[u8]>)> {
        self.room.clear();
        let mut mask = 0_u128;
        for (n, column) in columns(groups).enumerate() {
            let Some(value) = (column.get)(record) else {
                continue;
            };
            mask |= 1 << n;
            let element = &column.element;
            if !value.emit_fitting(element.kind, element.len, &mut self.room) {
                return None;
            }
        }
        let wide = false;
        let &layout = self.shapes.get(&Shape { kind, mask, wide })?;
        (self.room.len() <= max).then(|| (layout, self.room.as_slice().into()))
    }

    fn place<R>(
        &mut self,
        kind: Kind,
        values: &[(u32, &Column<R>, Value<'_>)],
    ) -> (usize, Box<[u8]>) {
        let wide = values.iter().any(|(_, column, value)| {
            let element = &column.element;
            !value.fits(element.kind, element.len)
        });
        let mask = values.iter().fold(0, |mask, (n, ..)| mask | 1_u128 << n);
        let (layout, shape) = self.layout(Shape { kind, mask, wide }, values);
        let mut bytes = Vec::with_capacity(512);
        for (n, column, value) in values {
            if shape.mask >> n & 1 == 1 {
                let element = &column.element;
                value.emit(element.kind, element.wire_len(shape.wide), &mut bytes);
            }
        }
        (layout, bytes.into_boxed_slice())
    }

    /// The template of this shape, or of one that leaves the fewest columns out.
    fn layout<R>(
        &mut self,
        wanted: Shape,
        values: &[(u32, &Column<R>, Value<'_>)],
    ) -> (usize, Shape) {
        if let Some(&layout) = self.shapes.get(&wanted) {
            return (layout, wanted);
        }
        if self.templates.len() >= MAX_TEMPLATES {
            let smaller = self
                .shapes
                .iter()
                .filter(|(shape, _)| {
                    shape.kind == wanted.kind
                        && shape.wide >= wanted.wide
                        && shape.mask & !wanted.mask == 0
                })
                .max_by_key(|(shape, _)| shape.mask.count_ones());
            if let Some((&shape, &layout)) = smaller {
                return (layout, shape);
            }
        }
        let layout = self.templates.len();
        self.templates.push(Template {
            // As many as shapes of which none contains another, at most: far fewer than there are
            // numbers.
            id: self
                .first
                .saturating_add(u16::try_from(layout).unwrap_or(u16::MAX)),
            scope_len: 0,
            fields: values
                .iter()
                .map(|(_, column, _)| column.element.spec(self.enterprise, wanted.wide))
                .collect(),
        });
        self.shapes.insert(wanted, layout);
        (layout, wanted)
    }
}
