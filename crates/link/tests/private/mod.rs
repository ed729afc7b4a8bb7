//! Networks for tests: each test in a process and a network namespace of its own.

#![allow(dead_code, reason = "no test file needs all of it")]

use core::any::Any;
use core::net::IpAddr;
use core::panic::AssertUnwindSafe;
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::os::fd::OwnedFd;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::thread::JoinHandle;

use plumb_link::namespace;
use plumb_link::{Batch, Clock, Port, Then, Tun, TunOptions, Turn, run};
use plumb_probe::{Config, Engine, Event, Job, TraceOptions};
use plumb_record::Trace;
use plumb_sim::{Network, Topology, labs};
use plumb_wire::{Engine as _, Instant, ProbeId, SendError, Transmit};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, pidfd_open, waitpid};

/// User and group of nobody.
pub(crate) const NOBODY: u32 = 65_534;

/// Longest time that a story takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status of a story that could not be told here.
const SKIPPED: i32 = 77;

/// Says on standard error, captured or not, why a test did not run; where nothing may be missing
/// (`TESTS_NO_SKIP`) that is a failure.
pub(crate) fn skipped(why: &str) {
    assert!(
        std::env::var_os("TESTS_NO_SKIP").is_none(),
        "cannot run: {why}"
    );
    say(&format!("skipped: {why}"));
}

/// Runs `story` in a process of its own, inside a private network.
pub(crate) fn alone(story: impl Fn()) {
    let status = in_a_process(|| {
        if let Err(error) = namespace::enter() {
            say(&error.to_string());
            return SKIPPED;
        }
        namespace::let_ping();
        // The first process of the new PID namespace: this one may start no threads any more.
        in_a_process(|| {
            story();
            0
        })
    });
    match status {
        0 => {}
        SKIPPED => skipped("no private network"),
        status => panic!("the story ended with status {status}"),
    }
}

/// Runs `tell` in a process of its own and returns its status; a panic is 1.
pub(crate) fn in_a_process(tell: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child has this thread only. Of what other threads may have locked it uses the
    // allocator, which is sound after a fork, and writes to descriptors directly.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    let Some(pid) = Pid::from_raw(pid) else {
        std::panic::set_hook(Box::new(|info| say(&info.to_string())));
        let status = catch_unwind(AssertUnwindSafe(tell)).unwrap_or(1);
        // SAFETY: ends the process without running what the parent registered for its end.
        unsafe { libc::_exit(status) };
    };
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    if !ends_within(&process, PATIENCE) {
        rustix::process::kill_process(pid, Signal::KILL).unwrap();
    }
    let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
    status.exit_status().unwrap_or(-1)
}

/// Waits for the end of a process.
pub(crate) fn ends_within(process: &OwnedFd, patience: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = Timespec::try_from(patience).unwrap();
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).unwrap() > 0
}

/// Writes a line past everything that captures or locks standard error.
pub(crate) fn say(line: &str) {
    let _ = rustix::io::write(std::io::stderr(), format!("{line}\n").as_bytes());
}

/// Gives up being root, in all threads of this process.
pub(crate) fn become_user(id: u32) {
    // SAFETY: no pointers but a null one for an empty list.
    let changed = unsafe {
        [
            libc::setgroups(0, core::ptr::null()),
            libc::setresgid(id, id, id),
            libc::setresuid(id, id, id),
        ]
    };
    assert_eq!(changed, [0; 3], "change the user");
    // A process that changed its user is not its own in /proc, unless it says so.
    // SAFETY: no pointers are involved.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1) };
}

