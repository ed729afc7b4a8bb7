//! What the ring told and what a pass over the connections told meanwhile, as one sequence.

use std::collections::BTreeMap;

use super::event::{Event, EventKind};

/// Puts both into the order of time, but for connections that ended while they were passed.
///
/// Programs run on while connections are gone over, and do not wait: an event of the pass may be
/// stamped after the end of its connection that the ring told, and whoever took it last would keep
/// the connection for ever. So an end is the last that is told of its connection. What the pass told
/// under the end's own number, or a later one, is in the end's window, too, and is left out.
pub(super) fn in_order(told: Vec<Event>, passed: Vec<Event>) -> Vec<Event> {
    let mut all = Vec::with_capacity(told.len() + passed.len());
    if !passed.is_empty() {
        let ends: BTreeMap<u64, (u64, u32)> = told
            .iter()
            .filter(|event| event.kind == EventKind::Closed)
            .map(|event| (event.cookie, (event.at, event.sequence)))
            .collect();
        for mut event in passed {
            if let Some(&(ended_at, number)) = ends.get(&event.cookie) {
                // The end of a handshake has its number from the handshake.
                if event.kind != EventKind::Opened && event.sequence >= number {
                    continue;
                }
                event.at = event.at.min(ended_at);
            }
            all.push(event);
        }
    }
    // Before those that the ring told of the same time.
    all.extend(told);
    all.sort_by_key(|event| event.at);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind, cookie: u64, at: u64, sequence: u32) -> Event {
        Event {
            cookie,
            at,
            sequence,
            ..Event::blank(kind)
        }
    }

    fn told(events: &[Event]) -> Vec<(EventKind, u64, u64)> {
        let of = |event: &Event| (event.kind, event.cookie, event.at);
        events.iter().map(of).collect()
    }

    #[test]
    fn what_is_told_of_other_connections_is_in_the_order_of_time() {
        use EventKind::{ActiveTimeout, Closed, Established};
        let ring = vec![event(Established, 1, 10, 0), event(Closed, 2, 30, 4)];
        let pass = vec![
            event(ActiveTimeout, 3, 20, 2),
            event(ActiveTimeout, 4, 30, 2),
        ];
        let order = [
            (Established, 1, 10),
            (ActiveTimeout, 3, 20),
            (ActiveTimeout, 4, 30),
            (Closed, 2, 30),
        ];
        assert_eq!(told(&in_order(ring, pass)), order);
    }

    #[test]
    fn an_end_is_the_last_that_is_told_of_its_connection_and_has_the_same_window_once() {
        use EventKind::{ActiveTimeout, Closed, Opened};
        // The pass gave the number 2 and the end saw so; or both have it.
        let end = |number| vec![event(Closed, 7, 100, number)];
        let pass = |kind, number| vec![event(kind, 7, 105, number)];
        let both = [(ActiveTimeout, 7, 100), (Closed, 7, 100)];
        assert_eq!(told(&in_order(end(3), pass(ActiveTimeout, 2))), both);
        let alone = [(Closed, 7, 100)];
        assert_eq!(told(&in_order(end(2), pass(ActiveTimeout, 2))), alone);
        assert_eq!(told(&in_order(end(2), pass(ActiveTimeout, 3))), alone);
        let both = [(Opened, 7, 100), (Closed, 7, 100)];
        assert_eq!(told(&in_order(end(1), pass(Opened, 1))), both);
    }
}
