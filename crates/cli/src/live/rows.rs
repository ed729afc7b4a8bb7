//! The lines of the hop table, tunnels woven in, with the bracket at their left edge.

use crate::live::model::{Place, Target};
use crate::output::style::Look;

/// What a line shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The hop at a TTL.
    Hop(u8),
    /// What kind of tunnel begins here: index in [`Target::tunnels`].
    Title(usize),
    /// A router that is no hop: index of its tunnel, and among the hidden routers of that.
    Hidden(usize, usize),
}

/// A line's part of the brackets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bracket {
    /// Not in a tunnel.
    Outside,
    /// First line of a tunnel.
    Start,
    /// Between first and last.
    Inside,
    /// Last line of a tunnel.
    End,
    /// Last line of one and first line of another.
    Joint,
}

impl Bracket {
    /// The two characters before a line; `hidden` says that the line's router is no hop.
    pub(crate) const fn glyph(self, look: Look, hidden: bool) -> &'static str {
        match self {
            Self::Outside => "  ",
            Self::Start => look.pick("╭─", ",-"),
            Self::Inside if hidden => look.pick("┊ ", ": "),
            Self::Inside => look.pick("│ ", "| "),
            Self::End => look.pick("╰─", "`-"),
            Self::Joint => look.pick("├─", "+-"),
        }
    }
}

/// A line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// What it shows.
    pub(crate) content: Content,
    /// Its part of the brackets.
    pub(crate) bracket: Bracket,
}

/// The lines for a target, nearest hop first; without tunnels if `tunnels` is false.
pub(crate) fn rows(target: &Target, tunnels: bool) -> Vec<Row> {
    let states = if tunnels { target.tunnels() } else { &[] };
    let places = || {
        states
            .iter()
            .enumerate()
            .filter(|(_, state)| !state.is_suspicion())
            .map(|(index, state)| (index, &state.place))
    };
    let mut contents = Vec::new();
    let mut next = 0;
    for hop in target.hops() {
        contents.extend(behind(next..hop.ttl(), places));
        contents.push(Content::Hop(hop.ttl()));
        next = hop.ttl();
    }
    contents.extend(behind(next..next.saturating_add(1), places));

    let mut spans = vec![None; states.len()];
    for (line, content) in contents.iter().enumerate() {
        for (index, place) in places() {
            let belongs = match content {
                Content::Hop(ttl) => place.contains(*ttl),
                Content::Title(of) | Content::Hidden(of, _) => *of == index,
            };
            if belongs && let Some(span) = spans.get_mut(index) {
                let (first, _) = span.unwrap_or((line, line));
                *span = Some((first, line));
            }
        }
    }
    contents
        .into_iter()
        .enumerate()
        .map(|(line, content)| Row {
            content,
            bracket: bracket(line, &spans),
        })
        .collect()
}

/// What goes between a hop and the next, for the hops at `ttls`.
fn behind<'a, I>(ttls: core::ops::Range<u8>, places: impl Fn() -> I) -> Vec<Content>
where
    I: Iterator<Item = (usize, &'a Place)>,
{
    let mut contents = Vec::new();
    for ttl in ttls {
        for (index, place) in places() {
            if place.title_after == ttl {
                contents.push(Content::Title(index));
            }
            let hidden = place.hidden.iter().enumerate();
            contents.extend(
                hidden
                    .filter(|(_, (after, _))| *after == ttl)
                    .map(|(at, _)| Content::Hidden(index, at)),
            );
        }
    }
    contents
}

fn bracket(line: usize, spans: &[Option<(usize, usize)>]) -> Bracket {
    let spans = || spans.iter().flatten().filter(|(first, last)| first < last);
    let starts = spans().any(|(first, _)| *first == line);
    let ends = spans().any(|(_, last)| *last == line);
    let through = spans().any(|(first, last)| *first < line && line < *last);
    match (starts, ends) {
        (true, true) => Bracket::Joint,
        (true, false) => Bracket::Start,
        (false, true) => Bracket::End,
        (false, false) if through => Bracket::Inside,
        (false, false) => Bracket::Outside,
    }
}

#[cfg(test)]
mod tests {
    use plumb_record::{Method, Trace};
    use plumb_wire::Instant;

    use super::*;
    use crate::live::model::Kind;
    use crate::output::fixtures;

    fn drawn(trace: &Trace) -> String {
        let mut target = Target::new("t".into(), trace.src, trace.dst, Method::IcmpParis, 1);
        target.start_round(Kind::Check, Instant::ZERO);
        target.handle_trace(Kind::Check, trace, Instant::ZERO);
        rows(&target, true)
            .iter()
            .map(|row| {
                let edge = match row.bracket {
                    Bracket::Outside => ' ',
                    Bracket::Start => '/',
                    Bracket::Inside => '|',
                    Bracket::End => '\\',
                    Bracket::Joint => '+',
                };
                let what = match row.content {
                    Content::Hop(ttl) => ttl.to_string(),
                    Content::Title(tunnel) => format!("t{tunnel}"),
                    Content::Hidden(_, hidden) => format!("h{hidden}"),
                };
                format!("{edge}{what}")
            })
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn brackets_go_round_exactly_the_routers_of_a_tunnel() {
        for (name, expected) in [
            ("plain", " 1  2  3"),
            ("explicit", " 1 /2 |t0 |3 |4 |5 \\6  7  8"),
            ("php", " 1 /2 |t0 |h0 |h1 |h2 \\3  4  5"),
            ("uhp", " 1 /2 |t0 |h0 |h1 |h2 \\h3  3  4  5"),
            ("two-tunnels", " 1 /2 |t0 |h0 |h1 |h2 +3 |t1 |4 \\5  6"),
        ] {
            let (_, trace) = fixtures::all()
                .into_iter()
                .find(|(n, _)| *n == name)
                .unwrap();
            assert_eq!(drawn(&trace), expected, "{name}");
        }
    }

    #[test]
    fn a_mere_suspicion_is_no_bracket() {
        assert!(!drawn(&fixtures::nothing_revealed()).contains('t'));
    }

    #[test]
    fn every_bracket_that_opens_closes() {
        for (name, trace) in fixtures::all() {
            let mut open = false;
            for c in drawn(&trace).chars() {
                match c {
                    '/' => assert!(!core::mem::replace(&mut open, true), "{name}"),
                    '|' | '+' => assert!(open, "{name}"),
                    '\\' => assert!(core::mem::replace(&mut open, false), "{name}"),
                    _ => {}
                }
            }
            assert!(!open, "{name}: {}", drawn(&trace));
        }
    }
}