/// A simulated network behind a TUN device, driven by a thread.
pub(crate) struct Lab {
    pub(crate) v4: Option<IpAddr>,
    pub(crate) v6: Option<IpAddr>,
    pub(crate) target: IpAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// Starts a built-in lab, in the current network namespace.
    pub(crate) fn start(name: &str) -> Self {
        let lab = labs().iter().find(|lab| lab.name == name).unwrap();
        let mut network = Network::new(&Topology::from_toml(lab.toml).unwrap(), 7);
        let vantage = network.vantage();
        let options = TunOptions {
            name: "uplink".to_owned(),
            v4: vantage.v4,
            v6: vantage.v6,
            ..TunOptions::default()
        };
        let mut tun = Tun::create(&options).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let turn = |_: &mut Network, now| {
                if stopped.load(Ordering::Relaxed) {
                    Turn::Stop
                } else {
                    let wake_at = Some(now + Duration::from_millis(10));
                    Turn::Continue { wake_at }
                }
            };
            run(&mut network, &mut tun, &Clock::new(), &[], &mut (), turn).unwrap();
        });
        Self {
            v4: vantage.v4.map(|(address, _)| address.into()),
            v6: vantage.v6.map(|(address, _)| address.into()),
            target: lab.targets[0].parse().unwrap(),
            stop,
            thread: Some(thread),
        }
    }

    /// This host's address towards the target.
    pub(crate) fn source(&self) -> IpAddr {
        let source = if self.target.is_ipv4() {
            self.v4
        } else {
            self.v6
        };
        source.unwrap()
    }

    /// Traces the lab's target through `port`.
    pub(crate) fn trace(
        &self,
        port: &mut impl Port,
        config: Config,
        options: TraceOptions,
    ) -> Trace {
        let clock = Clock::new();
        let mut engine = Engine::new(config, 7);
        let job = Job::Trace(plumb_probe::Trace {
            src: self.source(),
            dst: self.target,
            options: Arc::new(options),
        });
        engine.start(job, clock.now()).unwrap();
        let give_up = clock.now() + PATIENCE / 2;
        let mut found = None;
        run(&mut engine, port, &clock, &[], &mut (), |engine, now| {
            assert!(now < give_up, "the trace does not end");
            while let Some(event) = engine.poll_event() {
                if let Event::Trace { trace, .. } = event {
                    found = Some(*trace);
                }
            }
            match found {
                Some(_) => Turn::Stop,
                None => Turn::Continue {
                    wake_at: Some(give_up),
                },
            }
        })
        .unwrap();
        found.unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended: Option<Result<(), Box<dyn Any + Send>>> =
            self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(()))), "the lab has failed");
        }
    }
}

/// Sends packets and returns what became of each.
pub(crate) fn send(port: &mut impl Port, packets: &[Vec<u8>]) -> Vec<Result<Instant, SendError>> {
    let mut results = vec![None; packets.len()];
    let mut batch = Batch::new();
    let mut waiting = packets.iter().zip(0..);
    let give_up = Clock::new().now() + PATIENCE / 2;
    loop {
        while batch.len() < Batch::CAPACITY {
            let Some((packet, number)) = waiting.next() else {
                break;
            };
            assert!(batch.push(|into| {
                into[..packet.len()].copy_from_slice(packet);
                Some(Transmit {
                    len: packet.len(),
                    probe: ProbeId(number),
                })
            }));
        }
        if batch.is_empty() {
            return results.into_iter().map(Option::unwrap).collect();
        }
        while !batch.is_empty() {
            assert!(Clock::new().now() < give_up, "packets are not sent");
            let mut done = Vec::new();
            let progress = port
                .send(&batch, &mut |index, result| done.push((index, result)))
                .unwrap();
            for (index, result) in done {
                let number = usize::try_from(batch.probe(index).0).unwrap();
                assert!(results[number].replace(result).is_none(), "reported twice");
            }
            let left = batch.len() - progress.done;
            let rest: Vec<_> = (progress.done..batch.len())
                .map(|i| (batch.packet(i).to_vec(), batch.probe(i)))
                .collect();
            batch = Batch::new();
            for (packet, probe) in rest {
                batch.push(|into| {
                    into[..packet.len()].copy_from_slice(&packet);
                    Some(Transmit {
                        len: packet.len(),
                        probe,
                    })
                });
            }
            assert_eq!(batch.len(), left);
            if let Then::After(pause) = progress.then {
                std::thread::sleep(pause);
            }
        }
    }
}

/// Takes packets until `enough` have come or `patience` is over.
pub(crate) fn receive(
    port: &mut impl Port,
    enough: usize,
    patience: Duration,
) -> Vec<(Instant, Vec<u8>)> {
    let clock = Clock::new();
    let until = clock.now() + patience;
    let mut packets = Vec::new();
    while packets.len() < enough && clock.now() < until {
        let taken = port
            .receive(64, &mut |at, packet| packets.push((at, packet.to_vec())))
            .unwrap();
        if taken == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    packets
}
