//! The recorder, while connections are made and closed as fast as they can be: passes over them, and
//! the ring that tells of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod skipping;

use core::net::Ipv4Addr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use libbpf_rs::query::MapInfoIter;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle, MapType};
use plumb_ebpf::flow::{Config, Counts, Error, Event, Filter, Options, Profiler, Recorder};
use plumb_record::{FlowEvent, FlowProfile};

use skipping::skipped;

/// A recorder of connections that are yet to come; none where that is not permitted.
fn start(options: Options) -> Option<Recorder> {
    let (recorder, there) = start_beside_others(options)?;
    assert!(there.is_empty(), "{there:?}");
    Some(recorder)
}

/// The same with a filter that lets connections of others through, and what was there of them.
fn start_beside_others(options: Options) -> Option<(Recorder, Vec<Event>)> {
    match Recorder::start(options) {
        Ok(started) => Some(started),
        Err(error @ (Error::Permission | Error::NoTypes)) => {
            skipped(&error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn profiler_of(recorder: &Recorder) -> Profiler {
    Profiler::new(Config {
        live: recorder.live(),
        max_connections: 1 << 20,
    })
}

/// What the programs counted when so many connections have ended, or ten seconds have passed.
fn counts_after(ends: u64, recorder: &Recorder) -> Counts {
    let late = Instant::now() + Duration::from_secs(10);
    while recorder.counts().ended < ends && Instant::now() < late {
        thread::sleep(Duration::from_millis(10));
    }
    recorder.counts()
}

/// Both ends of one connection, with a byte each way.
fn talk(listener: &TcpListener) {
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(b"x").unwrap();
    server.read_exact(&mut [0]).unwrap();
    server.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn root_passes_without_a_pause_leave_nothing_behind_of_connections_that_end_meanwhile() {
    pass_while_connections_come_and_go(Options::default());
}

#[test]
fn root_the_same_holds_where_few_find_room_in_the_table() {
    pass_while_connections_come_and_go(Options {
        table: 8,
        ..Options::default()
    });
}

#[test]
fn root_the_same_holds_without_a_table() {
    pass_while_connections_come_and_go(Options {
        table: 0,
        ..Options::default()
    });
}

/// What has the state of sockets found by their addresses, as on a kernel that refuses the iterator
/// over their storage.
fn by_address(table: u32) -> Options {
    Options {
        table,
        without: vec!["pass".to_owned()],
        ..Options::default()
    }
}

#[test]
fn root_the_same_holds_where_sockets_are_found_by_their_addresses() {
    pass_while_connections_come_and_go(by_address(8));
}

fn pass_while_connections_come_and_go(options: Options) {
    let listeners: Vec<_> = (0..2)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
    let options = Options {
        filter: Filter {
            ports: listeners.iter().map(port).collect(),
            ..Filter::default()
        },
        // Each pass ends the window of every connection that has done something since the last.
        active_timeout: Duration::from_nanos(1),
        ring: 32 << 20,
        ..options
    };
    let Some(mut recorder) = start(options) else {
        return;
    };
    let mut profiler = profiler_of(&recorder);
    let mut profiles: Vec<FlowProfile> = Vec::new();
    let over = AtomicBool::new(false);
    // Ends of connections that there were, and of those that the profiler knows of.
    let (made, known) = (AtomicU64::new(0), AtomicU64::new(0));
    let passes = thread::scope(|scope| {
        for listener in &listeners {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // However slow the reader is here, the ring has room for that.
                    if made.load(Ordering::Relaxed) > known.load(Ordering::Relaxed) + 1000 {
                        thread::sleep(Duration::from_millis(1));
                        continue;
                    }
                    talk(listener);
                    made.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        let started = Instant::now();
        let mut passes = 0;
        loop {
            // The last pass finds nothing that is open.
            let last = over.load(Ordering::Relaxed);
            if last {
                thread::sleep(Duration::from_millis(300));
            }
            let mut handle = |events: &[Event]| {
                for event in events {
                    profiler.handle(event);
                    while let Some(profile) = profiler.poll_profile() {
                        if profile.event == FlowEvent::Ended {
                            known.fetch_add(1, Ordering::Relaxed);
                        }
                        profiles.push(*profile);
                    }
                }
            };
            recorder.pass(&mut handle).unwrap();
            recorder.take(&mut handle);
            passes += 1;
            if last {
                return passes;
            }
            let enough = passes > 20 && started.elapsed() > Duration::from_secs(2);
            over.store(enough, Ordering::Relaxed);
        }
    });
    let counts = recorder.counts();
    assert_eq!((counts.dropped, profiler.unknown()), (0, 0), "{counts:?}");
    assert_eq!(counts.connections, counts.ended, "{counts:?}");
    assert!(counts.ended > 200 && passes > 20, "{counts:?} {passes}");
    let count = |event| profiles.iter().filter(|p| p.event == event).count();
    assert_eq!(Ok(count(FlowEvent::Ended)), usize::try_from(counts.ended));
    let established = count(FlowEvent::Established);
    assert_eq!(established, count(FlowEvent::Ended));
    // No counter went backwards.
    assert!(profiles.iter().all(|p| p.packets_sent < Some(100)));
    let sent: u64 = profiles.iter().map(|p| p.bytes_sent).sum();
    assert_eq!(sent, counts.ended);
    assert_eq!(profiler.len(), 0, "{profiler:?}");

    // Nothing is open: what is still remembered lost its end, and is forgotten.
    for _ in 0..2 {
        let mut there = BTreeSet::new();
        recorder
            .look(|event| {
                there.insert(event.cookie);
            })
            .unwrap();
        profiler.sweep(&there, u64::MAX);
    }
    assert_eq!(profiler.len(), 0, "{profiler:?}");
}

#[test]
fn root_a_reader_that_has_to_wait_is_not_woken_again_for_each_event() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = Options {
        filter: Filter {
            ports: vec![listener.local_addr().unwrap().port()],
            ..Filter::default()
        },
        ring: 1 << 20,
        ..Options::default()
    };
    let Some(mut recorder) = start(options) else {
        return;
    };
    for _ in 0..1200 {
        talk(&listener);
    }
    let counts = counts_after(2400, &recorder);
    assert_eq!((counts.dropped, counts.ended), (0, 2400), "{counts:?}");
    // 2400 events of 360 bytes: from a quarter of the ring on, with each sixteenth.
    let most = 2400 * 360 * 16 / (1 << 20) - 3;
    assert!((1..=most).contains(&counts.wakes), "{counts:?}");
    let mut events = 0;
    recorder.take(|told| events += told.len());
    assert_eq!(events, 2400);
}

/// Where each socket that is recorded stands, listeners left out.
fn look(recorder: &mut Recorder, profiler: &Profiler) -> Vec<FlowProfile> {
    let mut profiles = Vec::new();
    recorder
        .look(|event| profiles.push(profiler.total(&event)))
        .unwrap();
    profiles
}

#[test]
fn root_more_connections_than_the_table_has_room_for_are_all_recorded() {
    record_more_than_the_table_has_room_for(Options {
        table: 16,
        ..Options::default()
    });
    record_more_than_the_table_has_room_for(by_address(16));
    record_more_than_the_table_has_room_for(by_address(0));
}

fn record_more_than_the_table_has_room_for(options: Options) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = Options {
        filter: Filter {
            ports: vec![listener.local_addr().unwrap().port()],
            ..Filter::default()
        },
        ..options
    };
    let Some(mut recorder) = start(options) else {
        return;
    };
    let profiler = profiler_of(&recorder);
    let open: Vec<_> = (0..100)
        .map(|_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap())
        })
        .collect();
    let there = look(&mut recorder, &profiler);
    let ends: BTreeSet<_> = there
        .iter()
        .map(|p| (p.local_port, p.remote_port))
        .collect();
    assert_eq!((there.len(), ends.len()), (200, 200), "{there:?}");
    drop(open);
    let counts = counts_after(200, &recorder);
    assert_eq!((counts.connections, counts.ended), (200, 200), "{counts:?}");
    assert!(look(&mut recorder, &profiler).is_empty());
}

#[test]
fn root_connections_that_found_no_room_by_address_are_counted() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let options = Options {
        filter: Filter {
            ports: vec![listener.local_addr().unwrap().port()],
            ..Filter::default()
        },
        by_address: 10,
        ..by_address(0)
    };
    let Some(recorder) = start(options) else {
        return;
    };
    let _open: Vec<_> = (0..20)
        .map(|_| {
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (client, listener.accept().unwrap())
        })
        .collect();
    let counts = recorder.counts();
    assert!(counts.untracked >= 30, "{counts:?}");
    assert!(counts.connections <= 10, "{counts:?}");
}

#[test]
fn root_a_child_knows_its_listeners_process_before_anybody_has_accepted_it() {
    let without_table = Options {
        table: 0,
        ..Options::default()
    };
    let all = [
        Options::default(),
        without_table,
        by_address(Options::default().table),
        by_address(0),
    ];
    for options in all {
        let before = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = before.local_addr().unwrap().port();
        // Whoever comes after the recorder; any port, as its own is not known yet.
        let Some((mut recorder, _)) = start_beside_others(options) else {
            return;
        };
        let after = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ports = [port, after.local_addr().unwrap().port()];
        let _clients = ports.map(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap());
        let profiler = profiler_of(&recorder);
        let there = look(&mut recorder, &profiler);
        for port in ports {
            let child = there.iter().find(|p| p.local_port == port);
            let child = child.unwrap_or_else(|| panic!("no child of {port}: {there:?}"));
            assert_eq!(child.pid, Some(std::process::id()), "{child:?}");
        }
    }
}

/// `ST_OPEN` of `state.h`.
const OPEN: u32 = 0x10;

#[test]
fn root_what_a_socket_left_in_the_table_is_cleared_by_a_pass() {
    // A size that no other test has.
    let options = Options {
        table: 64,
        ..Options::default()
    };
    let Some((mut recorder, _)) = start_beside_others(options) else {
        return;
    };
    let info = MapInfoIter::default()
        .find(|map| map.name == "table" && map.ty == MapType::Array && map.max_entries == 16);
    let table = MapHandle::from_map_id(info.unwrap().id).unwrap();
    // A connection of a socket at an address where nothing is.
    let bucket = 5u32.to_ne_bytes();
    let mut value = table.lookup(&bucket, MapFlags::ANY).unwrap().unwrap();
    // A bucket has four addresses of sockets and four states, which begin with cookie and flags.
    let key = 8..16;
    let cookie = 4 * 8 + (value.len() - 4 * 8) / 4;
    value[key.clone()].copy_from_slice(&0x1000u64.to_ne_bytes());
    value[cookie..cookie + 8].copy_from_slice(&1u64.to_ne_bytes());
    value[cookie + 8..cookie + 12].copy_from_slice(&OPEN.to_ne_bytes());
    table.update(&bucket, &value, MapFlags::ANY).unwrap();
    let mut told = 0;
    recorder.pass(|events| told += events.len()).unwrap();
    let value = table.lookup(&bucket, MapFlags::ANY).unwrap().unwrap();
    assert_eq!(value[key], [0; 8]);
    assert_eq!(told, 0);
}

#[test]
fn root_what_a_socket_left_by_its_address_is_cleared_by_a_pass() {
    // A size that no other test has.
    let options = Options {
        by_address: 77,
        ..by_address(0)
    };
    let Some((mut recorder, _)) = start_beside_others(options) else {
        return;
    };
    // The kernel keeps the first 15 characters of a name.
    let info =
        MapInfoIter::default().find(|map| map.name == "states_by_addre" && map.max_entries == 77);
    let states = MapHandle::from_map_id(info.unwrap().id).unwrap();
    let key = 0x1000u64.to_ne_bytes();
    let mut value = vec![0; states.value_size() as usize];
    value[..8].copy_from_slice(&1u64.to_ne_bytes());
    value[8..12].copy_from_slice(&OPEN.to_ne_bytes());
    states.update(&key, &value, MapFlags::ANY).unwrap();
    let mut told = 0;
    recorder.pass(|events| told += events.len()).unwrap();
    assert!(states.lookup(&key, MapFlags::ANY).unwrap().is_none());
    assert_eq!(told, 0);
}
