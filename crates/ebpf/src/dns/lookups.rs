//! From messages to lookups.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use plumb_record::{DnsProfile, DnsTransport, DnsType, FlowSchema, WallTime};
use plumb_wire::{Instant, dns};

/// Longest that an answer is waited for: resolvers ask again, or give up, long before.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Lookups without an answer that are remembered.
const MOST_WAITING: usize = 16_384;

/// A message of a name server or to it, as a socket of this host sent or received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// When it passed the socket.
    pub at: Instant,
    /// Whether this host sent it.
    pub is_sent: bool,
    /// Address and port of this host.
    pub local: SocketAddr,
    /// Address and port of the name server.
    pub remote: SocketAddr,
    /// Cookie of the socket.
    pub socket: u64,
    /// Cookie of its network namespace.
    pub netns_cookie: u64,
    /// Identifier of its control group.
    pub cgroup_id: u64,
    /// The process that sent it and its name, if known.
    pub process: Option<(u32, String)>,
    /// The message, or its beginning.
    pub payload: &'a [u8],
}

/// Which query an answer belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    netns_cookie: u64,
    local: SocketAddr,
    remote: SocketAddr,
    id: u16,
    query_type: u16,
    name: String,
}

#[derive(Clone, Debug)]
struct Waiting {
    since: Instant,
    last: Instant,
    queries: u32,
    socket: u64,
    cgroup_id: u64,
    process: Option<(u32, String)>,
}

/// Matches answers to queries. A pure state machine: messages and time in, records out.
///
/// A query that is sent again with the same identifier to the same server is one lookup. One that
/// is not answered within 15 s of its last query ends without an answer. Names are compared
/// without regard to case (RFC 4343), and reported as they were asked for.
#[derive(Debug, Default)]
pub struct Lookups {
    waiting: BTreeMap<Key, Waiting>,
    /// Every query in the order it was sent, with the key of its lookup.
    order: VecDeque<(Instant, Key)>,
    done: VecDeque<DnsProfile>,
    unmatched: u64,
    malformed: u64,
    evicted: u64,
    /// What to add to the time of a message for wall time, in nanoseconds.
    wall_offset_ns: u64,
}

impl Lookups {
    /// No lookup yet; `wall_offset_ns` is wall time minus the messages' time.
    pub fn new(wall_offset_ns: u64) -> Self {
        Self {
            wall_offset_ns,
            ..Self::default()
        }
    }

    /// Changes what is added to the messages' time: the system clock was stepped.
    pub const fn set_wall_offset(&mut self, wall_offset_ns: u64) {
        self.wall_offset_ns = wall_offset_ns;
    }

    /// Takes a message.
    pub fn handle_message(&mut self, seen: &Seen<'_>) {
        self.handle_timeout(seen.at);
        let Ok(message) = dns::Message::parse(seen.payload) else {
            self.malformed += 1;
            return;
        };
        let name = message.name.to_string();
        let key = Key {
            netns_cookie: seen.netns_cookie,
            local: seen.local,
            remote: seen.remote,
            id: message.id,
            query_type: message.query_type,
            name: name.to_ascii_lowercase(),
        };
        match (seen.is_sent, message.is_response) {
            (true, false) => self.query(key, seen),
            (false, true) => match self.waiting.remove(&key) {
                Some(waiting) => {
                    let answer = Ok((&message, seen.at));
                    self.finish(&key, name, &waiting, answer);
                }
                None => self.unmatched += 1,
            },
            (true, true) | (false, false) => self.unmatched += 1,
        }
    }

