//! What is shown of a session.

use std::io::{self, Write};

use plumb_ebpf::tap::Hook;
use plumb_record::{TapCounters, TapInterface, TapOutput, TapStatus, WallTime};

use super::super::flows::Flows;
use super::super::outputs::Target;
use super::super::settings;
use super::super::sink::Taker;
use super::Tap;

impl Tap<'_> {
    pub(super) fn report(&self, status: &TapStatus) -> anyhow::Result<()> {
        let mut out = io::stderr().lock();
        if self.args.links.json {
            writeln!(out, "{}", serde_json::to_string(status)?)?;
            return Ok(());
        }
        for (name, value) in status.rows() {
            writeln!(out, "tap: {value:>12} {}", name.replace('_', " "))?;
        }
        Ok(())
    }

    pub(super) fn interfaces(&self) -> Vec<TapInterface> {
        let mut found: Vec<TapInterface> = Vec::new();
        for (index, hook, way) in self.session.interfaces() {
            let Some(chosen) = self.on.get(&index) else {
                continue;
            };
            if let Some(known) = found.iter_mut().find(|known| known.index == index) {
                "both".clone_into(&mut known.direction);
                continue;
            }
            let is_out = (hook == Hook::Ingress) == chosen.is_port;
            found.push(TapInterface {
                name: chosen.name.clone(),
                index,
                direction: if is_out { "out" } else { "in" }.to_owned(),
                attached: way.name().to_owned(),
            });
        }
        found
    }

    pub(super) fn status(&self) -> anyhow::Result<TapStatus> {
        let c = self.session.counters()?;
        let mut outputs: Vec<TapOutput> = self.targets.iter().map(Target::shown).collect();
        outputs.extend(self.flows.iter().flat_map(Flows::outputs));
        if let Some(sink) = &self.sink {
            outputs.push(TapOutput {
                name: match (&sink.taker, &self.args.write) {
                    (Taker::Pipe(pipe), _) => plumb_link::stage::Link::describe(&**pipe),
                    (Taker::Files(_), path) => path
                        .as_ref()
                        .map(|path| path.display().to_string())
                        .unwrap_or_default(),
                },
                trouble: None,
            });
        }
        Ok(TapStatus {
            id: self.id,
            time: WallTime(self.clock.wall_ns(self.clock.now())),
            since: self.since,
            interfaces: self.interfaces(),
            filter: self.shown.filter.clone(),
            rules: self.shown.rules.clone(),
            prefixes: self.shown.prefixes,
            outputs,
            limits: settings::shown(&self.session.limits()),
            counters: TapCounters {
                seen: c.seen,
                seen_bytes: c.seen_bytes,
                matched: c.matched,
                delivered: c.delivered,
                delivered_bytes: c.delivered_bytes,
                sampled_out: c.sampled_out,
                rate_limited: c.rate_limited,
                duplicates: c.duplicates,
                truncated: c.truncated,
                ring_full: c.ring_full,
                output_failed: c.output_failed,
                own: c.own,
                not_chosen: c.seen.saturating_sub(c.matched),
                written: self.sink.as_ref().map_or(0, |sink| sink.written),
                not_taken: self.sink.as_ref().map_or(0, |sink| sink.dropped),
            },
            flows: self.flows.as_ref().map(Flows::shown),
            in_user_space: self.session.in_user_space().map(str::to_owned),
            ..TapStatus::default()
        })
    }
}
