//! What there is to run machines with.

use std::process::Command;

use crate::{plumb, run};

/// The runners that work here, by the name that `--runner` has for them; the best comes first.
pub fn runners() -> Vec<&'static str> {
    let doctor = run(Command::new(plumb()).arg("doctor")).stdout;
    [
        ("embedded runner", "embedded"),
        ("Firecracker", "firecracker"),
        ("QEMU", "qemu"),
    ]
    .into_iter()
    .filter(|(check, _)| doctor.contains(&format!("ok      {check}")))
    .map(|(_, runner)| runner)
    .collect()
}
