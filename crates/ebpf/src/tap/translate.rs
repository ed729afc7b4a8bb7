//! From classic BPF to the kernel's machine.
//!
//! The packet that a filter sees is the one that the wire would carry: a VLAN tag that the kernel
//! keeps beside the packet is where it belongs, so a filter chooses the same packets here as
//! `tcpdump -r` does in the capture that is written.

use super::cbpf::{self, MEMORY_WORDS, Program, code};
use super::insn::{Assembler, Label, Operand, Reg, op};

/// Where a filter goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exits {
    pub(crate) matched: Label,
    pub(crate) unmatched: Label,
}

/// `struct __sk_buff` behind R6, which a filter must leave alone.
pub(crate) const CONTEXT: Reg = Reg::R6;
/// Start of the packet.
pub(crate) const DATA: Reg = Reg::R9;
const A: Reg = Reg::R7;
const X: Reg = Reg::R8;

/// Offsets in `struct __sk_buff`.
pub(crate) mod field {
    pub(crate) const LEN: i16 = 0;
    pub(crate) const MARK: i16 = 8;
    pub(crate) const VLAN_PRESENT: i16 = 20;
    pub(crate) const VLAN_TCI: i16 = 24;
    pub(crate) const VLAN_PROTO: i16 = 28;
    pub(crate) const DATA: i16 = 76;
    pub(crate) const DATA_END: i16 = 80;
}

/// Helpers of the kernel.
const SKB_LOAD_BYTES: i32 = 26;

/// Longest packet that is looked into, in bytes.
const MAX_OFFSET: i32 = 0x3_ffff;
/// Farthest from its start that the verifier lets a packet be read directly.
const MAX_DIRECT: i32 = 0x7fff;
/// Where the stack holds bytes that are copied out of a packet.
const SCRATCH: i16 = -80;

/// Where the stack holds a word of memory.
fn slot(k: u32) -> i16 {
    -8 - 4 * i16::try_from(k as usize % MEMORY_WORDS).unwrap_or(0)
}

/// Writes the program. `tagged` says that a VLAN tag is beside the packet.
pub(crate) fn translate(program: &Program, tagged: bool, exits: Exits, to: &mut Assembler) {
    let instructions = program.instructions();
    let labels: Vec<Label> = instructions.iter().map(|_| to.label()).collect();
    to.set(A, 0);
    to.set(X, 0);
    let uses_memory = instructions
        .iter()
        .any(|i| matches!(i.code & 7, code::ST | code::STX) || i.code & 0xe6 == code::MEM);
    if uses_memory {
        for k in 0..16 {
            to.store(4, Reg::R10, slot(k), A);
        }
    }
    let mut translation = Translation { to, tagged, exits };
    for (at, instruction) in instructions.iter().enumerate() {
        translation.to.bind(labels[at]);
        let target = |skip: u32| labels.get(at + 1 + skip as usize).copied();
        translation.instruction(instruction, target);
    }
}

struct Translation<'a> {
    to: &'a mut Assembler,
    tagged: bool,
    exits: Exits,
}

