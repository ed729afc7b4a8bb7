//! Classic BPF, the language that packet filters are written in since 1992 (bpf(4)): what an
//! expression is compiled to, and what `tcpdump -ddd` prints.

use core::fmt;
use core::str::FromStr;

/// Instructions that a program has at most (BPF_MAXINSNS).
pub const MAX_LEN: usize = 4096;
/// Words of memory that a program has.
pub const MEMORY_WORDS: usize = 16;

/// Classes and modes of an instruction's code.
pub mod code {
    pub(crate) const LD: u16 = 0;
    pub(crate) const LDX: u16 = 1;
    pub(crate) const ST: u16 = 2;
    pub(crate) const STX: u16 = 3;
    pub(crate) const ALU: u16 = 4;
    pub(crate) const JMP: u16 = 5;
    pub(crate) const RET: u16 = 6;
    pub(crate) const MISC: u16 = 7;

    pub(crate) const HALF: u16 = 0x08;
    pub(crate) const BYTE: u16 = 0x10;

    pub(crate) const ABS: u16 = 0x20;
    pub(crate) const IND: u16 = 0x40;
    pub(crate) const MEM: u16 = 0x60;
    pub(crate) const LEN: u16 = 0x80;
    pub(crate) const MSH: u16 = 0xa0;

    pub(crate) const X: u16 = 0x08;
    pub(crate) const RET_A: u16 = 0x10;

    pub(crate) const ADD: u16 = 0x00;
    pub(crate) const SUB: u16 = 0x10;
    pub(crate) const MUL: u16 = 0x20;
    pub(crate) const DIV: u16 = 0x30;
    pub(crate) const OR: u16 = 0x40;
    pub(crate) const AND: u16 = 0x50;
    pub(crate) const LSH: u16 = 0x60;
    pub(crate) const RSH: u16 = 0x70;
    pub(crate) const NEG: u16 = 0x80;
    pub(crate) const MOD: u16 = 0x90;
    pub(crate) const XOR: u16 = 0xa0;

    pub(crate) const JA: u16 = 0x00;
    pub(crate) const JEQ: u16 = 0x10;
    pub(crate) const JGT: u16 = 0x20;
    pub(crate) const JGE: u16 = 0x30;
    pub(crate) const JSET: u16 = 0x40;

    pub(crate) const TXA: u16 = 0x80;
}

/// An instruction. Jumps have 32 bits, so that a program of any length needs no detours; what is
/// read from other programs has 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What is done.
    pub code: u16,
    /// Instructions to skip if a comparison holds.
    pub jump_true: u32,
    /// Instructions to skip if it does not.
    pub jump_false: u32,
    /// Operand.
    pub k: u32,
}

impl Instruction {
    /// One that goes on with the next.
    pub const fn new(code: u16, k: u32) -> Self {
        Self {
            code,
            jump_true: 0,
            jump_false: 0,
            k,
        }
    }
}

/// A program that ends on every input: jumps go forward, memory is within bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(Vec<Instruction>);

/// Why instructions are no program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It is empty, or too long.
    #[error("a filter program has 1 to {MAX_LEN} instructions, not {0}")]
    Length(usize),
    /// The instruction of this number does not exist, jumps out of the program, or uses memory that
    /// is not there.
    #[error("instruction {0} of the filter program is not valid")]
    Instruction(usize),
    /// The last instruction goes on.
    #[error("the filter program does not end with a return")]
    NoReturn,
    /// The text is not what tcpdump -ddd prints.
    #[error("expected the output of `tcpdump -ddd`: a count, then four numbers a line")]
    Text,
}

impl Program {
    /// Checks instructions.
    ///
    /// # Errors
    /// If running them might not end, or touch what is not there.
    pub fn new(instructions: Vec<Instruction>) -> Result<Self, Invalid> {
        let len = instructions.len();
        if len == 0 || len > MAX_LEN {
            return Err(Invalid::Length(len));
        }
        for (at, instruction) in instructions.iter().enumerate() {
            let left = u32::try_from(len - at - 1).unwrap_or(0);
            if !is_valid(instruction, left) {
                return Err(Invalid::Instruction(at));
            }
        }
        match instructions.last() {
            Some(last) if last.code & 7 == code::RET => Ok(Self(instructions)),
            _ => Err(Invalid::NoReturn),
        }
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Runs it on a packet of which `data` is known and which has `len` bytes; 0 is no match. A load
    /// outside of `data` ends it with 0, as does a division by zero.
    pub fn run(&self, data: &[u8], len: u32) -> u32 {
        let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; MEMORY_WORDS]);
        let mut at = 0;
        while let Some(i) = self.0.get(at) {
            at += 1;
            let slot = i.k as usize % MEMORY_WORDS;
            match i.code & 7 {
                code::LD | code::LDX => {
                    let size = size(i.code);
                    let value = match i.code & 0xe0 {
                        0 => Some(i.k),
                        code::ABS => load(data, u64::from(i.k), size),
                        code::IND => load(data, u64::from(i.k) + u64::from(x), size),
                        code::MEM => Some(memory[slot]),
                        code::LEN => Some(len),
                        _ => load(data, u64::from(i.k), 1).map(|byte| (byte & 15) << 2),
                    };
                    let Some(value) = value else { return 0 };
                    if i.code & 7 == code::LD {
                        a = value;
                    } else {
                        x = value;
                    }
                }
                code::ST => memory[slot] = a,
                code::STX => memory[slot] = x,
                code::ALU => {
                    let operand = if i.code & code::X == 0 { i.k } else { x };
                    let Some(result) = arithmetic(i.code & 0xf0, a, operand) else {
                        return 0;
                    };
                    a = result;
                }
                code::JMP => {
                    let operand = if i.code & code::X == 0 { i.k } else { x };
                    let holds = match i.code & 0xf0 {
                        code::JEQ => a == operand,
                        code::JGT => a > operand,
                        code::JGE => a >= operand,
                        code::JSET => a & operand != 0,
                        _ => {
                            at += i.k as usize;
                            continue;
                        }
                    };
                    at += if holds { i.jump_true } else { i.jump_false } as usize;
                }
                code::RET => return if i.code & code::RET_A != 0 { a } else { i.k },
                _ if i.code & code::TXA != 0 => a = x,
                _ => x = a,
            }
        }
        0
    }
}

