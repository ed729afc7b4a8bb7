//! What is fuzzed, as plain functions.
//!
//! Each takes any bytes and must return: no panic, no endless loop. libFuzzer calls them through
//! `fuzz/search`, `cargo test` replays what it found from `fuzz/corpus`.

#![forbid(unsafe_code)]

mod bytes;
mod chain;
mod channel;
mod coalesce;
mod conntrack;
mod devices;
mod engine;
mod firewall;
mod flow;
mod interface;
mod ipfix;
mod lab;
mod nf;
mod tap;
mod virtio;

pub use chain::chain;
pub use channel::{guest, host};
pub use coalesce::coalesce;
pub use conntrack::conntrack;
pub use devices::devices;
pub use engine::engine;
pub use firewall::firewall;
pub use flow::flow;
pub use interface::interface;
pub use ipfix::ipfix;
pub use lab::lab;
pub use nf::nat;
pub use tap::{meter, slice};
pub use virtio::virtio;

use plumb_sim::Topology;
use plumb_wire::icmp::{Family, Message};
use plumb_wire::packet::Packet;
use plumb_wire::pcapng;
use plumb_wire::quote::Quote;
use plumb_wire::{arp, dns, ethernet, icmp_ext, ipv6, ndp, tcp, udp};

/// A function under fuzz.
pub type Target = fn(&[u8]);

/// All targets by name; the name is that of the corpus folder and of the libFuzzer binary.
pub const TARGETS: [(&str, Target); 20] = [
    ("chain", chain),
    ("coalesce", coalesce),
    ("conntrack", conntrack),
    ("devices", devices),
    ("engine", engine),
    ("filter", filter),
    ("firewall", firewall),
    ("flow", flow),
    ("guest", guest),
    ("host", host),
    ("interface", interface),
    ("ipfix", ipfix),
    ("lab", lab),
    ("meter", meter),
    ("nat", nat),
    ("packet", packet),
    ("pcapng", pcapng),
    ("slice", slice),
    ("topology", topology),
    ("virtio", virtio),
];

/// Compiles a text as a filter of `plumb tap`, and runs it on its own bytes.
///
/// # Panics
/// If the program that is printed is another one.
pub fn filter(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else {
        return;
    };
    if let Ok(Some(program)) = plumb_ebpf::tap::filter::compile(text) {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        program.run(data, len);
        assert_eq!(program.to_string().parse(), Ok(program));
    }
    // The same bytes as a program of another compiler.
    if let Ok(program) = text.parse::<plumb_ebpf::tap::cbpf::Program>() {
        program.run(data, 0);
    }
}

/// Reads bytes as a packet, and what is in it as every format that may be there.
///
/// # Panics
/// If a part is longer than the whole.
pub fn packet(data: &[u8]) {
    let _ = Quote::parse(data);
    let _ = tcp::Header::parse(data);
    let _ = udp::Header::parse(data);
    let _ = ethernet::Header::parse(data);
    let _ = arp::Packet::parse(data);
    if let Ok(message) = dns::Message::parse(data) {
        assert!(message.name.labels().count() <= dns::MAX_NAME_LEN);
    }
    if let Ok((header, rest)) = ipv6::Header::parse(data) {
        let _ = ndp::Message::parse(&header, rest);
    }
    let Ok(packet) = Packet::parse(data) else {
        return;
    };
    for family in [Family::V4, Family::V6] {
        let Ok(message) = Message::parse(family, packet.transport) else {
            continue;
        };
        let _ = message.checksum_is_right(packet.src, packet.dst);
        let (quote, extensions) = icmp_ext::split(&message);
        assert!(quote.len() <= message.body().len());
        if let Some(extensions) = extensions {
            assert!(extensions.objects().count() <= data.len());
            assert!(extensions.mpls_stack().count() <= data.len());
        }
        if let Ok(quote) = Quote::parse(quote) {
            let _ = quote.transport_word(6);
        }
    }
}

/// Reads bytes as a capture file.
///
/// # Panics
/// If the reader does not get on.
pub fn pcapng(data: &[u8]) {
    'readers: for mut reader in [pcapng::Reader::new(), pcapng::Reader::for_stage()] {
        let mut rest = data;
        // A block has twelve bytes at least, so there cannot be more steps than that allows.
        for _ in 0..=data.len() / 12 {
            let mut alone = reader.clone();
            let apart = reader.apart(rest).map(|apart| (apart, rest));
            match reader.read(&mut rest) {
                Ok(pcapng::Read::NeedBytes(_)) | Err(_) => continue 'readers,
                Ok(pcapng::Read::Packet(whole)) => {
                    if let Some((apart, block)) = apart {
                        pcapng_apart(&mut alone, apart, block, whole);
                    }
                }
                Ok(pcapng::Read::Control(_)) => {}
            }
        }
        assert!(rest.len() < 12, "the reader does not get on");
    }
}

/// Reads the packet that `block` begins with once more, its data apart from it.
fn pcapng_apart(
    reader: &mut pcapng::Reader,
    apart: pcapng::Apart,
    block: &[u8],
    whole: pcapng::Packet<'_>,
) {
    let (head, rest) = block.split_at(pcapng::Apart::HEAD_LEN);
    let (data, tail) = rest.split_at(apart.padded_len());
    let mut closed = [head, &tail[..apart.tail_len()]].concat();
    apart.close(&mut closed).expect("it is sound as a whole");
    let Ok(pcapng::Read::Packet(packet)) = reader.read(&mut &closed[..]) else {
        panic!("it is a packet as a whole");
    };
    let data = &data[..apart.data_len()];
    assert_eq!(pcapng::Packet { data, ..packet }, whole);
}

/// Reads bytes as a topology file.
pub fn topology(data: &[u8]) {
    if let Ok(text) = core::str::from_utf8(data) {
        let _ = Topology::from_toml(text);
    }
}
