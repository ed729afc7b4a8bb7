//! A function between two captures, in the time of their stamps.

use std::io::{self, IsTerminal, Write};

use plumb_nf::{Function, Player};

use super::capture::{Next, Sink, Source};
use super::counters;
use crate::exit::{Exit, Failure};

/// How a function is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Played {
    /// The name of the stage, as its verb.
    pub(crate) name: &'static str,
    /// Its counters are written to standard error at the end.
    pub(crate) counters: bool,
    /// They are JSON.
    pub(crate) json: bool,
    /// Where standard output is a terminal, packets are left out instead of refused.
    pub(crate) counts_only: bool,
}

/// Runs a function from standard input to standard output. `after` is called with the function
/// whenever a frame has passed.
pub(crate) fn play<F: Function>(
    function: F,
    played: Played,
    mut after: impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let name = played.name;
    if io::stdin().is_terminal() {
        return Err(Failure::usage(format!(
            "{name} reads packets from standard input: try plumb {name} < in.pcapng > out.pcapng"
        ))
        .into());
    }
    let hidden = io::stdout().is_terminal();
    if hidden && !played.counts_only {
        return Err(Failure::usage(format!(
            "{name} writes packets to standard output, which is a terminal: add > out.pcapng, or \
             | tcpdump -nr -"
        ))
        .into());
    }
    let into: Box<dyn Write> = if hidden {
        Box::new(io::sink())
    } else {
        Box::new(io::stdout().lock())
    };
    let mut source = Source::new(io::stdin().lock());
    let mut sink = Sink::new(into);
    let mut player = Player::new(function);
    let ended = run(&mut source, &mut sink, &mut player, &mut after);
    let written = sink.flush();
    if played.counters {
        counters::report(name, player.function(), played.json)?;
    }
    ended?;
    written?;
    Ok(Exit::Reached)
}

fn run<R: io::Read, W: Write, F: Function>(
    source: &mut Source<R>,
    sink: &mut Sink<W>,
    player: &mut Player<F>,
    after: &mut impl FnMut(&mut F) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let mut frame = player.empty();
        match source.next(&mut frame)? {
            Next::Frame(port) => {
                player.frame(port, frame, |_, to, frame| sink.frame(to, frame))?;
                after(player.function())?;
            }
            Next::Starved => {
                // Whoever waits for what has been done gets it before we wait ourselves.
                sink.flush()?;
                if !source.fill()? {
                    break;
                }
            }
        }
    }
    player.finish(|_, to, frame| sink.frame(to, frame))?;
    after(player.function())
}

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use plumb_nf::impair::{Impair, Impairment};
    use plumb_nf::{Frame, Port};
    use plumb_wire::Instant;

    use super::*;

    #[test]
    fn a_capture_gives_the_same_bytes_each_time_and_the_end_waits_for_what_is_held() {
        let mut input = Vec::new();
        let mut sink = Sink::new(&mut input);
        for i in 0..3000u32 {
            let at = Instant::from_millis(i.into());
            sink.frame(Port::Right, &Frame::new(at, &i.to_be_bytes().repeat(20)))
                .unwrap();
        }
        sink.flush().unwrap();
        let play = |seed| {
            let late = Impairment {
                delay: Duration::from_millis(50),
                jitter: Duration::from_millis(20),
                ..Impairment::default()
            };
            let mut output = Vec::new();
            let mut sink = Sink::new(&mut output);
            let mut player = Player::new(Impair::new(late, late, seed));
            run(
                &mut Source::new(&input[..]),
                &mut sink,
                &mut player,
                &mut |_| Ok(()),
            )
            .unwrap();
            sink.flush().unwrap();
            output
        };
        assert_eq!(play(1), play(1));
        assert_ne!(play(1), play(2));
        assert_eq!(play(1).len(), input.len());
    }
}
