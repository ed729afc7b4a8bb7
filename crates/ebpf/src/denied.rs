//! Whether a privilege is missing, or the verifier only does not like a program.

use std::io;

/// Says whether the kernel refused for want of a privilege: EPERM. The verifier's own refusal is
/// EACCES, and no capability helps against that.
pub(crate) fn is_unprivileged(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EPERM)
}

/// The same of an error of libbpf-rs, which has one kind for both numbers and gives neither but in
/// its text.
pub(crate) fn is_refused_unprivileged(error: &libbpf_rs::Error) -> bool {
    format!("{error:#}").ends_with(&io::Error::from_raw_os_error(libc::EPERM).to_string())
}

#[cfg(test)]
mod tests {
    use libbpf_rs::ErrorExt as _;

    use super::*;

    #[test]
    fn what_the_verifier_refuses_is_no_missing_privilege() {
        for (number, expected) in [(libc::EPERM, true), (libc::EACCES, false)] {
            assert_eq!(
                is_unprivileged(&io::Error::from_raw_os_error(number)),
                expected
            );
            let error = libbpf_rs::Error::from_raw_os_error(number);
            assert_eq!(is_refused_unprivileged(&error), expected, "{error:#}");
            let error = error.context("failed to load object");
            assert_eq!(is_refused_unprivileged(&error), expected, "{error:#}");
        }
    }
}
