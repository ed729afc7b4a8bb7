//! Events of connections, in any order and with any figures.

use plumb_ebpf::flow::{Config, Event, EventKind, Live, Profiler};

/// Reads bytes as events, one behind the other, and makes profiles of them.
///
/// # Panics
/// If an event makes more or less than its profile, or what is remembered is not bounded.
pub fn flow(data: &[u8]) {
    const MOST: usize = 4;
    let mut profiler = Profiler::new(Config {
        live: Live::ALL,
        max_connections: MOST,
    });
    for bytes in data.chunks(Event::LEN) {
        let Some(event) = Event::parse(bytes) else {
            continue;
        };
        let before = profiler.unknown();
        profiler.handle(&event);
        let profile = profiler.poll_profile();
        let quiet = matches!(event.kind, EventKind::Baseline | EventKind::Look);
        let unknown = profiler.unknown() - before;
        assert_eq!(u64::from(profile.is_some()), u64::from(!quiet) - unknown);
        assert!(profiler.poll_profile().is_none() && profiler.len() <= MOST);
        let total = profiler.total(&event);
        assert_eq!(total.flow_id, event.cookie);
        if let Some(profile) = profile {
            assert_eq!(profile.flow_id, event.cookie);
            assert_eq!(
                (profile.state, profile.end_reason),
                (total.state, total.end_reason)
            );
        }
    }
}
