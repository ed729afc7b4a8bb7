//! Instructions of the kernel's machine (RFC 9669), and an assembler with labels.

use std::os::fd::{AsRawFd, BorrowedFd};

/// An instruction, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Insn {
    pub(crate) code: u8,
    /// Destination in the low half, source in the high one.
    pub(crate) registers: u8,
    pub(crate) offset: i16,
    pub(crate) immediate: i32,
}

/// A register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R6 = 6,
    R7,
    R8,
    R9,
    R10,
}

/// A place in a program that may not be known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Label(usize);

/// Operations, as both arithmetic classes have them.
pub(crate) mod op {
    pub(crate) const ADD: u8 = 0x00;
    pub(crate) const SUB: u8 = 0x10;
    pub(crate) const MUL: u8 = 0x20;
    pub(crate) const DIV: u8 = 0x30;
    pub(crate) const OR: u8 = 0x40;
    pub(crate) const AND: u8 = 0x50;
    pub(crate) const LSH: u8 = 0x60;
    pub(crate) const RSH: u8 = 0x70;
    pub(crate) const NEG: u8 = 0x80;
    pub(crate) const MOD: u8 = 0x90;
    pub(crate) const XOR: u8 = 0xa0;
    pub(crate) const MOV: u8 = 0xb0;

    pub(crate) const JEQ: u8 = 0x10;
    pub(crate) const JGT: u8 = 0x20;
    pub(crate) const JGE: u8 = 0x30;
    pub(crate) const JSET: u8 = 0x40;
    pub(crate) const JNE: u8 = 0x50;
}

const ALU32: u8 = 0x04;
const JMP: u8 = 0x05;
const JMP32: u8 = 0x06;
const ALU64: u8 = 0x07;
const FROM_REGISTER: u8 = 0x08;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// A load of 64 bits, which takes the room of two instructions.
const LOAD_ADDRESS: u8 = 0x18;

/// What a jump compares a register with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operand {
    Register(Reg),
    /// 32 bits; compared as such.
    Value(u32),
}

/// The program is longer than its jumps can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter is too long for the kernel: {0} instructions")]
pub struct TooLong(pub usize);

