//! `plumb schema`: the contract of `--json`.

use std::io::Write;

use crate::args::{Schema, SchemaName};
use crate::exit::Exit;
use crate::output::schema;

pub(super) fn run(args: Schema) -> anyhow::Result<Exit> {
    let text = match args.name {
        SchemaName::Trace => schema::trace(),
        SchemaName::Ping => schema::ping(),
        SchemaName::Firewall => schema::firewall(),
        SchemaName::Nat => schema::nat(),
        SchemaName::Flow => schema::flow(),
        SchemaName::Kpis => plumb_ipfix::table::kpis_markdown(),
        SchemaName::Tap => schema::tap(),
        SchemaName::Live => schema::live(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(Exit::Reached)
}