/// Bytes that a load takes.
pub(crate) const fn size(code: u16) -> u8 {
    match code & 0x18 {
        code::HALF => 2,
        code::BYTE => 1,
        _ => 4,
    }
}

fn load(data: &[u8], at: u64, size: u8) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let bytes = data.get(at..at.checked_add(usize::from(size))?)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
    )
}

/// What an operation gives; shifts by more than there are bits give 0.
pub(crate) fn arithmetic(operation: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match operation {
        code::ADD => a.wrapping_add(operand),
        code::SUB => a.wrapping_sub(operand),
        code::MUL => a.wrapping_mul(operand),
        code::DIV => a.checked_div(operand)?,
        code::MOD => a.checked_rem(operand)?,
        code::OR => a | operand,
        code::AND => a & operand,
        code::XOR => a ^ operand,
        code::LSH => a.checked_shl(operand).unwrap_or(0),
        code::RSH => a.checked_shr(operand).unwrap_or(0),
        _ => a.wrapping_neg(),
    })
}

fn is_valid(i: &Instruction, left: u32) -> bool {
    let mode = i.code & 0xe0;
    let in_memory = (i.k as usize) < MEMORY_WORDS;
    match i.code & 7 {
        code::LD => match mode {
            code::ABS | code::IND => i.code & 0x18 != 0x18 && i.code < 0x100,
            code::MEM => i.code == code::LD | code::MEM && in_memory,
            0 | code::LEN => i.code & !0xe7 == 0,
            _ => false,
        },
        code::LDX => match mode {
            code::MSH => i.code == code::LDX | code::MSH | code::BYTE,
            code::MEM => i.code == code::LDX | code::MEM && in_memory,
            0 | code::LEN => i.code & !0xe7 == 0,
            _ => false,
        },
        code::ST | code::STX => i.code < 8 && in_memory,
        code::ALU => {
            let by_zero = matches!(i.code & 0xf8, code::DIV | code::MOD) && i.k == 0;
            i.code & 0xf0 <= code::XOR && i.code < 0x100 && !by_zero
        }
        code::JMP => match i.code & 0xf0 {
            code::JA => i.code == code::JMP && i.k < left,
            0x10..=0x40 => i.code < 0x100 && i.jump_true < left && i.jump_false < left,
            _ => false,
        },
        code::RET => i.code == code::RET || i.code == code::RET | code::RET_A,
        _ => i.code == code::MISC || i.code == code::MISC | code::TXA,
    }
}

impl FromStr for Program {
    type Err = Invalid;

    /// Reads what `tcpdump -ddd` prints; commas do for newlines.
    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut lines = text
            .split(['\n', ','])
            .map(str::trim)
            .filter(|line| !line.is_empty());
        let count: usize = lines
            .next()
            .and_then(|line| line.parse().ok())
            .ok_or(Invalid::Text)?;
        let mut instructions = Vec::new();
        for line in lines {
            let mut numbers = line.split_whitespace().map(str::parse::<u32>);
            let (Some(Ok(code)), Some(Ok(jt)), Some(Ok(jf)), Some(Ok(k)), None) = (
                numbers.next(),
                numbers.next(),
                numbers.next(),
                numbers.next(),
                numbers.next(),
            ) else {
                return Err(Invalid::Text);
            };
            if instructions.len() == MAX_LEN {
                return Err(Invalid::Length(count));
            }
            instructions.push(Instruction {
                code: u16::try_from(code).map_err(|_| Invalid::Text)?,
                jump_true: jt,
                jump_false: jf,
                k,
            });
        }
        if instructions.len() != count {
            return Err(Invalid::Text);
        }
        Self::new(instructions)
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.0.len())?;
        for i in &self.0 {
            writeln!(f, "{} {} {} {}", i.code, i.jump_true, i.jump_false, i.k)?;
        }
        Ok(())
    }
}
