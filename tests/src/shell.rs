//! Pipelines as people write them.

use std::process::{Command, Stdio};

use crate::{Directory, plumb};

/// A bash that runs a script in a directory of its own. `$P` is plumb; what only root has in its
/// path is found, too.
pub fn shell(script: &str, directory: &Directory) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new("bash");
    command
        .args(["-c", script])
        .env("P", plumb())
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .current_dir(directory.path())
        .stdin(Stdio::null());
    command
}
