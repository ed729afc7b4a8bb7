//! What a chain is made of, as users write it.

use plumb_cli::command::chain::{from_line, from_toml, to_line};

/// Reads a text as the line and as the file of a chain, and writes what it has read as a line.
///
/// # Panics
/// If that line means something else, or a stage has no words.
pub fn chain(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    for stages in [from_line(text), from_toml(text)].into_iter().flatten() {
        assert!(stages.iter().all(|words| !words.is_empty()));
        assert_eq!(from_line(&to_line(&stages)), Ok(stages));
    }
}
