//! The known word that an unknown one was probably meant to be.

/// The candidate that takes the fewest edits to reach from `word`.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .min_by_key(|candidate| distance(word.as_bytes(), candidate.as_bytes()))
}

/// Levenshtein distance.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_the_word_that_was_meant() {
        let keys = ["rate", "max-hops", "wait", "window"];
        for (word, meant) in [
            ("rat", "rate"),
            ("maxhops", "max-hops"),
            ("wat", "wait"),
            ("windows", "window"),
        ] {
            assert_eq!(nearest(word, keys), Some(meant));
        }
        assert_eq!(nearest("x", []), None);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