    /// Gives up what has waited for too long.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, _)) = self.order.front()
            && now.since(*at) >= TIMEOUT
        {
            let Some((at, key)) = self.order.pop_front() else {
                break;
            };
            // A later query keeps the lookup alive.
            if self.waiting.get(&key).is_some_and(|w| w.last == at) {
                self.give_up(&key, at + TIMEOUT);
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.order.front().map(|(at, _)| *at + TIMEOUT)
    }

    /// The next lookup that has ended.
    pub fn poll_record(&mut self) -> Option<DnsProfile> {
        self.done.pop_front()
    }

    /// Ends every lookup that waits, as at the end of a run.
    pub fn finish_all(&mut self, now: Instant) {
        while let Some((key, _)) = self.waiting.first_key_value() {
            let key = key.clone();
            self.give_up(&key, now);
        }
        self.order.clear();
    }

    /// Messages that were no DNS, and answers nobody had asked for or that came too late.
    pub const fn ignored(&self) -> (u64, u64) {
        (self.malformed, self.unmatched)
    }

    /// Lookups that were forgotten to stay within the memory.
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn query(&mut self, key: Key, seen: &Seen<'_>) {
        self.order.push_back((seen.at, key.clone()));
        if let Some(waiting) = self.waiting.get_mut(&key) {
            waiting.queries = waiting.queries.saturating_add(1);
            waiting.last = seen.at;
        } else {
            let waiting = Waiting {
                since: seen.at,
                last: seen.at,
                queries: 1,
                socket: seen.socket,
                cgroup_id: seen.cgroup_id,
                process: seen.process.clone(),
            };
            self.waiting.insert(key, waiting);
        }
        // Answered ones are still in the order; both are bounded.
        while self.order.len() > MOST_WAITING {
            if let Some((at, key)) = self.order.pop_front()
                && self.waiting.get(&key).is_some_and(|w| w.last == at)
            {
                self.waiting.remove(&key);
                self.evicted += 1;
            }
        }
    }

    fn give_up(&mut self, key: &Key, now: Instant) {
        if let Some(waiting) = self.waiting.remove(key) {
            self.finish(key, key.name.clone(), &waiting, Err(now));
        }
    }

    /// Makes a record with the answer and its time, or with the time it was given up.
    fn finish(
        &mut self,
        key: &Key,
        name: String,
        waiting: &Waiting,
        answer: Result<(&dns::Message<'_>, Instant), Instant>,
    ) {
        let wall = |at: Instant| WallTime(at.as_nanos().saturating_add(self.wall_offset_ns));
        let answered = answer.ok().map(|(_, at)| at);
        let message = answer.ok().map(|(message, _)| message);
        let ended = answer.map_or_else(|given_up| given_up, |(_, at)| at);
        self.done.push_back(DnsProfile {
            schema: FlowSchema::V1,
            kind: DnsType::Dns,
            flow_id: Some(waiting.socket),
            transport: DnsTransport::Udp,
            local_addr: key.local.ip(),
            local_port: key.local.port(),
            remote_addr: key.remote.ip(),
            remote_port: key.remote.port(),
            pid: waiting.process.as_ref().map(|(pid, _)| *pid),
            process: waiting.process.as_ref().map(|(_, name)| name.clone()),
            cgroup_id: Some(waiting.cgroup_id),
            cgroup: None,
            netns: None,
            start: wall(waiting.since),
            end: wall(ended),
            name,
            query_type: key.query_type,
            queries: waiting.queries,
            resolution_ns: answered
                .map(|at| u64::try_from(at.since(waiting.since).as_nanos()).unwrap_or(u64::MAX)),
            response_code: message.map(|message| u16::from(message.response_code)),
            answers: message.map(|message| message.answers),
            truncated: message.map(|message| message.truncated),
        });
    }
}

/// An address of 16 bytes of which IPv4 uses the first four.
pub(super) fn address(version: u8, bytes: [u8; 16]) -> IpAddr {
    match version {
        4 => IpAddr::from([bytes[0], bytes[1], bytes[2], bytes[3]]),
        _ => IpAddr::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: u64 = 1_800_000_000_000_000_000;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// A query for `example.net` AAAA, or the answer with a response code.
    fn message(id: u16, code: Option<u8>) -> Vec<u8> {
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend(code.map_or([1, 0], |code| [0x81, 0x80 | code]));
        bytes.extend([0, 1, 0, u8::from(code.is_some()), 0, 0, 0, 0]);
        bytes.extend(b"\x07Example\x03net\0\0\x1c\0\x01");
        bytes
    }

    fn seen(ms: u64, is_sent: bool, payload: &[u8]) -> Seen<'_> {
        Seen {
            at: at(ms),
            is_sent,
            local: "192.0.2.1:40000".parse().unwrap(),
            remote: "192.0.2.53:53".parse().unwrap(),
            socket: 5,
            netns_cookie: 1,
            cgroup_id: 9,
            process: is_sent.then(|| (77, "getent".into())),
            payload,
        }
    }

    fn records(lookups: &mut Lookups) -> Vec<DnsProfile> {
        core::iter::from_fn(|| lookups.poll_record()).collect()
    }

    #[test]
    fn an_answer_gives_the_time_from_the_first_query_and_its_result() {
        let mut lookups = Lookups::new(WALL);
        lookups.handle_message(&seen(0, true, &message(3, None)));
        lookups.handle_message(&seen(5000, true, &message(3, None)));
        lookups.handle_message(&seen(5020, false, &message(3, Some(3))));
        let [record] = records(&mut lookups).try_into().unwrap();
        assert_eq!(record.name, "Example.net");
        assert_eq!((record.query_type, record.queries), (28, 2));
        assert_eq!(record.resolution_ns, Some(5_020_000_000));
        assert_eq!(record.response_code, Some(3));
        assert_eq!(record.answers, Some(1));
        assert_eq!(record.start, WallTime(WALL));
        assert_eq!(record.process.as_deref(), Some("getent"));
        assert_eq!(record.pid, Some(77));
    }

    #[test]
    fn after_a_step_of_the_clock_a_lookup_is_stamped_by_the_new_one() {
        let mut lookups = Lookups::new(WALL);
        lookups.handle_message(&seen(10, true, &message(3, None)));
        lookups.set_wall_offset(WALL - 3_600_000_000_000);
        lookups.handle_message(&seen(30, false, &message(3, Some(0))));
        let [record] = records(&mut lookups).try_into().unwrap();
        assert_eq!(
            record.start,
            WallTime(WALL - 3_600_000_000_000 + 10_000_000)
        );
        assert_eq!(record.resolution_ns, Some(20_000_000));
    }

    #[test]
    fn a_query_without_an_answer_ends_fifteen_seconds_after_it_was_sent_last() {
        let mut lookups = Lookups::new(WALL);
        lookups.handle_message(&seen(0, true, &message(3, None)));
        lookups.handle_message(&seen(5000, true, &message(3, None)));
        assert_eq!(lookups.poll_timeout(), Some(at(15_000)));
        lookups.handle_timeout(at(15_000));
        assert!(records(&mut lookups).is_empty());
        assert_eq!(lookups.poll_timeout(), Some(at(20_000)));
        lookups.handle_timeout(at(20_000));
        let [record] = records(&mut lookups).try_into().unwrap();
        assert_eq!(record.resolution_ns, None);
        assert_eq!(record.response_code, None);
        assert_eq!(record.queries, 2);
        assert_eq!(lookups.poll_timeout(), None);
    }

    #[test]
    fn an_answer_to_another_question_or_from_elsewhere_is_no_answer() {
        let mut lookups = Lookups::new(WALL);
        lookups.handle_message(&seen(0, true, &message(3, None)));
        lookups.handle_message(&seen(1, false, &message(4, Some(0))));
        let answer = message(3, Some(0));
        let mut elsewhere = seen(2, false, &answer);
        elsewhere.remote = "192.0.2.54:53".parse().unwrap();
        lookups.handle_message(&elsewhere);
        let mut other_namespace = seen(3, false, &answer);
        other_namespace.netns_cookie = 2;
        lookups.handle_message(&other_namespace);
        lookups.handle_message(&seen(4, false, b"no dns"));
        assert!(records(&mut lookups).is_empty());
        assert_eq!(lookups.ignored(), (1, 3));
        lookups.handle_message(&seen(5, false, &answer));
        assert_eq!(records(&mut lookups).len(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_counted() {
        let mut lookups = Lookups::new(WALL);
        for port in 0..40_000 {
            let query = message(1, None);
            let mut seen = seen(1, true, &query);
            seen.local.set_port(port);
            lookups.handle_message(&seen);
        }
        assert!(lookups.waiting.len() <= MOST_WAITING);
        assert_eq!(lookups.evicted(), 40_000 - 16_384);
        lookups.finish_all(at(2));
        assert_eq!(records(&mut lookups).len(), MOST_WAITING);
    }
}
