//! Field specifiers and template records (RFC 7011 §3.2, §3.4).

use alloc::vec::Vec;

use plumb_wire::Malformed;

/// The length that says that each value brings its own (RFC 7011 §7).
pub const VARIABLE: u16 = 65_535;

/// Set of template records.
pub const TEMPLATE_SET: u16 = 2;

/// Set of options template records.
pub const OPTIONS_TEMPLATE_SET: u16 = 3;

/// The least identifier of a template, and of a set of data records.
pub const FIRST_TEMPLATE: u16 = 256;

/// The enterprise bit of an element's number.
const ENTERPRISE: u16 = 0x8000;

/// One field of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldSpec {
    /// Private enterprise number; 0 for elements of IANA.
    pub enterprise: u32,
    /// Number of the element, up to 32767.
    pub id: u16,
    /// Length of a value in bytes, or [`VARIABLE`].
    pub len: u16,
}

/// A template: what the records of a set are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Identifier, from [`FIRST_TEMPLATE`].
    pub id: u16,
    /// How many of the first fields are the scope of an options template; 0 for data.
    pub scope_len: u16,
    /// The fields in order.
    pub fields: Vec<FieldSpec>,
}

/// A record of a set of templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateRecord {
    /// A template.
    Defined(Template),
    /// The template of this identifier is no more; [`TEMPLATE_SET`] or [`OPTIONS_TEMPLATE_SET`]
    /// stands for all (RFC 7011 §8.1).
    Withdrawn(u16),
}

impl FieldSpec {
    /// Bytes on the wire.
    pub const fn wire_len(self) -> usize {
        if self.enterprise == 0 { 4 } else { 8 }
    }

    /// The fewest bytes of a value.
    const fn min_len(self) -> usize {
        if self.len == VARIABLE {
            1
        } else {
            self.len as usize
        }
    }

    fn emit(self, into: &mut Vec<u8>) {
        let bit = if self.enterprise == 0 { 0 } else { ENTERPRISE };
        into.extend_from_slice(&(self.id & !ENTERPRISE | bit).to_be_bytes());
        into.extend_from_slice(&self.len.to_be_bytes());
        if self.enterprise != 0 {
            into.extend_from_slice(&self.enterprise.to_be_bytes());
        }
    }

    fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (id, rest) = be16(bytes, "field specifier")?;
        let (len, rest) = be16(rest, "field specifier")?;
        if id & ENTERPRISE == 0 {
            let enterprise = 0;
            return Ok((
                Self {
                    enterprise,
                    id,
                    len,
                },
                rest,
            ));
        }
        let (high, rest) = be16(rest, "enterprise number")?;
        let (low, rest) = be16(rest, "enterprise number")?;
        let field = Self {
            enterprise: u32::from(high) << 16 | u32::from(low),
            id: id & !ENTERPRISE,
            len,
        };
        Ok((field, rest))
    }
}

impl Template {
    /// Whether it is an options template.
    pub const fn is_options(&self) -> bool {
        self.scope_len > 0
    }

    /// The fewest bytes of a record.
    pub fn min_record_len(&self) -> usize {
        self.fields.iter().map(|field| field.min_len()).sum()
    }

    /// Bytes of its record in a set of templates.
    pub fn wire_len(&self) -> usize {
        let head = if self.is_options() { 6 } else { 4 };
        let fields: usize = self.fields.iter().map(|field| field.wire_len()).sum();
        head + fields
    }

    /// Appends its record.
    pub fn emit(&self, into: &mut Vec<u8>) {
        let count = u16::try_from(self.fields.len()).unwrap_or(u16::MAX);
        into.extend_from_slice(&self.id.to_be_bytes());
        into.extend_from_slice(&count.to_be_bytes());
        if self.is_options() {
            into.extend_from_slice(&self.scope_len.to_be_bytes());
        }
        for field in &self.fields {
            field.emit(into);
        }
    }
}

