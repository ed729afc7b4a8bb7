//! Programs that run in the Linux kernel, each beside its loader: [`flow`] keeps performance
//! indicators of TCP connections, [`dns`] of name lookups, [`tap`] mirrors packets of interfaces.
//!
//! The programs are C with CO-RE relocations, compiled by clang when this crate is built, so that
//! one binary fits every kernel. What a kernel refuses is left out, and said.

mod denied;
pub mod dns;
pub mod flow;
pub mod tap;
