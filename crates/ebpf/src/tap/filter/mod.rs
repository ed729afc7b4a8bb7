//! Filter expressions, as pcap-filter(7) has them: from text to a program of classic BPF.
//!
//! What an expression means is what libpcap 1.10 makes of it for Ethernet; a property test compares
//! the two, on packets of every kind. What needs more than the packet (names to be looked up, the
//! direction) or is for other links is refused, and says so.

mod address;
mod condition;
mod generate;
mod lexer;
mod names;
mod parser;
mod primitive;
#[cfg(test)]
mod tests;

use super::cbpf::{self, Program};

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is longer than anybody writes.
    #[error("a filter has {MAX_LEN} characters at most")]
    TooLong,
    /// It cannot be read.
    #[error("{what}, at character {at}")]
    Syntax {
        /// What is wrong.
        what: String,
        /// Where, from 1 on.
        at: usize,
    },
    /// The program would be too long.
    #[error("the filter becomes too long for the kernel: {0}")]
    Program(#[from] cbpf::Invalid),
}

/// Longest expression in bytes.
pub const MAX_LEN: usize = 65_536;
/// Deepest nesting of parentheses.
const MAX_DEPTH: u32 = 64;

/// Compiles an expression; an empty one chooses all, and is no program.
///
/// # Errors
/// If it is not a filter; the error says where and why.
pub fn compile(text: &str) -> Result<Option<Program>, Error> {
    if text.len() > MAX_LEN {
        return Err(Error::TooLong);
    }
    let tokens = lexer::tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let condition = parser::parse(&tokens, text.len())?;
    Ok(Some(generate::generate(&condition)?))
}
