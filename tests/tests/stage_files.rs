//! Recordings through functions: a million packets give the same bytes twice.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use core::time::Duration;
use std::fs::File;
use std::io::{BufWriter, Write};

use plumb_tests::{Directory, Running, shell};
use plumb_wire::pcapng::{Interface, LinkType, Packet, SECTION_LEN, emit_section};

const PACKETS: u32 = 1_000_000;

/// A UDP packet of 60 bytes, without a checksum, from one of many hosts to one of many others.
fn packet(n: u32) -> [u8; 60] {
    let [a, b, c, d] = n.wrapping_mul(2_654_435_761).to_be_bytes();
    let mut bytes = [0; 60];
    bytes[5] = 2;
    bytes[11] = 1;
    bytes[12] = 8;
    let header = plumb_wire::ipv4::Header {
        tos: 0,
        total_len: 46,
        ident: 1,
        flags_fragment: 0,
        ttl: 64,
        protocol: 17,
        src: [10, 0, a & 15, b].into(),
        dst: [203, 0, 113, c & 63].into(),
    };
    header.emit(&mut bytes[14..]);
    bytes[34..36].copy_from_slice(&(5000 + u16::from(d & 3)).to_be_bytes());
    bytes[37] = 53;
    bytes[39] = 26;
    bytes[42..46].copy_from_slice(&n.to_be_bytes());
    bytes
}

/// Writes a recording; returns how many packets go elsewhere than to the last of the others.
fn record(path: &std::path::Path) -> u64 {
    let mut allowed = 0;
    let mut file = BufWriter::new(File::create(path).unwrap());
    let interface = Interface {
        link_type: LinkType::ETHERNET,
        name: "eth0",
    };
    let mut block = vec![0; SECTION_LEN];
    emit_section(&mut block);
    file.write_all(&block).unwrap();
    block.resize(interface.block_len(), 0);
    interface.emit(&mut block);
    file.write_all(&block).unwrap();
    for n in 0..PACKETS {
        let data = packet(n);
        allowed += u64::from(data[33] != 63);
        let packet = Packet {
            at_ns: 1_700_000_000_000_000_000 + u64::from(n) * 10_000,
            data: &data,
            ..Packet::default()
        };
        block.resize(packet.block_len(), 0);
        let len = packet.emit(&mut block);
        file.write_all(&block[..len]).unwrap();
    }
    file.flush().unwrap();
    allowed
}

#[test]
fn a_million_packets_give_the_same_bytes_twice() {
    let directory = Directory::new();
    let allowed = record(&directory.file("in"));
    // More connections than there is room for, so that some have to go.
    directory.write(
        "rules.nft",
        "table ip filter { chain forward {
            type filter hook forward priority 0; policy drop;
            ct state established counter accept
            ip saddr 198.51.100.0/28 ip daddr != 203.0.113.63 ct state new accept
        } }",
    );
    // As two stages between files, and as one process.
    let script = "set -e; \
         nat='nat --outside 198.51.100.1-198.51.100.8'; \
         firewall='firewall rules.nft --max-connections 200000'; \
         ($P $nat < in > between; $P $firewall < between > first) & apart=$!; \
         $P chain \"$nat | $firewall\" < in > second; \
         wait $apart; cmp first second; $P count --json < first > /dev/null";
    let done = Running::start(&mut shell(script, &directory)).finish(Duration::from_secs(170));
    let done = done.expect(0);
    let counters: serde_json::Value = serde_json::from_str(&done.stderr).unwrap();
    let frames = counters["counters"]["left_frames"].as_u64().unwrap();
    // Every one that the rules allow, and nothing else.
    assert_eq!(frames, allowed);
    assert_eq!(counters["counters"]["left_ipv4_frames"], frames);
}
