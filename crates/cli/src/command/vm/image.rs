//! `plumb vm image`: what machines boot.

use std::io::{self, Write};

use plumb_vm::{IMAGE, image};
use serde::Serialize;

use crate::args::VmImage;
use crate::exit::{Exit, Failure};
use crate::output::ndjson::write_record;

/// What there is to know of an image.
#[derive(Debug, Serialize)]
struct Description {
    /// Bytes of the file.
    bytes: usize,
    sha256: String,
    /// Where the 64-bit Linux boot protocol enters.
    linux_entry: String,
    /// Where PVH enters.
    pvh_entry: Option<String>,
    sections: Vec<Section>,
}

#[derive(Debug, Serialize)]
struct Section {
    name: String,
    address: String,
    bytes: u64,
    /// False for what only takes memory.
    in_file: bool,
}

pub(super) fn run(args: &VmImage) -> anyhow::Result<Exit> {
    if IMAGE.is_empty() {
        return Err(Failure::usage("there is no image: plumb was not built for x86-64").into());
    }
    if let Some(path) = &args.output {
        std::fs::write(path, IMAGE)
            .map_err(|e| Failure::usage(format!("cannot write {}: {e}", path.display())))?;
    }
    let description = describe(IMAGE)
        .ok_or_else(|| Failure::usage("the image that is built in is no ELF file"))?;
    let mut out = io::stdout().lock();
    if args.json {
        write_record(&mut out, &description)?;
    } else if args.output.is_none() {
        print(&mut out, &description)?;
    }
    Ok(Exit::Reached)
}

fn describe(image: &[u8]) -> Option<Description> {
    let file = image::Description::of(image)?;
    let hex = |address: u64| format!("{address:#x}");
    Some(Description {
        bytes: file.size,
        sha256: file.digest.iter().map(|b| format!("{b:02x}")).collect(),
        linux_entry: hex(file.linux_entry),
        pvh_entry: file.pvh_entry.map(|entry| hex(entry.into())),
        sections: file
            .sections
            .into_iter()
            .map(|section| Section {
                name: section.name,
                address: hex(section.address),
                bytes: section.size,
                in_file: section.in_file,
            })
            .collect(),
    })
}

fn print(out: &mut impl Write, image: &Description) -> io::Result<()> {
    writeln!(out, "{} bytes, SHA-256 {}", image.bytes, image.sha256)?;
    writeln!(
        out,
        "entry by the 64-bit Linux protocol {}",
        image.linux_entry
    )?;
    if let Some(entry) = &image.pvh_entry {
        writeln!(out, "entry by PVH                       {entry}")?;
    }
    for section in &image.sections {
        let Section {
            name,
            address,
            bytes,
            in_file,
        } = section;
        let place = if *in_file { "" } else { "  memory only" };
        writeln!(out, "{name:<16} {address:>10} {bytes:>8}{place}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_built_in_image_has_both_entries_and_what_a_program_needs() {
        let image = describe(IMAGE).unwrap();
        assert!(image.pvh_entry.is_some());
        assert_eq!(image.bytes, IMAGE.len());
        let has = |name: &str| image.sections.iter().any(|s| s.name.starts_with(name));
        assert!(has(".text") && has(".data"), "{image:?}");
        let mut text = Vec::new();
        print(&mut text, &image).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("PVH"));
    }
}