/// Writes a program from start to end.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    insns: Vec<Insn>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub(crate) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts a label here.
    pub(crate) fn bind(&mut self, label: Label) {
        self.labels[label.0] = Some(self.insns.len());
    }

    fn push(&mut self, code: u8, dst: Reg, src: u8, offset: i16, immediate: i32) {
        self.insns.push(Insn {
            code,
            registers: dst as u8 | src << 4,
            offset,
            immediate,
        });
    }

    pub(crate) fn mov(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | FROM_REGISTER | op::MOV, dst, src as u8, 0, 0);
    }

    /// Copies the lower half, and clears the upper one.
    pub(crate) fn mov32(&mut self, dst: Reg, src: Reg) {
        self.push(ALU32 | FROM_REGISTER | op::MOV, dst, src as u8, 0, 0);
    }

    pub(crate) fn set(&mut self, dst: Reg, value: u32) {
        self.push(ALU32 | op::MOV, dst, 0, 0, value.cast_signed());
    }

    /// Sets all 64 bits from a signed number.
    pub(crate) fn set_signed(&mut self, dst: Reg, value: i32) {
        self.push(ALU64 | op::MOV, dst, 0, 0, value);
    }

    /// 64 bits.
    pub(crate) fn add(&mut self, dst: Reg, value: i32) {
        self.push(ALU64 | op::ADD, dst, 0, 0, value);
    }

    /// 64 bits.
    pub(crate) fn add_register(&mut self, dst: Reg, src: Reg) {
        self.push(ALU64 | FROM_REGISTER | op::ADD, dst, src as u8, 0, 0);
    }

    /// An operation on 32 bits.
    pub(crate) fn alu32(&mut self, operation: u8, dst: Reg, operand: Operand) {
        match operand {
            Operand::Register(src) => {
                self.push(ALU32 | FROM_REGISTER | operation, dst, src as u8, 0, 0);
            }
            Operand::Value(value) => {
                self.push(ALU32 | operation, dst, 0, 0, value.cast_signed());
            }
        }
    }

    /// Brings `size` bytes from network byte order into the machine's.
    pub(crate) fn network_order(&mut self, dst: Reg, size: u8) {
        if size > 1 {
            self.push(ALU32 | FROM_REGISTER | 0xd0, dst, 0, 0, i32::from(size) * 8);
        }
    }

    /// Loads `size` bytes.
    pub(crate) fn load(&mut self, size: u8, dst: Reg, src: Reg, offset: i16) {
        self.push(0x61 | width(size), dst, src as u8, offset, 0);
    }

    /// Stores `size` bytes.
    pub(crate) fn store(&mut self, size: u8, dst: Reg, offset: i16, src: Reg) {
        self.push(0x63 | width(size), dst, src as u8, offset, 0);
    }

    pub(crate) fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP, Reg::R0, 0, 0, 0);
    }

    /// Jumps where two 64-bit registers compare like this.
    pub(crate) fn jump_if64(&mut self, operation: u8, a: Reg, b: Reg, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP | FROM_REGISTER | operation, a, b as u8, 0, 0);
    }

    /// Jumps where a 64-bit register compares like this with a small number.
    pub(crate) fn jump_if64_value(&mut self, operation: u8, a: Reg, value: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(JMP | operation, a, 0, 0, value);
    }

    /// Jumps where 32 bits compare like this.
    pub(crate) fn jump_if(&mut self, operation: u8, a: Reg, operand: Operand, to: Label) {
        self.jumps.push((self.insns.len(), to));
        match operand {
            Operand::Register(b) => {
                self.push(JMP32 | FROM_REGISTER | operation, a, b as u8, 0, 0);
            }
            Operand::Value(value) => {
                self.push(JMP32 | operation, a, 0, 0, value.cast_signed());
            }
        }
    }

    pub(crate) fn call(&mut self, helper: i32) {
        self.push(CALL, Reg::R0, 0, 0, helper);
    }

    pub(crate) fn exit(&mut self) {
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// Loads the address of a map.
    pub(crate) fn map(&mut self, dst: Reg, map: BorrowedFd<'_>) {
        self.push(LOAD_ADDRESS, dst, 1, 0, map.as_raw_fd());
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// The program, without what is never reached, which the verifier would refuse.
    pub(crate) fn finish(self) -> Result<Vec<Insn>, TooLong> {
        let len = self.insns.len();
        // Jumps go forward only.
        let mut targets = vec![None; len];
        for (at, label) in self.jumps {
            targets[at] = Some(self.labels[label.0].unwrap_or(len));
        }
        let mut is_reached = vec![false; len + 1];
        is_reached[0] = true;
        for (at, insn) in self.insns.iter().enumerate() {
            if is_reached[at] {
                is_reached[at + 1] |= !matches!(insn.code, JMP | EXIT);
                if let Some(to) = targets[at] {
                    is_reached[to] = true;
                }
            }
        }
        let mut places = Vec::with_capacity(len + 1);
        let mut count = 0;
        for reached in &is_reached {
            places.push(count);
            count += usize::from(*reached);
        }
        let mut kept = Vec::with_capacity(count);
        for (at, mut insn) in self.insns.into_iter().enumerate() {
            if !is_reached[at] {
                continue;
            }
            if let Some(to) = targets[at] {
                let offset = places[to] - places[at] - 1;
                insn.offset = i16::try_from(offset).map_err(|_| TooLong(places[len]))?;
            }
            kept.push(insn);
        }
        Ok(kept)
    }
}

const fn width(size: u8) -> u8 {
    match size {
        1 => 0x10,
        2 => 0x08,
        8 => 0x18,
        _ => 0x00,
    }
}
