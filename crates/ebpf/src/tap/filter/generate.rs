//! From a condition to instructions.

use super::super::cbpf::{Instruction, Invalid, MAX_LEN, MEMORY_WORDS, Program, code};
use super::condition::{Comparison, Condition, Value};

/// What a filter returns that chooses a packet: how much of it, which here is all.
const CHOOSE: u32 = 262_144;

/// Writes the program.
pub(super) fn generate(condition: &Condition) -> Result<Program, Invalid> {
    let mut generator = Generator::default();
    let (yes, no) = (generator.label(), generator.label());
    generator.condition(condition, yes, no, None);
    generator.bind(yes);
    generator.push(Instruction::new(code::RET, CHOOSE));
    generator.bind(no);
    generator.push(Instruction::new(code::RET, 0));
    generator.finish()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label(usize);

#[derive(Debug, Default)]
struct Generator {
    instructions: Vec<Instruction>,
    labels: Vec<Option<usize>>,
    /// Jumps: the instruction, where it goes if the comparison holds, and if not.
    jumps: Vec<(usize, Label, Label)>,
    /// Words of memory in use.
    used: usize,
    overflow: bool,
}

/// What the accumulator holds, if that is known.
type Known<'a> = Option<&'a Value>;

impl Generator {
    fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    fn push(&mut self, instruction: Instruction) {
        if self.instructions.len() <= MAX_LEN {
            self.instructions.push(instruction);
        } else {
            self.overflow = true;
        }
    }

    /// Asks a condition, with the answers' labels. What the accumulator holds is `known`; what it
    /// will hold at each label is returned.
    fn condition<'a>(
        &mut self,
        condition: &'a Condition,
        yes: Label,
        no: Label,
        known: Known<'a>,
    ) -> (Known<'a>, Known<'a>) {
        match condition {
            Condition::Not(inner) => {
                let (on_yes, on_no) = self.condition(inner, no, yes, known);
                (on_no, on_yes)
            }
            Condition::All(parts) => {
                let (on_yes, on_no) = self.sequence(parts, known, |g, part, next, known| {
                    g.condition(part, next, no, known)
                });
                self.go_to(yes);
                (on_yes, on_no)
            }
            Condition::Any(parts) => {
                let (on_no, on_yes) = self.sequence(parts, known, |g, part, next, known| {
                    let (on_yes, on_no) = g.condition(part, yes, next, known);
                    (on_no, on_yes)
                });
                self.go_to(no);
                (on_yes, on_no)
            }
            Condition::Test {
                value,
                comparison,
                with,
            } => {
                if known != Some(value) {
                    self.load(value);
                }
                self.test(*comparison, Some(*with), yes, no);
                (Some(value), Some(value))
            }
            Condition::Compare {
                left,
                comparison,
                right,
            } => {
                self.operands(left, right);
                self.test(*comparison, None, yes, no);
                (None, None)
            }
        }
    }

    /// Asks conditions until one leaves; returns what is known behind the last, and where those go that leave.
    fn sequence<'a>(
        &mut self,
        parts: &'a [Condition],
        mut known: Known<'a>,
        mut ask: impl FnMut(&mut Self, &'a Condition, Label, Known<'a>) -> (Known<'a>, Known<'a>),
    ) -> (Known<'a>, Known<'a>) {
        let mut at_out: Option<Known<'a>> = None;
        for part in parts {
            let next = self.label();
            let (goes_on, leaves) = ask(self, part, next, known);
            self.bind(next);
            known = goes_on;
            at_out = Some(match at_out {
                None => leaves,
                Some(before) if before == leaves => leaves,
                Some(_) => None,
            });
        }
        (known, at_out.flatten())
    }

    fn go_to(&mut self, label: Label) {
        self.jumps.push((self.instructions.len(), label, label));
        self.push(Instruction::new(code::JMP | code::JA, 0));
    }

    /// Compares the accumulator with a constant, or with X.
    fn test(&mut self, comparison: Comparison, with: Option<u32>, yes: Label, no: Label) {
        let (operation, yes, no) = match comparison {
            Comparison::Equal => (code::JEQ, yes, no),
            Comparison::NotEqual => (code::JEQ, no, yes),
            Comparison::Greater => (code::JGT, yes, no),
            Comparison::LessOrEqual => (code::JGT, no, yes),
            Comparison::GreaterOrEqual => (code::JGE, yes, no),
            Comparison::Less => (code::JGE, no, yes),
            Comparison::SomeBits => (code::JSET, yes, no),
        };
        let from = if with.is_none() { code::X } else { 0 };
        self.jumps.push((self.instructions.len(), yes, no));
        let code = code::JMP | operation | from;
        self.push(Instruction::new(code, with.unwrap_or(0)));
    }

    /// Brings a value into the accumulator.
    fn load(&mut self, value: &Value) {
        match value {
            Value::Constant(constant) => self.push(Instruction::new(code::LD, *constant)),
            Value::Len => self.push(Instruction::new(code::LD | code::LEN, 0)),
            Value::At { offset, size } => {
                self.push(Instruction::new(
                    code::LD | code::ABS | width(*size),
                    *offset,
                ));
            }
            Value::BehindIp { ip, offset, size } => {
                self.push(Instruction::new(code::LDX | code::MSH | code::BYTE, *ip));
                let code = code::LD | code::IND | width(*size);
                self.push(Instruction::new(code, ip + offset));
            }
            Value::Indexed {
                base,
                behind_ip,
                index,
                size,
            } => {
                self.load(index);
                if *behind_ip {
                    self.push(Instruction::new(code::LDX | code::MSH | code::BYTE, *base));
                    self.push(Instruction::new(code::ALU | code::ADD | code::X, 0));
                }
                self.push(Instruction::new(code::MISC, 0));
                self.push(Instruction::new(code::LD | code::IND | width(*size), *base));
            }
            Value::Operation {
                operation,
                left,
                right,
            } => {
                if let Value::Constant(constant) = **right {
                    self.load(left);
                    self.push(Instruction::new(code::ALU | operation, constant));
                } else {
                    self.operands(left, right);
                    self.push(Instruction::new(code::ALU | operation | code::X, 0));
                }
            }
            Value::Negative(inner) => {
                self.load(inner);
                self.push(Instruction::new(code::ALU | code::NEG, 0));
            }
        }
    }

    /// Brings one value into the accumulator and the other into X.
    fn operands(&mut self, left: &Value, right: &Value) {
        self.load(left);
        let slot = self.used;
        if slot >= MEMORY_WORDS {
            self.overflow = true;
            return;
        }
        let place = u32::try_from(slot).unwrap_or(0);
        self.push(Instruction::new(code::ST, place));
        self.used += 1;
        self.load(right);
        self.used -= 1;
        self.push(Instruction::new(code::MISC, 0));
        self.push(Instruction::new(code::LD | code::MEM, place));
    }

    fn finish(mut self) -> Result<Program, Invalid> {
        if self.overflow {
            return Err(Invalid::Length(MAX_LEN + 1));
        }
        for (at, yes, no) in self.jumps {
            let skip = |label: Label| {
                let to = self.labels[label.0].unwrap_or(at + 1);
                u32::try_from(to - at - 1).unwrap_or(0)
            };
            let instruction = &mut self.instructions[at];
            if instruction.code == code::JMP | code::JA {
                instruction.k = skip(yes);
            } else {
                instruction.jump_true = skip(yes);
                instruction.jump_false = skip(no);
            }
        }
        Program::new(self.instructions)
    }
}

const fn width(size: u8) -> u16 {
    match size {
        1 => code::BYTE,
        2 => code::HALF,
        _ => 0,
    }
}