impl TemplateRecord {
    /// Reads a record of the set `set`, [`TEMPLATE_SET`] or [`OPTIONS_TEMPLATE_SET`], and returns
    /// it with the bytes behind it.
    ///
    /// # Errors
    /// If it is cut, its identifier is reserved, or its records would have no length.
    pub fn parse(set: u16, bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let not_valid = |what| Malformed {
            what,
            need: 0,
            have: bytes.len(),
        };
        let (id, rest) = be16(bytes, "template record")?;
        let (count, rest) = be16(rest, "template record")?;
        if count == 0 && (id >= FIRST_TEMPLATE || id == set) {
            return Ok((Self::Withdrawn(id), rest));
        }
        if id < FIRST_TEMPLATE {
            return Err(not_valid("template identifier"));
        }
        let (scope_len, mut rest) = if set == OPTIONS_TEMPLATE_SET {
            let (scope_len, rest) = be16(rest, "options template record")?;
            if scope_len == 0 || scope_len > count {
                return Err(not_valid("scope of an options template"));
            }
            (scope_len, rest)
        } else {
            (0, rest)
        };
        // Hostile counts must not reserve more than the bytes that are there can hold.
        let mut fields = Vec::with_capacity(usize::from(count).min(rest.len() / 4));
        for _ in 0..count {
            let (field, behind) = FieldSpec::parse(rest)?;
            fields.push(field);
            rest = behind;
        }
        let template = Template {
            id,
            scope_len,
            fields,
        };
        if template.min_record_len() == 0 {
            return Err(not_valid("template: its records have no length"));
        }
        Ok((Self::Defined(template), rest))
    }
}

/// Reads a word and returns it with what follows.
fn be16<'a>(bytes: &'a [u8], what: &'static str) -> Result<(u16, &'a [u8]), Malformed> {
    match bytes {
        [high, low, rest @ ..] => Ok((u16::from_be_bytes([*high, *low]), rest)),
        _ => Err(Malformed {
            what,
            need: 2,
            have: bytes.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn field() -> impl Strategy<Value = FieldSpec> {
        (any::<u32>(), 0_u16..0x8000, 1_u16..).prop_map(|(enterprise, id, len)| FieldSpec {
            enterprise,
            id,
            len,
        })
    }

    #[test]
    fn the_example_of_rfc_7011_is_read() {
        // Appendix A.2.1: five elements of IANA.
        let bytes = [
            1, 0, 0, 5, 0, 8, 0, 4, 0, 12, 0, 4, 0, 15, 0, 4, 0, 2, 0, 4, 0, 1, 0, 4,
        ];
        let (record, rest) = TemplateRecord::parse(TEMPLATE_SET, &bytes).unwrap();
        let TemplateRecord::Defined(template) = record else {
            panic!("{record:?}");
        };
        assert!(rest.is_empty());
        let ids: Vec<u16> = template.fields.iter().map(|field| field.id).collect();
        assert_eq!((template.id, ids), (256, vec![8, 12, 15, 2, 1]));
        let mut again = Vec::new();
        template.emit(&mut again);
        assert_eq!(again, bytes);
        assert_eq!(template.wire_len(), bytes.len());
    }

    #[test]
    fn a_template_whose_records_have_no_length_is_refused() {
        let bytes = [1, 0, 0, 1, 0, 8, 0, 0];
        assert!(TemplateRecord::parse(TEMPLATE_SET, &bytes).is_err());
    }

    #[test]
    fn withdrawals_name_one_template_or_all() {
        for id in [300, TEMPLATE_SET] {
            let mut bytes = [0; 4];
            bytes[..2].copy_from_slice(&id.to_be_bytes());
            let record = TemplateRecord::parse(TEMPLATE_SET, &bytes).unwrap().0;
            assert_eq!(record, TemplateRecord::Withdrawn(id));
        }
        assert!(TemplateRecord::parse(TEMPLATE_SET, &[0, 3, 0, 0]).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            id in 256_u16..,
            fields in prop::collection::vec(field(), 1..40),
            scope in 0_u16..3,
        ) {
            let scope_len = scope.min(u16::try_from(fields.len()).unwrap());
            let template = Template { id, scope_len, fields };
            let mut bytes = Vec::new();
            template.emit(&mut bytes);
            prop_assert_eq!(bytes.len(), template.wire_len());
            let set = if template.is_options() { OPTIONS_TEMPLATE_SET } else { TEMPLATE_SET };
            let (record, rest) = TemplateRecord::parse(set, &bytes).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(record, TemplateRecord::Defined(template));
        }
    }
}
