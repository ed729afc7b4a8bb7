//! Named sets and maps.

use alloc::format;
use alloc::vec::Vec;

use super::super::ast::{Kind, Set};
use super::super::error::Complaint;
use super::super::field::Type;
use super::{Parsed, Parser};

impl Parser<'_> {
    /// A set or map, behind its word.
    pub(super) fn set(&mut self, is_map: bool) -> Parsed<Set> {
        let start = self.span();
        let name = self.name("the name of a set")?;
        self.expect_sign("{")?;
        let mut set = Set {
            name,
            is_map,
            key: Vec::new(),
            data: None,
            leads_to_verdicts: false,
            interval: false,
            dynamic: false,
            auto_merge: false,
            timeout: None,
            size: None,
            elements: Vec::new(),
            span: start,
        };
        loop {
            self.skip_ends();
            if self.take_sign("}") {
                break;
            }
            self.property(&mut set)?;
            self.end_of_statement()?;
        }
        set.span = start.to(self.last_span());
        if set.key.is_empty() {
            let help = "write `type ipv4_addr` or `typeof ip saddr`";
            return Err((start, Complaint::with_help("the set has no type", help)));
        }
        if is_map && set.data.is_none() && !set.leads_to_verdicts {
            let help = "write `type inet_service : verdict` or `typeof tcp dport : meta mark`";
            return Err((
                start,
                Complaint::with_help("the map leads to nothing", help),
            ));
        }
        Ok(set)
    }

    fn property(&mut self, set: &mut Set) -> Parsed<()> {
        let word = alloc::string::String::from(self.peek_word());
        let span = self.span();
        match &word[..] {
            "type" => {
                self.next();
                set.key = self.types()?;
                if set.is_map {
                    self.expect_sign(":")?;
                    if self.take_word("verdict") {
                        set.leads_to_verdicts = true;
                    } else {
                        set.data = self.types()?.pop();
                    }
                }
            }
            "typeof" => {
                self.next();
                set.key = self.operands()?.iter().map(|o| o.field.kind()).collect();
                if set.is_map {
                    self.expect_sign(":")?;
                    if self.take_word("verdict") {
                        set.leads_to_verdicts = true;
                    } else {
                        set.data = Some(self.operand()?.field.kind());
                    }
                }
            }
            "flags" => {
                self.next();
                loop {
                    let name = self.name("a flag")?;
                    match &name.node[..] {
                        "interval" => set.interval = true,
                        "dynamic" | "timeout" => set.dynamic = true,
                        "constant" => {}
                        word => {
                            let known = ["interval", "dynamic", "timeout", "constant"];
                            return Err((name.span, Complaint::unknown("flag", word, known)));
                        }
                    }
                    if !self.take_sign(",") {
                        break;
                    }
                }
            }
            "timeout" => {
                self.next();
                set.timeout = Some(self.time()?);
                set.dynamic = true;
            }
            "size" => {
                self.next();
                let size = self.number("a number of elements")?;
                match u32::try_from(size) {
                    Ok(size @ 1..=1_048_576) => set.size = Some(size),
                    _ => {
                        let what = "a set has room for 1 to 1048576 elements";
                        return Err((span, Complaint::new(what)));
                    }
                }
            }
            "auto-merge" => {
                self.next();
                set.auto_merge = true;
            }
            "comment" => {
                self.next();
                self.text("a comment in quotes")?;
            }
            "policy" => {
                self.next();
                let name = self.name("performance or memory")?;
                if !matches!(&name.node[..], "performance" | "memory") {
                    let known = ["performance", "memory"];
                    return Err((name.span, Complaint::unknown("policy", &name.node, known)));
                }
            }
            "elements" => {
                self.next();
                self.expect_sign("=")?;
                let elements = self.elements()?;
                set.elements.extend(elements);
            }
            _ => {
                let mut fault = self.expected("a property of the set");
                fault.1.help = "supported: type, typeof, flags, timeout, size, auto-merge, \
                                policy, elements, comment"
                    .into();
                return Err(fault);
            }
        }
        Ok(())
    }

    fn types(&mut self) -> Parsed<Vec<Kind>> {
        let mut kinds = Vec::new();
        loop {
            let name = self.name("a type")?;
            let found = Type::NAMED.iter().find(|(known, ..)| *known == name.node);
            let Some((_, of, bits)) = found else {
                let known = Type::NAMED.iter().map(|(known, ..)| *known);
                let mut complaint = Complaint::unknown("type", &name.node, known);
                complaint.help = format!("{}; or typeof FIELD", complaint.help);
                return Err((name.span, complaint));
            };
            kinds.push(Kind {
                of: *of,
                bits: *bits,
            });
            if !self.take_sign(".") {
                return Ok(kinds);
            }
        }
    }
}
