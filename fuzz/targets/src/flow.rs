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
        let profiles: Vec<_> = core::iter::from_fn(|| profiler.poll_profile()).collect();
        let unknown = profiler.unknown() - before;
        let quiet = matches!(event.kind, EventKind::Baseline | EventKind::Look);
        // The handshake may be told with whatever comes next, once.
        let openings = u64::from(event.kind != EventKind::Look);
        let own = u64::from(!quiet && event.kind != EventKind::Opened) - unknown;
        let made = profiles.len() as u64;
        assert!(
            (own..=own + openings).contains(&made),
            "{made} of {event:?}"
        );
        assert!(profiler.len() <= MOST);
        let total = profiler.total(&event);
        assert_eq!(total.flow_id, event.cookie);
        assert!(
            profiles
                .iter()
                .all(|profile| profile.flow_id == event.cookie)
        );
        if own == 1
            && let Some(profile) = profiles.last()
        {
            assert_eq!(
                (profile.state, profile.end_reason),
                (total.state, total.end_reason)
            );
        }
    }
}
