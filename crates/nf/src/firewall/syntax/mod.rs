//! The language: a subset of what `nft -f` reads.

pub(crate) mod ast;
mod error;
pub(crate) mod field;
mod lexer;
mod parser;
mod print;
pub(crate) mod symbol;

pub use error::{Complaint, Error, Source};
pub(crate) use error::{Sources, Span, Spanned};
pub(crate) use parser::parse;

use alloc::string::String;
use alloc::vec::Vec;

/// Gives the files that a name in an `include` stands for; it is told the name of the file that asks,
/// and that name.
pub type Include<'a> = dyn FnMut(&str, &str) -> Result<Vec<Source>, String> + 'a;
