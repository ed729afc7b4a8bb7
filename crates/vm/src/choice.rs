//! Which runner to take.

use crate::{Firecracker, Qemu, Runner, RunnerName, Unavailable, embedded};

/// All runners, the best first.
#[must_use]
pub fn runners() -> Vec<Box<dyn Runner>> {
    vec![
        Box::new(embedded::Embedded::default()),
        Box::new(Firecracker::default()),
        Box::new(Qemu::default()),
    ]
}

/// A runner that works here, and why it was chosen.
#[derive(Debug)]
pub struct Choice {
    /// The runner.
    pub runner: Box<dyn Runner>,
    /// What it uses, as [`Runner::check`] says.
    pub uses: String,
    /// The better ones, and why they cannot be used here.
    pub passed_over: Vec<(RunnerName, Unavailable)>,
}

/// Chooses the best runner that works here.
///
/// # Errors
/// If none does: all of them, with the reasons.
pub fn auto() -> Result<Choice, Vec<(RunnerName, Unavailable)>> {
    let mut passed_over = Vec::new();
    for runner in runners() {
        match runner.check() {
            Ok(uses) => {
                return Ok(Choice {
                    runner,
                    uses,
                    passed_over,
                });
            }
            Err(why) => passed_over.push((runner.name(), why)),
        }
    }
    Err(passed_over)
}
