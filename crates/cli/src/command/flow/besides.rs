//! What is recorded besides the kernel's connections.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use plumb_ebpf::dns;
use plumb_wire::Instant;

use super::quic::QuicSocket;
use super::resolve;
use super::session::Session;
use crate::args;
use crate::command::network::program;
use crate::exit::Failure;

/// What is recorded besides the kernel's connections.
#[derive(Debug)]
pub(super) struct Besides {
    pub(super) dns: Option<dns::Recorder>,
    pub(super) quic: Option<QuicSocket>,
}

impl Besides {
    /// Takes what has happened.
    pub(super) fn pass(&mut self, session: &mut Session, now: Instant) -> anyhow::Result<()> {
        if let Some(recorder) = &mut self.dns {
            recorder.read(now, session.clock.wall_ns(Instant::ZERO))?;
            let mut lookups = recorder.lookups();
            while let Some(lookup) = lookups.poll_record() {
                session.write_lookup(lookup)?;
            }
        }
        if let Some(socket) = &mut self.quic {
            for profile in socket.take().context("cannot read the socket for QUIC")? {
                session.write_reported(profile)?;
            }
        }
        Ok(())
    }

    /// Ends lookups that are under way, and says what was lost.
    pub(super) fn finish(&mut self, session: &mut Session) -> io::Result<()> {
        let say = |count: u64, what: &str| {
            if count > 0 {
                drop(writeln!(io::stderr(), "plumb: {count} {what}"));
            }
        };
        if let Some(recorder) = &mut self.dns {
            say(recorder.lost(), "DNS messages lost: they came too fast");
            let mut lookups = recorder.lookups();
            say(
                lookups.evicted(),
                "name lookups forgotten: there were too many at once",
            );
            lookups.finish_all(session.clock.now());
            while let Some(lookup) = lookups.poll_record() {
                session.write_lookup(lookup)?;
            }
        }
        if let Some(socket) = &self.quic {
            say(
                socket.malformed(),
                "reports that were no profiles of QUIC connections",
            );
        }
        Ok(())
    }
}

/// Begins to watch the name lookups of the host or of a control group.
pub(super) fn watch_lookups(args: &args::Flow) -> anyhow::Result<dns::Recorder> {
    let group = args.cgroup.as_deref().unwrap_or(Path::new("/"));
    let group = resolve::group_directory(group).map_err(Failure::usage)?;
    dns::Recorder::start(&group).map_err(|error| {
        if error.is_permission() {
            Failure::permission(format!(
                "{error}: it takes CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; run `sudo setcap \
                 cap_bpf,cap_net_admin,cap_perfmon+ep {}` once, or use sudo",
                program()
            ))
            .into()
        } else {
            error.into()
        }
    })
}
