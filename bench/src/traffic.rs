//! The ends of a pipeline that is measured: this program itself, started anew as a stage.
//!
//! They use the links that stages use, so what is between them is all that differs from one
//! measurement to the next.

mod flow;
mod hold;

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{self, Write as _};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use plumb_link::stage::{
    Edge, Ends, Link, LinkFrame, Needs, PipeLink, PipeOptions, Received, Sent, take_standard_input,
    take_standard_output, wait,
};
use plumb_wire::frame::Port;
use serde::{Deserialize, Serialize};

use flow::Flows;

/// What an end of a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Sends as fast as the pipeline takes it.
    Source,
    /// Counts what arrives, and sees that it is in order.
    Sink,
    /// Sends one frame, waits for it to come back, and so on.
    Ask,
    /// Sends back what arrives.
    Answer,
    /// Has TCP connections, both ends of each.
    Hold,
}

/// How an end of a pipeline works.
#[derive(Clone, Debug, Args)]
pub(crate) struct Traffic {
    /// Set by the program itself for the ends of a pipeline.
    #[arg(long, hide = true)]
    stage: Option<Role>,
    #[arg(long, hide = true, default_value_t = 64)]
    frame_len: usize,
    #[arg(long, hide = true, default_value_t = 1.0)]
    seconds: f64,
    /// Round trips of `Role::Ask`, connections of `Role::Hold`.
    #[arg(long, hide = true, default_value_t = 1000)]
    rounds: usize,
    /// Whom `Role::Source` and `Role::Ask` write to.
    #[arg(long, hide = true, default_value = "10.0.1.2")]
    to: Ipv4Addr,
    /// A device in place of the pipe.
    #[arg(long, hide = true)]
    device: Option<String>,
    #[arg(long, hide = true)]
    no_upgrade: bool,
    /// Where the figures are written.
    #[arg(long, hide = true)]
    figures: Option<std::path::PathBuf>,
}

/// What a sink has seen.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Seen {
    /// Frames in all.
    pub(crate) frames: u64,
    /// Frames that are missing, came twice or came late.
    pub(crate) disorder: u64,
    /// Frames a second, once the pipeline was warm.
    pub(crate) rate: f64,
    /// Milliseconds from the first frame until the ring was used, if it was.
    pub(crate) upgrade_ms: Option<f64>,
}

/// What whoever asks has seen: round trips in microseconds.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct RoundTrips {
    pub(crate) us: Vec<f64>,
}

/// Frames between two looks at the clock.
const BATCH: u64 = 32;
/// What a pipeline gets to meet, to fill caches and tables.
const WARM_UP: Duration = Duration::from_millis(100);
/// A frame that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);

impl Traffic {
    /// Whether this process is the end of a pipeline.
    pub(crate) const fn is_stage(&self) -> bool {
        self.stage.is_some()
    }

