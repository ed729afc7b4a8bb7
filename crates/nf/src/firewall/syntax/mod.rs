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
