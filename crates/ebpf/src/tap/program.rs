//! The program of a filter: generated for its rules, and the first that a packet meets.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::choice::Choice;
use super::insn::{Assembler, Insn, Label, Operand, Reg, TooLong, op};
use super::layout::MARK;
use super::translate::{self, Exits, field, translate};
use super::{Error, sys};

/// Helpers of the kernel.
const MAP_LOOKUP: i32 = 1;
const TAIL_CALL: i32 = 12;
/// What a program returns that leaves the packet to the next one.
pub(crate) const NEXT: i32 = -1;

/// Offsets in `struct counters`.
const SEEN: i16 = 0;
const SEEN_BYTES: i16 = 8;
const OWN: i16 = 88;

/// Which way packets go through an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// The interface receives them: the machine behind a TAP device has sent them.
    Ingress = 0,
    /// The interface sends them: the machine behind a TAP device receives them.
    Egress = 1,
}

/// What the program refers to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Maps<'a> {
    pub(crate) counters: BorrowedFd<'a>,
    pub(crate) delivery: BorrowedFd<'a>,
}

/// Generates the instructions. `by_set` says that the addresses of a chosen packet have to be in the
/// set, too.
pub(crate) fn generate(
    choice: &Choice,
    hook: Hook,
    maps: Maps<'_>,
    by_set: bool,
) -> Result<Vec<Insn>, TooLong> {
    let mut to = Assembler::default();
    let (matched, unmatched) = (to.label(), to.label());
    to.mov(translate::CONTEXT, Reg::R1);
    count(&mut to, maps, unmatched);
    if *choice != Choice::default() {
        let exits = Exits { matched, unmatched };
        let plain = to.label();
        to.load(4, translate::DATA, translate::CONTEXT, field::DATA);
        to.load(4, Reg::R1, translate::CONTEXT, field::VLAN_PRESENT);
        to.jump_if(op::JEQ, Reg::R1, Operand::Value(0), plain);
        choose(choice, true, exits, &mut to);
        to.bind(plain);
        choose(choice, false, exits, &mut to);
    }
    to.bind(matched);
    to.mov(Reg::R1, translate::CONTEXT);
    to.map(Reg::R2, maps.delivery);
    to.set(Reg::R3, hook as u32 + if by_set { 2 } else { 0 });
    to.call(TAIL_CALL);
    to.bind(unmatched);
    to.set_signed(Reg::R0, NEXT);
    to.exit();
    to.finish()
}

/// Writes filter and rules, one behind the other: each is a program of its own, so one that looks
/// behind the packet's end does not match, and leaves it to the next.
fn choose(choice: &Choice, tagged: bool, exits: Exits, to: &mut Assembler) {
    if let Some(filter) = &choice.filter {
        let matched = to.label();
        let unmatched = exits.unmatched;
        translate(filter, tagged, Exits { matched, unmatched }, to);
        to.bind(matched);
    }
    let said = |include| match include {
        true => exits.matched,
        false => exits.unmatched,
    };
    for rule in &choice.rules {
        let matched = said(rule.include);
        match &rule.program {
            None => to.jump(matched),
            Some(program) => {
                let unmatched = to.label();
                translate(program, tagged, Exits { matched, unmatched }, to);
                to.bind(unmatched);
            }
        }
    }
    to.jump(said(choice.chooses_others()));
}

/// Counts the packet, and lets those go that a tap has put out.
fn count(to: &mut Assembler, maps: Maps<'_>, out: Label) {
    let foreign = to.label();
    to.set(Reg::R1, 0);
    to.store(4, Reg::R10, -4, Reg::R1);
    to.mov(Reg::R2, Reg::R10);
    to.add(Reg::R2, -4);
    to.map(Reg::R1, maps.counters);
    to.call(MAP_LOOKUP);
    to.jump_if64_value(op::JEQ, Reg::R0, 0, out);
    to.load(4, Reg::R1, translate::CONTEXT, field::MARK);
    to.jump_if(op::JNE, Reg::R1, Operand::Value(MARK), foreign);
    to.load(8, Reg::R1, Reg::R0, OWN);
    to.add(Reg::R1, 1);
    to.store(8, Reg::R0, OWN, Reg::R1);
    to.jump(out);
    to.bind(foreign);
    to.load(8, Reg::R1, Reg::R0, SEEN);
    to.add(Reg::R1, 1);
    to.store(8, Reg::R0, SEEN, Reg::R1);
    to.load(4, Reg::R2, translate::CONTEXT, field::LEN);
    to.load(8, Reg::R1, Reg::R0, SEEN_BYTES);
    to.add_register(Reg::R1, Reg::R2);
    to.store(8, Reg::R0, SEEN_BYTES, Reg::R1);
}

/// A filter in the kernel.
#[derive(Debug)]
pub(crate) struct Filter {
    program: OwnedFd,
}

impl Filter {
    /// Generates and loads the program for one direction.
    pub(crate) fn load(
        choice: &Choice,
        hook: Hook,
        maps: Maps<'_>,
        by_set: bool,
    ) -> Result<Self, Error> {
        let instructions = generate(choice, hook, maps, by_set)?;
        let program = sys::load_program(c"plumb_filter", &instructions)?;
        Ok(Self { program })
    }
}

impl AsFd for Filter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }
}