impl Translation<'_> {
    fn instruction(&mut self, i: &cbpf::Instruction, target: impl Fn(u32) -> Option<Label>) {
        let size = cbpf::size(i.code);
        let operand = if i.code & code::X == 0 {
            Operand::Value(i.k)
        } else {
            Operand::Register(X)
        };
        match i.code & 7 {
            class @ (code::LD | code::LDX) => {
                let into = if class == code::LD { A } else { X };
                match i.code & 0xe0 {
                    0 => self.to.set(into, i.k),
                    code::ABS => self.absolute(into, i.k, size),
                    code::IND => self.indirect(i.k, size),
                    code::MEM => self.to.load(4, into, Reg::R10, slot(i.k)),
                    code::LEN => {
                        self.to.load(4, into, CONTEXT, field::LEN);
                        if self.tagged {
                            self.to.alu32(op::ADD, into, Operand::Value(4));
                        }
                    }
                    _ => {
                        self.absolute(into, i.k, 1);
                        self.to.alu32(op::AND, into, Operand::Value(15));
                        self.to.alu32(op::LSH, into, Operand::Value(2));
                    }
                }
            }
            code::ST => self.to.store(4, Reg::R10, slot(i.k), A),
            code::STX => self.to.store(4, Reg::R10, slot(i.k), X),
            code::ALU => self.arithmetic(i.code & 0xf0, operand),
            code::JMP => self.jump(i, operand, target),
            code::RET if i.code & code::RET_A != 0 => {
                let zero = Operand::Value(0);
                self.to.jump_if(op::JEQ, A, zero, self.exits.unmatched);
                self.to.jump(self.exits.matched);
            }
            code::RET => self.to.jump(if i.k == 0 {
                self.exits.unmatched
            } else {
                self.exits.matched
            }),
            _ if i.code & code::TXA != 0 => self.to.mov32(A, X),
            _ => self.to.mov32(X, A),
        }
    }

    fn jump(
        &mut self,
        i: &cbpf::Instruction,
        operand: Operand,
        target: impl Fn(u32) -> Option<Label>,
    ) {
        let or_out = |label: Option<Label>| label.unwrap_or(self.exits.unmatched);
        let operation = match i.code & 0xf0 {
            code::JEQ => op::JEQ,
            code::JGT => op::JGT,
            code::JGE => op::JGE,
            code::JSET => op::JSET,
            _ => {
                self.to.jump(or_out(target(i.k)));
                return;
            }
        };
        let (yes, no) = (or_out(target(i.jump_true)), or_out(target(i.jump_false)));
        if operation == op::JEQ && i.jump_true == 0 {
            self.to.jump_if(op::JNE, A, operand, no);
            return;
        }
        self.to.jump_if(operation, A, operand, yes);
        if i.jump_false != 0 {
            self.to.jump(no);
        }
    }

    fn arithmetic(&mut self, operation: u16, operand: Operand) {
        let operation = match operation {
            code::ADD => op::ADD,
            code::SUB => op::SUB,
            code::MUL => op::MUL,
            code::OR => op::OR,
            code::AND => op::AND,
            code::XOR => op::XOR,
            code::NEG => {
                self.to.alu32(op::NEG, A, Operand::Value(0));
                return;
            }
            code::DIV | code::MOD => {
                if let Operand::Register(x) = operand {
                    let zero = Operand::Value(0);
                    self.to.jump_if(op::JEQ, x, zero, self.exits.unmatched);
                }
                if operation == code::DIV {
                    op::DIV
                } else {
                    op::MOD
                }
            }
            shift => {
                return self.shift(if shift == code::LSH { op::LSH } else { op::RSH }, operand);
            }
        };
        self.to.alu32(operation, A, operand);
    }

    /// The machine takes the lower five bits of how far; a filter means all of it.
    fn shift(&mut self, operation: u8, operand: Operand) {
        match operand {
            Operand::Value(32..) => self.to.set(A, 0),
            Operand::Value(_) => self.to.alu32(operation, A, operand),
            Operand::Register(x) => {
                let (small, done) = (self.to.label(), self.to.label());
                self.to.jump_if(op::JGT, x, Operand::Value(31), small);
                self.to.alu32(operation, A, operand);
                self.to.jump(done);
                self.to.bind(small);
                self.to.set(A, 0);
                self.to.bind(done);
            }
        }
    }

    /// Loads from a place that is known.
    fn absolute(&mut self, into: Reg, k: u32, size: u8) {
        if !self.tagged || k.saturating_add(size.into()) <= TAG_AT {
            self.untagged(into, k, size);
        } else if k >= TAG_AT + TAG_LEN {
            self.untagged(into, k - TAG_LEN, size);
        } else {
            self.to.set(into, 0);
            for at in k..k + u32::from(size) {
                match at {
                    12 | 13 => {
                        self.to.load(4, Reg::R1, CONTEXT, field::VLAN_PROTO);
                        self.to.network_order(Reg::R1, 2);
                    }
                    14 | 15 => self.to.load(4, Reg::R1, CONTEXT, field::VLAN_TCI),
                    ..TAG_AT => self.untagged(Reg::R1, at, 1),
                    _ => self.untagged(Reg::R1, at - TAG_LEN, 1),
                }
                if at == 12 || at == 14 {
                    self.to.alu32(op::RSH, Reg::R1, Operand::Value(8));
                }
                self.to.alu32(op::AND, Reg::R1, Operand::Value(0xff));
                self.to.alu32(op::LSH, into, Operand::Value(8));
                self.to.alu32(op::OR, into, Operand::Register(Reg::R1));
            }
        }
    }

    fn untagged(&mut self, into: Reg, k: u32, size: u8) {
        let done = self.to.label();
        if let Ok(offset) = i16::try_from(k)
            && let Some(end) = offset.checked_add(size.into())
        {
            let slow = self.to.label();
            self.to.mov(Reg::R1, DATA);
            self.to.add(Reg::R1, end.into());
            self.to.load(4, Reg::R2, CONTEXT, field::DATA_END);
            self.to.jump_if64(op::JGT, Reg::R1, Reg::R2, slow);
            self.to.load(size, into, DATA, offset);
            self.to.network_order(into, size);
            self.to.jump(done);
            self.to.bind(slow);
        }
        self.to.set(Reg::R2, k);
        self.copy(into, size);
        self.to.bind(done);
    }

    /// Loads from behind X.
    fn indirect(&mut self, k: u32, size: u8) {
        let Ok(k) = i32::try_from(k) else {
            self.to.jump(self.exits.unmatched);
            return;
        };
        let done = self.to.label();
        if !self.tagged {
            self.behind(k, size, done);
            self.to.bind(done);
            return;
        }
        let (before, behind) = (self.to.label(), self.to.label());
        self.to.mov(Reg::R1, X);
        self.to.add(Reg::R1, k);
        let end = 16;
        self.to.jump_if64_value(op::JGE, Reg::R1, end, behind);
        let before_tag = 12 - i32::from(size);
        let within = self.to.label();
        self.to
            .jump_if64_value(op::JGT, Reg::R1, before_tag, within);
        self.to.jump(before);
        self.to.bind(within);
        // A part of it is in the tag.
        self.to.set(A, 0);
        for byte in 0..i32::from(size) {
            self.byte(k, byte);
        }
        self.to.jump(done);
        self.to.bind(before);
        self.behind(k, size, done);
        self.to.bind(behind);
        self.to.mov(Reg::R1, X);
        self.to.add(Reg::R1, k);
        self.to.add(Reg::R1, -4);
        self.at_r1(size, done);
        self.to.bind(done);
    }

    /// Appends the byte at `X + k + byte` of a packet with its tag to A.
    fn byte(&mut self, k: i32, byte: i32) {
        let (tag, behind, copy, append) = (
            self.to.label(),
            self.to.label(),
            self.to.label(),
            self.to.label(),
        );
        self.to.mov(Reg::R2, X);
        self.to.add(Reg::R2, k);
        self.to.add(Reg::R2, byte);
        self.to.jump_if64_value(op::JGE, Reg::R2, 16, behind);
        self.to.jump_if64_value(op::JGE, Reg::R2, 12, tag);
        self.to.jump(copy);
        self.to.bind(behind);
        self.to.add(Reg::R2, -4);
        self.to.bind(copy);
        self.copy(Reg::R1, 1);
        self.to.jump(append);
        self.to.bind(tag);
        // Protocol and tag as one word, of which the byte is shifted down.
        self.to.load(4, Reg::R1, CONTEXT, field::VLAN_PROTO);
        self.to.network_order(Reg::R1, 2);
        self.to.alu32(op::LSH, Reg::R1, Operand::Value(16));
        self.to.load(4, Reg::R3, CONTEXT, field::VLAN_TCI);
        self.to.alu32(op::AND, Reg::R3, Operand::Value(0xffff));
        self.to.alu32(op::OR, Reg::R1, Operand::Register(Reg::R3));
        self.to.set(Reg::R3, 15);
        self.to.alu32(op::SUB, Reg::R3, Operand::Register(Reg::R2));
        self.to.alu32(op::LSH, Reg::R3, Operand::Value(3));
        self.to.alu32(op::RSH, Reg::R1, Operand::Register(Reg::R3));
        self.to.alu32(op::AND, Reg::R1, Operand::Value(0xff));
        self.to.bind(append);
        self.to.alu32(op::LSH, A, Operand::Value(8));
        self.to.alu32(op::OR, A, Operand::Register(Reg::R1));
    }

    fn behind(&mut self, k: i32, size: u8, done: Label) {
        self.to.mov(Reg::R1, X);
        self.to.add(Reg::R1, k);
        self.at_r1(size, done);
    }

    /// Loads from the offset in R1 into A, and goes on at `done`.
    fn at_r1(&mut self, size: u8, done: Label) {
        let slow = self.to.label();
        self.to.mov(Reg::R4, Reg::R1);
        self.to.jump_if64_value(op::JGT, Reg::R1, MAX_DIRECT, slow);
        self.to.mov(Reg::R2, DATA);
        self.to.add_register(Reg::R2, Reg::R1);
        self.to.mov(Reg::R3, Reg::R2);
        self.to.add(Reg::R3, size.into());
        self.to.load(4, Reg::R0, CONTEXT, field::DATA_END);
        self.to.jump_if64(op::JGT, Reg::R3, Reg::R0, slow);
        self.to.load(size, A, Reg::R2, 0);
        self.to.network_order(A, size);
        self.to.jump(done);
        self.to.bind(slow);
        self.to.mov(Reg::R2, Reg::R4);
        self.copy(A, size);
        self.to.jump(done);
    }

    /// Copies bytes from the offset in R2, wherever the kernel has them.
    fn copy(&mut self, into: Reg, size: u8) {
        let unmatched = self.exits.unmatched;
        self.to
            .jump_if64_value(op::JGT, Reg::R2, MAX_OFFSET, unmatched);
        self.to.mov(Reg::R1, CONTEXT);
        self.to.mov(Reg::R3, Reg::R10);
        self.to.add(Reg::R3, SCRATCH.into());
        self.to.set(Reg::R4, size.into());
        self.to.call(SKB_LOAD_BYTES);
        self.to.jump_if64_value(op::JNE, Reg::R0, 0, unmatched);
        self.to.load(size, into, Reg::R10, SCRATCH);
        self.to.network_order(into, size);
    }
}

/// A tag is behind the two addresses.
const TAG_AT: u32 = 12;
const TAG_LEN: u32 = 4;
