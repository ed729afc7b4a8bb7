//! IPFIX from anybody.

use plumb_ipfix::table::DOCUMENTATION_ENTERPRISE;
use plumb_ipfix::{Collector, CollectorLimits, Exporter, ExporterConfig, Framer, Profiles};
use plumb_record::WallTime;
use plumb_wire::Instant;

/// Reads bytes as a stream of messages, and what it finds there as records of plumb, which it
/// exports and reads again.
///
/// # Panics
/// If a record has another number of values than its template has fields, a message holds more
/// records than bytes, or a record comes back as another one.
pub fn ipfix(data: &[u8]) {
    let limits = CollectorLimits {
        templates: 16,
        fields: 512,
        domains: 4,
        elements: 64,
    };
    let mut collector = Collector::new(limits);
    let reader = Profiles::new(DOCUMENTATION_ENTERPRISE);
    let (mut flows, mut lookups) = (Vec::new(), Vec::new());
    let mut framer = Framer::new();
    framer.push(data);
    // A message has sixteen bytes at least.
    for _ in 0..=data.len() / 16 {
        let Ok(Some(message)) = framer.next_message() else {
            break;
        };
        let mut records = 0;
        let _ = collector.read(message, |record| {
            records += 1;
            assert_eq!(record.values.len(), record.template.fields.len());
            assert_eq!(record.fields().count(), record.values.len());
            flows.extend(reader.flow(record));
            lookups.extend(reader.lookup(record));
        });
        assert!(records <= message.len());
    }
    // As a datagram: whatever the length field says.
    let _ = collector.read(data, |record| {
        assert!(record.fields().count() <= data.len())
    });
    flows.truncate(8);
    lookups.truncate(8);
    if flows.is_empty() && lookups.is_empty() {
        return;
    }

    let mut exporter = Exporter::new(ExporterConfig::default());
    let now = Instant::from_millis(1);
    assert!(exporter.poll_connect(now));
    exporter.connected(now, usize::from(u16::MAX));
    for flow in &flows {
        exporter.take(flow, now);
    }
    for lookup in &lookups {
        exporter.take_lookup(lookup, now);
    }
    exporter.finish();
    let mut collector = Collector::new(CollectorLimits::default());
    let (mut flows_again, mut lookups_again) = (Vec::new(), Vec::new());
    while let Some(message) = exporter.poll_transmit(now, WallTime(0)) {
        let message = message.to_vec();
        let read = collector.read(&message, |record| {
            flows_again.extend(reader.flow(record));
            lookups_again.extend(reader.lookup(record));
        });
        assert!(read.is_ok());
        exporter.transmitted();
    }
    let statistics = exporter.statistics();
    let lost = statistics.queue_full + statistics.too_long;
    let all = flows_again.len() + lookups_again.len();
    assert_eq!(all as u64 + lost, (flows.len() + lookups.len()) as u64);
    // What has been through once is as it can be said, and comes back as it is.
    let known = |flow| flows.iter().any(|was| same(was, flow));
    assert!(flows_again.iter().all(known));
}

/// Whether they are the same connection, window and payload.
fn same(a: &plumb_record::FlowProfile, b: &plumb_record::FlowProfile) -> bool {
    let key = |p: &plumb_record::FlowProfile| {
        let ends = (p.local_addr, p.local_port, p.remote_addr, p.remote_port);
        (p.flow_id, ends, p.profile, p.bytes_sent, p.rtt_ns, p.pid)
    };
    key(a) == key(b)
}
