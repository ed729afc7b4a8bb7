//! Every way in which a machine can end or fail.

use plumb_channel::Guest;
use plumb_probe::{Config, Event, Ping, PingOptions};

use super::*;

fn ready() -> Ready {
    Ready {
        session: 1,
        time: Instant::ZERO,
        mac: [2, 0, 0, 0, 0, 1],
        mtu: 1500,
        window: 1,
        addresses: vec![([10, 0, 0, 2].into(), 24)],
    }
}

/// What comes of a machine that says this in a session with one ping, and then holds its end of
/// the channel open or not; and the news of the ping.
fn outcome(
    patience: Patience,
    says: impl FnOnce(&mut Guest),
    stays: bool,
) -> (Result<(), Broken>, Vec<ProberNews>) {
    let clock = Clock::new();
    let configure = Configure {
        session: 1,
        engine: Config::default(),
        seed: 1,
        packets: false,
    };
    let mut remote = Remote::new(&configure, clock.now());
    let job = Job::Ping(Ping {
        src: [10, 0, 0, 2].into(),
        dst: [10, 0, 0, 1].into(),
        options: PingOptions::default().into(),
    });
    remote.start(job, clock.now()).unwrap();
    remote.finish();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let mut guest = Guest::default();
    says(&mut guest);
    theirs.write_all(guest.transmit()).unwrap();
    let theirs = stays.then_some(theirs);
    let line = Line {
        stream: &ours,
        console: None,
        process: None,
    };
    let mut news = Vec::new();
    let turn = |remote: &mut Remote, _| {
        news.extend(core::iter::from_fn(|| remote.poll_news()));
        if remote.is_finished() {
            Turn::Stop
        } else {
            Turn::Continue { wake_at: None }
        }
    };
    let outcome = drive(&mut remote, line, &clock, patience, &[], &mut (), turn).unwrap();
    drop(theirs);
    (outcome, news)
}

const BRIEF: Patience = Patience {
    deadline: None,
    boot: Duration::from_millis(50),
    silence: Duration::from_millis(50),
};

#[test]
fn a_machine_that_does_its_work_is_let_go() {
    let finishes = |guest: &mut Guest| {
        guest.ready(ready());
        guest.refused(1, Refusal::NotMyAddress);
        guest.finished();
    };
    for stays in [true, false] {
        let (outcome, news) = outcome(Patience::default(), finishes, stays);
        assert_eq!(outcome, Ok(()));
        let [ProberNews::Refused { why: Some(why), .. }] = &news[..] else {
            panic!("{news:?}");
        };
        assert!(why.contains("no such source"), "{why}");
    }
}

#[test]
fn a_machine_that_fails_is_told_by_how() {
    let says_nothing = |_: &mut Guest| {};
    let is_ready = |guest: &mut Guest| guest.ready(ready());
    let lies = |guest: &mut Guest| {
        guest.ready(ready());
        guest.refused(7, Refusal::Stopped);
    };
    let (boot, silence) = (BRIEF.boot, BRIEF.silence);
    let broken = |outcome: (Result<(), Broken>, Vec<ProberNews>)| outcome.0.unwrap_err();
    assert_eq!(
        broken(outcome(BRIEF, says_nothing, true)),
        Broken::NotReady(boot)
    );
    assert_eq!(
        broken(outcome(BRIEF, is_ready, true)),
        Broken::Silent(silence)
    );
    let fault = Broken::Fault(Fault::UnknownJob(7));
    assert_eq!(broken(outcome(BRIEF, lies, true)), fault);
    let patient = Patience::default();
    assert_eq!(broken(outcome(patient, is_ready, false)), Broken::Closed);
    let deadline = Duration::from_millis(30);
    let hurried = Patience {
        deadline: Some(deadline),
        ..patient
    };
    assert_eq!(
        broken(outcome(hurried, is_ready, true)),
        Broken::Deadline(deadline)
    );
}

#[test]
fn what_came_before_a_fault_is_not_lost() {
    let event = Event::PingReply {
        job: JobId(1),
        reply: plumb_record::PingReply {
            schema: plumb_record::PingSchema::V1,
            kind: plumb_record::ReplyType::Reply,
            dst: [10, 0, 0, 1].into(),
            seq: 1,
            addr: None,
            rtt_ns: None,
            reply_ttl: None,
            reply_size: None,
            icmp_type: None,
            icmp_code: None,
        },
    };
    let says = |guest: &mut Guest| {
        guest.ready(ready());
        guest.event(1, &event, Instant::ZERO);
        guest.finished();
    };
    let (outcome, news) = outcome(BRIEF, says, true);
    let fault = Fault::OutOfState { frame: "Finished" };
    assert_eq!(outcome, Err(Broken::Fault(fault)), "{news:?}");
    assert_eq!(news.len(), 1);
}