    /// Is an end of a pipeline, until that has ended.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        match self.stage {
            Some(Role::Source) => self.send(&mut *self.link(Port::Right)?),
            Some(Role::Sink) => {
                let seen = self.count(&mut *self.link(Port::Left)?)?;
                self.say(&seen)
            }
            Some(Role::Ask) => {
                let trips = self.ask(&mut *self.link(Port::Right)?)?;
                self.say(&trips)
            }
            Some(Role::Hold) => hold::hold(self.rounds),
            Some(Role::Answer) => self.answer(&mut *self.link(Port::Left)?),
            None => bail!("no stage"),
        }
    }

    /// The link to the neighbour at a port.
    fn link(&self, port: Port) -> anyhow::Result<Box<dyn Link>> {
        if let Some(name) = &self.device {
            return Ok(Box::new(Edge::open(name)?));
        }
        let mut ends = Ends::default();
        match port {
            Port::Left => ends.input = Some(take_standard_input()?),
            Port::Right => ends.output = Some(take_standard_output()?),
        }
        let options = PipeOptions {
            port,
            upgrade: !self.no_upgrade,
            keep_offload: true,
            is_capture: false,
        };
        Ok(Box::new(PipeLink::open(ends, options)?))
    }

    fn say(&self, figures: &impl Serialize) -> anyhow::Result<()> {
        let text = serde_json::to_string(figures)?;
        match &self.figures {
            Some(path) => std::fs::write(path, text).context("cannot write the figures"),
            None => writeln!(io::stdout(), "{text}").context("cannot write the figures"),
        }
    }

    fn send(&self, link: &mut dyn Link) -> anyhow::Result<()> {
        let mut flows = Flows::new(self.to, self.frame_len);
        let mut nobody = nobody()?;
        let until = Instant::now() + Duration::from_secs_f64(self.seconds);
        while Instant::now() < until {
            let at_ns = wall_ns();
            for _ in 0..BATCH {
                let frame = flows.next(at_ns);
                loop {
                    match link.send(frame.into())? {
                        Sent::Taken => break,
                        Sent::Full => {
                            link.flush()?;
                            let needs = Needs {
                                receive: false,
                                send: true,
                            };
                            rest(link, &mut nobody, needs, None)?;
                        }
                        Sent::Closed => return Ok(()),
                        // A device whose queue is full says no; the next one may fit.
                        Sent::NoWay | Sent::Refused => break,
                    }
                }
            }
            link.look_after()?;
            // What comes back is nobody's.
            let mut back = LinkFrame::default();
            while let Received::Frame = link.receive(&mut back)? {}
        }
        while !link.is_flushed() {
            link.flush()?;
            rest(link, &mut nobody, Needs::default(), Some(PATIENCE))?;
        }
        link.flush()?;
        Ok(())
    }

    fn count(&self, link: &mut dyn Link) -> anyhow::Result<Seen> {
        let mut seen = Seen::default();
        let mut nobody = nobody()?;
        let mut frame = LinkFrame::default();
        let mut next = 0;
        let (mut first, mut warm, mut last) = (None, None, Instant::now());
        let deadline = Instant::now() + Duration::from_secs_f64(self.seconds + 30.0);
        loop {
            let received = link.receive(&mut frame)?;
            if received == Received::Frame {
                let Some(number) = flow::number(&frame.bytes) else {
                    continue;
                };
                seen.disorder += u64::from(number != next);
                next = number.wrapping_add(1);
                seen.frames += 1;
                if !seen.frames.is_multiple_of(BATCH) && seen.frames > 1 {
                    continue;
                }
            } else if received == Received::End {
                break;
            } else {
                link.flush()?;
            }
            // Where frames are always there, it never sleeps, and would not come to know its neighbour.
            link.look_after()?;
            let now = Instant::now();
            if seen.frames > 0 {
                let begin = *first.get_or_insert(now);
                if warm.is_none() && now - begin >= WARM_UP {
                    warm = Some((now, seen.frames));
                }
                if seen.upgrade_ms.is_none() && link.describe() == "ring" {
                    seen.upgrade_ms = Some((now - begin).as_secs_f64() * 1e3);
                }
            }
            if received == Received::Frame {
                last = now;
                continue;
            }
            // A device never ends.
            let is_over = self.device.is_some() && first.is_some() && now - last > 2 * WARM_UP;
            if is_over || now > deadline {
                break;
            }
            let needs = Needs {
                receive: true,
                send: false,
            };
            rest(link, &mut nobody, needs, Some(PATIENCE))?;
        }
        if let Some((warm, frames)) = warm {
            seen.rate = (seen.frames - frames) as f64 / (last - warm).as_secs_f64();
        }
        Ok(seen)
    }

    fn ask(&self, link: &mut dyn Link) -> anyhow::Result<RoundTrips> {
        let mut flows = Flows::new(self.to, self.frame_len);
        let mut nobody = nobody()?;
        let mut back = LinkFrame::default();
        let mut trips = RoundTrips::default();
        let mut lost = 0;
        while trips.us.len() < self.rounds {
            let begin = Instant::now();
            let sent = link.send(flows.next(wall_ns()).into())?;
            link.flush()?;
            loop {
                match link.receive(&mut back)? {
                    Received::Frame => break,
                    Received::End => bail!("the pipeline has ended"),
                    Received::Nothing => {}
                }
                if sent == Sent::Closed || lost > 50 {
                    bail!("frames do not come back");
                }
                if begin.elapsed() > PATIENCE {
                    break;
                }
                let needs = Needs {
                    receive: true,
                    send: false,
                };
                link.flush()?;
                rest(link, &mut nobody, needs, Some(PATIENCE))?;
            }
            // Until the rings are there, nothing comes back.
            if begin.elapsed() > PATIENCE {
                lost += 1;
            } else {
                trips.us.push(begin.elapsed().as_secs_f64() * 1e6);
            }
        }
        Ok(trips)
    }

    fn answer(&self, link: &mut dyn Link) -> anyhow::Result<()> {
        let mut nobody = nobody()?;
        let mut frame = LinkFrame::default();
        loop {
            match link.receive(&mut frame)? {
                Received::Frame => {
                    link.send((&frame).into())?;
                }
                Received::End => return Ok(()),
                Received::Nothing => {
                    link.flush()?;
                    let needs = Needs {
                        receive: true,
                        send: false,
                    };
                    rest(link, &mut nobody, needs, None)?;
                }
            }
        }
    }
}

/// The side where there is no neighbour.
fn nobody() -> anyhow::Result<PipeLink> {
    let options = PipeOptions {
        port: Port::Left,
        upgrade: false,
        keep_offload: true,
        is_capture: false,
    };
    Ok(PipeLink::open(Ends::default(), options)?)
}

/// Sleeps until the link has what is needed of it, or the time is over.
fn rest(
    link: &mut dyn Link,
    nobody: &mut dyn Link,
    needs: Needs,
    limit: Option<Duration>,
) -> anyhow::Result<()> {
    wait(link, nobody, [needs, Needs::default()], &[], limit)?;
    Ok(())
}

fn wall_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(0))
}
