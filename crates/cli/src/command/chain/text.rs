//! Stages as they are written on a command line.

/// Splits a line into stages and those into words, as a shell does: at | and at blanks, unless they
/// are quoted.
///
/// # Errors
/// What is wrong and where, for what cannot mean anything here.
pub(super) fn split(text: &str) -> Result<Vec<Vec<String>>, String> {
    let mut stages = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut chars = text.chars().zip(1..);
    while let Some((c, column)) = chars.next() {
        let is_end = c.is_whitespace() || c == '|';
        if is_end && let (Some(word), Some(words)) = (word.take(), stages.last_mut()) {
            words.push(word);
        }
        match c {
            '|' => stages.push(Vec::new()),
            _ if is_end => {}
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(('\'', _)) => break,
                        Some((c, _)) => word.push(c),
                        None => return Err(unclosed(column)),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some(('"', _)) => break,
                        Some(('\\', _)) => match chars.next() {
                            Some((c @ ('"' | '\\' | '$' | '`'), _)) => word.push(c),
                            Some(('\n', _)) => {}
                            Some((c, _)) => word.extend(['\\', c]),
                            None => return Err(unclosed(column)),
                        },
                        Some((c @ ('$' | '`'), column)) => return Err(meaningless(c, column)),
                        Some((c, _)) => word.push(c),
                        None => return Err(unclosed(column)),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(('\n', _)) => {}
                Some((c, _)) => word.get_or_insert_default().push(c),
                None => {
                    return Err(format!(
                        "the \\ at character {column} has nothing behind it"
                    ));
                }
            },
            '<' | '>' | '&' | ';' | '(' | ')' | '$' | '`' => return Err(meaningless(c, column)),
            c => word.get_or_insert_default().push(c),
        }
    }
    if let (Some(word), Some(words)) = (word, stages.last_mut()) {
        words.push(word);
    }
    if let Some(empty) = stages.iter().position(Vec::is_empty) {
        return Err(if stages.len() == 1 {
            "a chain needs a stage, such as 'nat --outside 198.51.100.1'".to_owned()
        } else {
            format!(
                "stage {} is empty: something is missing beside a |",
                empty + 1
            )
        });
    }
    Ok(stages)
}

/// The line of which [`split`] makes these stages.
pub(super) fn join<'a>(stages: impl IntoIterator<Item = &'a [String]>) -> String {
    let mut line = String::new();
    for words in stages {
        if !line.is_empty() {
            line.push_str(" | ");
        }
        for (n, word) in words.iter().enumerate() {
            if n > 0 {
                line.push(' ');
            }
            line.push('\'');
            line.push_str(&word.replace('\'', r"'\''"));
            line.push('\'');
        }
    }
    line
}

fn unclosed(column: usize) -> String {
    format!("the quote at character {column} is not closed")
}

fn meaningless(c: char, column: usize) -> String {
    format!(
        "{c} at character {column} means nothing in a chain: quote it, or put it into sh -c '...'"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stages_are_split_as_a_shell_splits_them() {
        let split = |text| split(text).unwrap();
        assert_eq!(
            split(" nat --outside 1.2.3.4|impair\t--delay 20ms \n| count "),
            [
                vec!["nat", "--outside", "1.2.3.4"],
                vec!["impair", "--delay", "20ms"],
                vec!["count"]
            ]
        );
        assert_eq!(
            split(r#"exec -- sh -c 'a | b "c"' x'y'"z|" "" \| "\"\\\n" a\ b"#),
            [vec![
                "exec",
                "--",
                "sh",
                "-c",
                "a | b \"c\"",
                "xyz|",
                "",
                "|",
                "\"\\\\n",
                "a b"
            ]]
        );
        assert_eq!(split("a \\\n b"), [vec!["a", "b"]]);
        assert_eq!(split("'$x' \\$y \"\\$z\""), [vec!["$x", "$y", "$z"]]);
    }

    #[test]
    fn what_means_nothing_is_refused_where_it_stands() {
        for (text, complaint) in [
            ("", "needs a stage"),
            (" \n", "needs a stage"),
            ("nat |", "stage 2 is empty"),
            ("| nat", "stage 1 is empty"),
            ("a || b", "stage 2 is empty"),
            ("nat 'x", "the quote at character 5"),
            ("nat \"x\\", "the quote at character 5"),
            ("nat \\", "character 5"),
            ("nat < in", "< at character 5"),
            ("nat $X", "$ at character 5"),
            ("nat \"$X\"", "$ at character 6"),
            ("nat; count", "; at character 4"),
        ] {
            let error = split(text).unwrap_err();
            assert!(error.contains(complaint), "{text:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_was_joined_is_split_into_the_same(
            stages in proptest::collection::vec(proptest::collection::vec(".{0,8}", 1..5), 1..5),
        ) {
            let line = join(stages.iter().map(|words| &words[..]));
            prop_assert_eq!(split(&line), Ok(stages));
        }

        #[test]
        fn no_text_panics(text in "[ |'\"\\\\$a\n]{0,20}") {
            let _ = split(&text);
        }
    }
}
