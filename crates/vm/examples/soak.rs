//! Starts one machine after the other in a lab, each for one trace, and says which of them hung.
//!
//! `plumb lab run uhp --bridge lab0 -- soak RUNNER TIMES`, where RUNNER is embedded, firecracker, or
//! qemu-MACHINE-ACCELERATOR.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

use core::net::IpAddr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use plumb_channel::{Configure, Host, Limits, News};
use plumb_link::{Tap, TapOptions};
use plumb_probe::{Config, Event, Job, Trace, TraceOptions};
use plumb_vm::embedded::{self, Embedded};
use plumb_vm::{Accelerator, Firecracker, IMAGE, Launch, Machine, Qemu, Runner};

const PATIENCE: Duration = Duration::from_secs(20);

fn runner(name: &str) -> Box<dyn Runner> {
    let qemu = |machine, accelerator| {
        Box::new(Qemu {
            program: None,
            machine,
            accelerator: Some(accelerator),
        })
    };
    match name {
        "embedded" => Box::new(Embedded::default()),
        "firecracker" => Box::new(Firecracker::default()),
        "qemu-microvm-kvm" => qemu(Machine::Microvm, Accelerator::Kvm),
        "qemu-microvm-tcg" => qemu(Machine::Microvm, Accelerator::Tcg),
        "qemu-pc-tcg" => qemu(Machine::Pc, Accelerator::Tcg),
        "qemu-q35-tcg" => qemu(Machine::Q35, Accelerator::Tcg),
        other => panic!("no such runner: {other}"),
    }
}

struct Run {
    ready: Duration,
    done: Duration,
    ended: Duration,
    hops: usize,
}

fn run(runner: &dyn Runner, words: &str, src: IpAddr, dst: IpAddr) -> Result<Run, String> {
    let options = TapOptions {
        bridge: Some(std::env::var("PLUMB_LAB_BRIDGE").unwrap()),
        ..TapOptions::default()
    };
    let tap = Tap::create(&options).unwrap();
    let name = tap.name().to_owned();
    let began = Instant::now();
    let now =
        || plumb_wire::Instant::from_nanos(u64::try_from(began.elapsed().as_nanos()).unwrap());
    let configure = Configure {
        session: 7,
        engine: Config {
            rate: None,
            ..Config::default()
        },
        seed: 1,
        packets: false,
    };
    let mut host = Host::new(&configure, Limits::default(), now());
    let job = Job::Trace(Trace {
        src,
        dst,
        options: TraceOptions::default().into(),
    });
    host.start(&job).unwrap();
    host.finish();
    let module = host.transmit().to_vec();
    host.handle_sent(module.len());
    let launch = Launch {
        name: None,
        image: IMAGE,
        command_line: words,
        module: &module,
        memory_mib: 8,
        tap: tap.into_fd(),
        tap_name: &name,
        mac: [2, 0, 0, 0, 0, 9],
        merge: false,
    };
    let mut vm = runner.launch(launch).map_err(|error| error.to_string())?;
    let (mut ready, mut done, mut hops) = (None, None, 0);
    let mut chunk = vec![0; 65536];
    let outcome = loop {
        let waiting = host.transmit();
        if !waiting.is_empty()
            && let Ok(sent) = vm.channel.write(waiting)
        {
            host.handle_sent(sent);
        }
        match vm.channel.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(len) => host
                .handle_bytes(&chunk[..len], now())
                .map_err(|error| error.to_string())?,
            Err(_) => {
                let mut fds = [rustix::event::PollFd::new(
                    &vm.channel,
                    rustix::event::PollFlags::IN,
                )];
                let _ = rustix::event::poll(
                    &mut fds,
                    Some(&rustix::event::Timespec {
                        tv_sec: 0,
                        tv_nsec: 100_000_000,
                    }),
                );
            }
        }
        while let Some(news) = host.poll_news() {
            match news {
                News::Ready(_) => ready = Some(began.elapsed()),
                News::Event(Event::Trace { trace, .. }) => hops = trace.hops.len(),
                News::Finished => {
                    done = Some(began.elapsed());
                    host.shutdown();
                }
                News::Refused { why, .. } => println!("refused: {why:?}"),
                News::Event(_) | News::Packet { .. } | News::Text(_) => {}
            }
        }
        if began.elapsed() > PATIENCE {
            break Err(format!("hangs, ready after {ready:?}, done after {done:?}"));
        }
    };
    let mut fds = [rustix::event::PollFd::new(
        &vm.process,
        rustix::event::PollFlags::IN,
    )];
    let _ = rustix::event::poll(
        &mut fds,
        Some(&rustix::event::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        }),
    );
    let ended = began.elapsed();
    let mut said = vec![0; 4000];
    let len = rustix::io::read(vm.console.as_fd(), &mut said).unwrap_or(0);
    let said = String::from_utf8_lossy(&said[..len]);
    match (outcome, ready, done) {
        (Ok(()), Some(ready), Some(done)) => Ok(Run {
            ready,
            done,
            ended,
            hops,
        }),
        (outcome, ..) => Err(format!("{outcome:?} {said}")),
    }
}

fn main() {
    if embedded::is_monitor() {
        embedded::main();
    }
    let arguments: Vec<String> = std::env::args().collect();
    let runner = runner(&arguments[1]);
    let times: usize = arguments[2].parse().unwrap();
    let addresses = std::env::var("PLUMB_LAB_ADDRESS").unwrap();
    let gateways = std::env::var("PLUMB_LAB_GATEWAY").unwrap();
    let target = std::env::var("PLUMB_LAB_TARGETS").unwrap();
    let dst: IpAddr = target.split([' ', ',']).next().unwrap().parse().unwrap();
    let v4 = addresses.split(' ').next().unwrap();
    let src: IpAddr = v4.split('/').next().unwrap().parse().unwrap();
    let words = format!(
        "ip={v4} gw={} {}",
        gateways.split(' ').next().unwrap(),
        arguments[3..].join(" ")
    );
    println!("{words} -> {dst}");
    let (mut runs, mut faults, mut hops) = (Vec::new(), 0, BTreeMap::new());
    for time in 0..times {
        match run(&*runner, &words, src, dst) {
            Ok(run) => {
                *hops.entry(run.hops).or_insert(0) += 1;
                runs.push(run);
            }
            Err(error) => {
                faults += 1;
                println!("run {time}: {error}");
                if faults > 5 {
                    break;
                }
            }
        }
    }
    let show = |name: &str, of: fn(&Run) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort();
        if let (Some(least), Some(most)) = (times.first(), times.last()) {
            println!(
                "{name}: min {least:?} median {:?} max {most:?}",
                times[times.len() / 2]
            );
        }
    };
    show("ready", |run| run.ready);
    show("done ", |run| run.done);
    show("ended", |run| run.ended);
    println!(
        "{} good, {faults} bad, runs by number of hops {hops:?}",
        runs.len()
    );
    if faults > 0 {
        std::process::exit(1);
    }
}
