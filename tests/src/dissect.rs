//! What tshark reads.

use std::path::Path;
use std::process::Command;

use crate::run;

/// What tshark reads in a capture or file: the values of each of these fields, in their order.
pub fn dissect(path: impl AsRef<Path>, options: &[&str], fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(path.as_ref());
    command.args(["-T", "fields", "-E", "separator=|"]);
    command.args(["-E", "aggregator=;"]).args(options);
    for field in fields {
        command.args(["-e", field]);
    }
    let done = run(&mut command).expect(0);
    let mut columns = vec![Vec::new(); fields.len()];
    for line in done.stdout.lines() {
        for (column, values) in columns.iter_mut().zip(line.split('|')) {
            let values = values.split(';').filter(|value| !value.is_empty());
            column.extend(values.map(str::to_owned));
        }
    }
    columns
}
