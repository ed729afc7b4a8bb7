//! Captures for tests of stages, and stages that read them.

use std::process::Output;

use assert_cmd::Command;
use plumb_wire::capture::Reader;
use plumb_wire::ipv4;
use plumb_wire::pcapng::{Interface, LinkType, Packet, Read, SECTION_LEN, emit_section};

/// Runs plumb on a recording.
pub(crate) fn plumb(arguments: &[&str], input: &[u8]) -> Output {
    // What the tests give is a recording, though it comes through a pipe.
    Command::cargo_bin("plumb")
        .unwrap()
        .args(arguments)
        .arg("--offline")
        .write_stdin(input)
        .output()
        .unwrap()
}

/// What a stage wrote to standard output, if it ended well.
pub(crate) fn through(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let output = plumb(arguments, input);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {complaint}");
    output.stdout
}

/// A capture of these frames, with their stamps in nanoseconds.
pub(crate) fn capture(frames: impl IntoIterator<Item = (u64, Vec<u8>)>) -> Vec<u8> {
    let interface = Interface {
        link_type: LinkType::ETHERNET,
        name: "eth0",
    };
    let mut out = vec![0; SECTION_LEN + interface.block_len()];
    let at = emit_section(&mut out);
    interface.emit(&mut out[at..]);
    for (at_ns, data) in frames {
        let packet = Packet {
            at_ns,
            data: &data,
            ..Packet::default()
        };
        let at = out.len();
        out.resize(at + packet.block_len(), 0);
        packet.emit(&mut out[at..]);
    }
    out
}

/// Stamps and bytes of all packets.
pub(crate) fn packets(mut bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new();
    let mut found = Vec::new();
    while let Read::Packet(packet) = reader.read(&mut bytes).unwrap() {
        found.push((packet.at_ns, packet.data.to_vec()));
    }
    reader.finish(bytes).unwrap();
    found
}

/// A UDP packet without a checksum.
pub(crate) fn udp(src: [u8; 4], src_port: u16, dst: [u8; 4], dst_port: u16) -> Vec<u8> {
    let mut bytes = vec![0; 42];
    bytes[12] = 8;
    let header = ipv4::Header {
        tos: 0,
        total_len: 28,
        ident: 1,
        flags_fragment: 0,
        ttl: 64,
        protocol: 17,
        src: src.into(),
        dst: dst.into(),
    };
    header.emit(&mut bytes[14..]);
    bytes[34..36].copy_from_slice(&src_port.to_be_bytes());
    bytes[36..38].copy_from_slice(&dst_port.to_be_bytes());
    bytes[39] = 8;
    bytes
}
