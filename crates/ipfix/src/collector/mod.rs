//! The collecting process: messages in, records out.

mod learned;
mod profiles;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use plumb_wire::Malformed;

use crate::template::TemplateRecord;
use crate::{
    DataType, FIRST_TEMPLATE, FieldSpec, Header, OPTIONS_TEMPLATE_SET, TEMPLATE_SET, Template,
    VARIABLE, Value,
};
use learned::Known;
pub use learned::Learned;
pub use profiles::Profiles;

/// What a session may make a [`Collector`] remember.
#[derive(Clone, Copy, Debug)]
pub struct CollectorLimits {
    /// Templates, over all observation domains.
    pub templates: usize,
    /// Fields of all templates.
    pub fields: usize,
    /// Observation domains.
    pub domains: usize,
    /// Elements learned.
    pub elements: usize,
}

impl Default for CollectorLimits {
    fn default() -> Self {
        Self {
            templates: 4096,
            fields: 1 << 17,
            domains: 256,
            elements: 4096,
        }
    }
}

/// What a [`Collector`] met in its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectorStatistics {
    /// Messages read.
    pub messages: u64,
    /// Data records read, those of options included.
    pub records: u64,
    /// Messages whose number was not the expected one.
    pub sequence_errors: u64,
    /// Data records that are missing according to the numbers.
    pub missing_records: u64,
    /// Sets of data without template, or broken.
    pub unread_sets: u64,
    /// Templates and elements not remembered, because there were too many.
    pub beyond_limits: u64,
}

/// A collecting process for one session: one peer over UDP, one connection, one file.
#[derive(Debug)]
pub struct Collector {
    limits: CollectorLimits,
    templates: BTreeMap<(u32, u16), Template>,
    template_fields: usize,
    /// The next message's number by observation domain; `None` where records could not be counted.
    expected: BTreeMap<u32, Option<u32>>,
    known: Known,
    statistics: CollectorStatistics,
}

/// A record as it came.
#[derive(Debug)]
pub struct Record<'a> {
    /// The header of its message.
    pub header: Header,
    /// Its template.
    pub template: &'a Template,
    /// Its values in the order of the template's fields.
    pub values: Vec<Value<'a>>,
    known: &'a Known,
}

impl<'a> Record<'a> {
    /// Whether it is about the exporter rather than about a flow.
    pub const fn is_options(&self) -> bool {
        self.template.is_options()
    }

    /// Each field's name, specifier and value. An element that is not known is called by its
    /// numbers.
    pub fn fields(&self) -> impl Iterator<Item = (Cow<'a, str>, FieldSpec, Value<'a>)> {
        let known = self.known;
        let fields = self.template.fields.iter().zip(&self.values);
        fields.map(move |(&field, &value)| (known.name(field), field, value))
    }
}

impl Collector {
    /// A collector at the beginning of a session.
    pub fn new(limits: CollectorLimits) -> Self {
        Self {
            limits,
            templates: BTreeMap::new(),
            template_fields: 0,
            expected: BTreeMap::new(),
            known: Known::new(),
            statistics: CollectorStatistics::default(),
        }
    }

