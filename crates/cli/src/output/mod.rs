//! What is printed, one format a module.

pub mod schema;
