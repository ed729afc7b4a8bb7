//! What a test says that this machine does not let run.

/// Says why a test does not run. Where everything has to run (`TESTS_NO_SKIP`) that is a failure.
pub(crate) fn skipped(reason: &str) {
    assert!(
        std::env::var_os("TESTS_NO_SKIP").is_none(),
        "this test cannot run: {reason}"
    );
    #[expect(clippy::print_stderr, reason = "nobody else says it")]
    {
        eprintln!("skipped: {reason}");
    }
}
