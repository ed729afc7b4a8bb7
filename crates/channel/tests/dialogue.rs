//! Both ends of the channel, byte by byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod ends;

use plumb_channel::{Guest, INBOX, News, Order, Refusal};
use plumb_probe::{Event, Refused, Stats, TraceOptions};
use plumb_wire::Instant;

use ends::{NOW, begun, events, host, ping_job, ready, says, to_guest, to_host, trace_job};

#[test]
fn a_session_carries_jobs_there_and_equal_records_back_and_loses_nothing() {
    let options = TraceOptions {
        report_hops: true,
        ..TraceOptions::default()
    };
    let job = trace_job([5, 0, 18, 2].into(), options);
    let events = events("mixed", job.clone());
    assert!(events.len() > 5);
    let (mut host, mut guest) = begun();
    let id = host.start(&job).unwrap();
    let orders = to_guest(&mut host, &mut guest);
    let Order::Options { number: 0, options } = &orders[0] else {
        panic!("{orders:?}");
    };
    let Order::Start {
        token,
        src,
        dst,
        options: 0,
    } = orders[1]
    else {
        panic!("{orders:?}");
    };
    assert_eq!(
        format!("{:?}", options.job(src, dst)),
        format!("{job:?}"),
        "the guest starts the very same job"
    );
    host.finish();
    assert!(matches!(
        to_guest(&mut host, &mut guest)[..],
        [Order::Finish]
    ));
    for event in &events {
        guest.event(token, event, Instant::from_millis(6));
    }
    guest.finished();
    assert!(!guest.is_acknowledged());
    let news = to_host(&mut guest, &mut host).unwrap();
    assert_eq!(host.active(), 0);
    for (event, news) in events.iter().zip(&news) {
        match (event, news) {
            (Event::Hop { hop, .. }, News::Event(Event::Hop { job, hop: came })) => {
                assert_eq!((hop, *job), (came, id));
            }
            (
                Event::Trace { trace, .. },
                News::Event(Event::Trace {
                    job, trace: came, ..
                }),
            ) => {
                assert_eq!((trace, *job), (came, id));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(news.last(), Some(News::Finished)));
    assert!(!guest.is_acknowledged());
    assert!(to_guest(&mut host, &mut guest).is_empty());
    assert!(guest.is_acknowledged());
}

#[test]
fn what_another_session_has_left_is_passed_over() {
    let mut guest = Guest::default();
    let mut gone = host(1);
    to_guest(&mut gone, &mut guest);
    guest.ready(ready(1));
    guest.refused(1, Refusal::Stopped);
    guest.text("of the first");
    let mut host = host(2);
    to_guest(&mut host, &mut guest);
    guest.ready(ready(2));
    guest.text("of the second");
    let news = to_host(&mut guest, &mut host).unwrap();
    assert!(
        matches!(&news[..], [News::Ready(_), News::Text(text)] if text == "of the second"),
        "{news:?}"
    );
}

#[test]
fn no_more_jobs_are_sent_than_may_wait() {
    let (mut host, mut guest) = begun();
    for _ in 0..INBOX {
        host.start(&ping_job(1)).unwrap();
    }
    assert_eq!(host.start(&ping_job(1)), Err(Refused::Full));
    let orders = to_guest(&mut host, &mut guest);
    assert_eq!(orders.len(), INBOX + 1, "equal options are sent once");
    for _ in 0..INBOX / 4 {
        guest.took();
    }
    to_host(&mut guest, &mut host).unwrap();
    for _ in 0..INBOX / 4 {
        host.start(&ping_job(1)).unwrap();
    }
    assert!(!host.has_room());
}

#[test]
fn times_of_the_guest_become_times_of_the_host_within_the_session() {
    let (mut host, mut guest) = (host(1), Guest::default());
    to_guest(&mut host, &mut guest);
    let at = |millis| Instant::from_millis(millis);
    guest.ready(ready(1));
    let bytes = says(&mut guest);
    // The guest's 5 is the host's 1003 at the latest.
    host.handle_bytes(&bytes, at(1003)).unwrap();
    for (guest_time, arrival, packet, expected) in [
        (10, 1010, 8, 1006),
        // It was less: 10 is 1005.
        (10, 1005, 8, 1003),
        // Nothing happens before the session or after now.
        (10, 1005, 1, 1000),
        (10, 1005, 99_999, 1005),
        (10, 1005, u64::MAX / 1_000_000, 1005),
    ] {
        guest.stats(at(guest_time), Stats::default(), 0, 0);
        guest.sent_packet(at(packet), &[0x45]);
        let bytes = says(&mut guest);
        host.handle_bytes(&bytes, at(arrival)).unwrap();
        let news: Vec<News> = core::iter::from_fn(|| host.poll_news()).collect();
        let Some(News::Packet { at: came, .. }) = news.last() else {
            panic!("{news:?}");
        };
        assert_eq!(*came, at(expected), "{packet}");
    }
}

#[test]
fn no_more_is_under_way_than_the_host_has_room_for() {
    let (mut host, mut guest) = begun();
    guest.handle_bytes(&Order::Reset.frame());
    assert!(matches!(guest.poll_order(), Ok(Some(Order::Reset))));
    let line = "x".repeat(500);
    for _ in 0..100 {
        guest.text(&line);
    }
    let all = guest.backlog();
    let (mut under_way, mut came) = (Vec::new(), 0);
    while guest.backlog() > 0 || !under_way.is_empty() {
        under_way.extend_from_slice(guest.transmit());
        let len = guest.transmit().len();
        guest.handle_sent(len);
        assert!(under_way.len() <= 33 << 10, "{} bytes", under_way.len());
        let some: Vec<u8> = under_way.drain(..under_way.len().min(3000)).collect();
        came += some.len();
        host.handle_bytes(&some, NOW).unwrap();
        to_guest(&mut host, &mut guest);
    }
    assert_eq!(came, all);
}