    /// Reads a message, and gives each of its data records to `sink` in order. A set that cannot
    /// be read is counted and passed over.
    ///
    /// # Errors
    /// If it is no message.
    pub fn read(
        &mut self,
        message: &[u8],
        mut sink: impl FnMut(&Record<'_>),
    ) -> Result<Header, Malformed> {
        let (header, sets) = Header::parse(message)?;
        self.statistics.messages += 1;
        let mut records = Some(0_u32);
        for set in sets {
            let read = match set {
                Ok(set) if matches!(set.id, TEMPLATE_SET | OPTIONS_TEMPLATE_SET) => {
                    self.read_templates(header.domain, set.id, set.body);
                    Some(0)
                }
                Ok(set) if set.id >= FIRST_TEMPLATE => {
                    self.read_data(header, set.id, set.body, &mut sink)
                }
                // Sets without meaning yet are passed over (RFC 7011 §3.3.2).
                Ok(_) => Some(0),
                Err(_) => None,
            };
            if read.is_none() {
                self.statistics.unread_sets += 1;
            }
            records = records.zip(read).map(|(sum, more)| sum.wrapping_add(more));
        }
        self.follow(header, records);
        Ok(header)
    }

    /// What was met so far.
    pub const fn statistics(&self) -> CollectorStatistics {
        self.statistics
    }

    /// The elements that the exporter described (RFC 5610), by enterprise and number.
    pub fn learned(&self) -> impl Iterator<Item = ((u32, u16), &Learned)> {
        self.known.learned()
    }

    /// Compares the message's number with the expected one (RFC 7011 §10.3.2).
    fn follow(&mut self, header: Header, records: Option<u32>) {
        let next = records.map(|records| header.sequence.wrapping_add(records));
        if let Some(expected) = self.expected.get_mut(&header.domain) {
            if let Some(expected) = *expected
                && expected != header.sequence
            {
                self.statistics.sequence_errors += 1;
                let ahead = header.sequence.wrapping_sub(expected);
                // More than half of all numbers ahead is behind: a message that came late.
                if ahead < 1 << 31 {
                    self.statistics.missing_records += u64::from(ahead);
                }
            }
            *expected = next;
        } else if self.expected.len() < self.limits.domains {
            self.expected.insert(header.domain, next);
        } else {
            self.statistics.beyond_limits += 1;
        }
    }

    fn read_templates(&mut self, domain: u32, set: u16, body: &[u8]) {
        let mut rest = body;
        // Fewer bytes than a record has are padding.
        while rest.len() >= 4 && rest.iter().any(|&byte| byte != 0) {
            let Ok((record, behind)) = TemplateRecord::parse(set, rest) else {
                self.statistics.unread_sets += 1;
                return;
            };
            rest = behind;
            match record {
                TemplateRecord::Defined(template) => self.remember(domain, template),
                TemplateRecord::Withdrawn(id) if id >= FIRST_TEMPLATE => {
                    self.forget((domain, id));
                }
                TemplateRecord::Withdrawn(_) => {
                    let options = set == OPTIONS_TEMPLATE_SET;
                    let all: Vec<(u32, u16)> = self
                        .templates
                        .iter()
                        .filter(|(key, template)| {
                            key.0 == domain && template.is_options() == options
                        })
                        .map(|(&key, _)| key)
                        .collect();
                    all.into_iter().for_each(|key| self.forget(key));
                }
            }
        }
    }

    fn remember(&mut self, domain: u32, template: Template) {
        let key = (domain, template.id);
        self.forget(key);
        let fields = self.template_fields + template.fields.len();
        if self.templates.len() >= self.limits.templates || fields > self.limits.fields {
            self.statistics.beyond_limits += 1;
            return;
        }
        self.template_fields = fields;
        self.templates.insert(key, template);
    }

    fn forget(&mut self, key: (u32, u16)) {
        if let Some(template) = self.templates.remove(&key) {
            self.template_fields -= template.fields.len();
        }
    }

    /// Reads the records of a set; `None` if it cannot be known how many there are.
    fn read_data(
        &mut self,
        header: Header,
        id: u16,
        body: &[u8],
        sink: &mut impl FnMut(&Record<'_>),
    ) -> Option<u32> {
        let template = self.templates.get(&(header.domain, id))?;
        let least = template.min_record_len();
        let mut rest = body;
        let mut records = 0;
        // What is shorter than any record is padding.
        while rest.len() >= least {
            let mut octets = Vec::with_capacity(template.fields.len());
            for field in &template.fields {
                let (value, behind) = split(field.len, rest)?;
                octets.push(value);
                rest = behind;
            }
            if template.is_options() && !self.known.learn(template, &octets, self.limits.elements) {
                self.statistics.beyond_limits += 1;
            }
            let fields = template.fields.iter().zip(&octets);
            let values = fields.map(|(&field, &bytes)| {
                let kind = self.known.kind(field);
                Value::parse(kind.unwrap_or(DataType::OctetArray), bytes)
            });
            let record = Record {
                header,
                template,
                values: values.collect(),
                known: &self.known,
            };
            sink(&record);
            self.statistics.records += 1;
            records += 1;
        }
        Some(records)
    }
}

/// Splits a value of this length off; `None` if the bytes end before.
fn split(len: u16, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if len != VARIABLE {
        return bytes.split_at_checked(len.into());
    }
    match bytes {
        [255, high, low, rest @ ..] => {
            rest.split_at_checked(u16::from_be_bytes([*high, *low]).into())
        }
        [255, ..] | [] => None,
        [short, rest @ ..] => rest.split_at_checked((*short).into()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::{String, ToString};
    use alloc::vec;

    use super::*;
    use crate::{HEADER_LEN, SET_HEADER_LEN};

    fn message(sequence: u32, sets: &[(u16, &[u8])]) -> Vec<u8> {
        let len = HEADER_LEN
            + sets
                .iter()
                .map(|(_, b)| SET_HEADER_LEN + b.len())
                .sum::<usize>();
        let header = Header {
            len: u16::try_from(len).unwrap(),
            export_time: 0,
            sequence,
            domain: 7,
        };
        let mut bytes = header.to_bytes().to_vec();
        for (id, body) in sets {
            bytes.extend_from_slice(&id.to_be_bytes());
            let len = u16::try_from(SET_HEADER_LEN + body.len()).unwrap();
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// Template 256: a port, a name of variable length, and element 5 of enterprise 9.
    const TEMPLATE: &[u8] = &[
        1, 0, 0, 3, 0, 7, 0, 2, 0, 96, 255, 255, 0x80, 5, 0, 1, 0, 0, 0, 9,
    ];
    const RECORD: &[u8] = &[0, 80, 2, b'h', b'i', 3];

    fn read(collector: &mut Collector, message: &[u8]) -> Vec<Vec<(String, String)>> {
        let mut records = Vec::new();
        collector
            .read(message, |record| {
                let fields = record
                    .fields()
                    .map(|(name, _, value)| (name.to_string(), alloc::format!("{value:?}")));
                records.push(fields.collect());
            })
            .unwrap();
        records
    }

    #[test]
    fn a_template_is_learned_and_its_records_are_read_padding_is_not() {
        let mut collector = Collector::new(CollectorLimits::default());
        let padded = [RECORD, RECORD, &[0, 0, 0]].concat();
        let records = read(
            &mut collector,
            &message(0, &[(2, TEMPLATE), (256, &padded)]),
        );
        let expected = [
            ("sourceTransportPort", "Unsigned(80)"),
            ("applicationName", "Text(\"hi\")"),
            ("9/5", "Octets([3])"),
        ]
        .map(|(name, value)| (name.to_string(), value.to_string()));
        assert_eq!(records, [&expected[..], &expected[..]]);
    }

    #[test]
    fn numbers_that_are_missing_are_counted() {
        let mut collector = Collector::new(CollectorLimits::default());
        read(
            &mut collector,
            &message(10, &[(2, TEMPLATE), (256, RECORD)]),
        );
        read(&mut collector, &message(11, &[(256, RECORD)]));
        assert_eq!(collector.statistics().sequence_errors, 0);
        read(&mut collector, &message(15, &[(256, RECORD)]));
        let statistics = collector.statistics();
        assert_eq!(
            (statistics.sequence_errors, statistics.missing_records),
            (1, 3)
        );
        // A set without template: the next number cannot be known, and is not an error.
        read(&mut collector, &message(16, &[(300, RECORD)]));
        read(&mut collector, &message(40, &[(256, RECORD)]));
        assert_eq!(collector.statistics().sequence_errors, 1);
    }

    #[test]
    fn withdrawn_templates_are_forgotten() {
        let mut collector = Collector::new(CollectorLimits::default());
        read(&mut collector, &message(0, &[(2, TEMPLATE)]));
        for withdrawal in [&[1, 0, 0, 0][..], &[0, 2, 0, 0]] {
            read(
                &mut collector,
                &message(0, &[(2, TEMPLATE), (2, withdrawal)]),
            );
            assert!(read(&mut collector, &message(0, &[(256, RECORD)])).is_empty());
        }
    }

    #[test]
    fn no_more_is_remembered_than_the_limits_allow() {
        let limits = CollectorLimits {
            templates: 2,
            fields: 4,
            domains: 1,
            elements: 0,
        };
        let mut collector = Collector::new(limits);
        let mut another = TEMPLATE.to_vec();
        another[1] = 1;
        read(&mut collector, &message(0, &[(2, TEMPLATE), (2, &another)]));
        assert_eq!(collector.templates.len(), 1);
        assert_eq!(collector.statistics().beyond_limits, 1);
    }

    #[test]
    fn an_element_that_was_described_has_its_name_and_type_from_then_on() {
        let mut collector = Collector::new(CollectorLimits::default());
        // Options template 257: scope 346 and 303; 339, 341.
        let options = [
            1, 1, 0, 4, 0, 2, 1, 90, 0, 4, 1, 47, 0, 2, 1, 83, 0, 1, 1, 85, 255, 255,
        ];
        let described = [0, 0, 0, 9, 0, 5, 1, 4, b't', b'e', b's', b't'];
        let sets: [(u16, &[u8]); 4] = [
            (2, TEMPLATE),
            (3, &options),
            (257, &described),
            (256, RECORD),
        ];
        let records = read(&mut collector, &message(0, &sets));
        let last = vec![("test".to_string(), "Unsigned(3)".to_string())];
        assert_eq!(records[1][2..], last);
    }
}
