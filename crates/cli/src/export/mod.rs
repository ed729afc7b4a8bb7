//! Flow records on their way to collectors.
//!
//! The engine is `plumb_ipfix::Exporter`; here are the sockets, the file and the thread of each
//! destination. It is not in `link`, which moves packets and knows neither records nor TLS. A
//! destination that hangs holds nobody up: taking a record only encodes it into a bounded queue.

mod carrier;
mod destination;
mod tls;

use core::time::Duration;

use plumb_ipfix::{ExporterConfig, ExporterStatistics, Transport};
use plumb_record::{DnsProfile, FlowProfile, TapFlow};

use crate::args::{CollectorTransport, ExportArgs};
use carrier::{Datagrams, FileCarrier, Opener, Stream};
use destination::Destination;
pub use destination::Outcome;
use tls::TlsClient;

/// The collectors and files that flow records go to.
#[derive(Debug, Default)]
pub struct Export {
    destinations: Vec<Destination>,
}

impl Export {
    /// Begins to export to all that the arguments name; to nobody if they name none. What does not
    /// work is said on standard error if it `complains`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written, or what TLS needs cannot be read. A collector that cannot be
    /// reached is no error: it is tried again.
    pub fn start(args: &ExportArgs, complains: bool) -> anyhow::Result<Self> {
        let mut destinations = Vec::new();
        let config = |transport, queue_bytes| ExporterConfig {
            enterprise: args.enterprise,
            domain: args.observation_domain,
            process: std::process::id(),
            transport,
            queue_bytes,
            ..ExporterConfig::default()
        };
        // Without authorities there is nothing to try again: all that can be wrong is said now.
        let wants_tls =
            |to: &crate::args::CollectorAddress| to.transport == CollectorTransport::Tls;
        let tls = if args.export.iter().any(wants_tls) {
            Some(TlsClient::new(args)?)
        } else {
            None
        };
        for to in &args.export {
            let (transport, opener): (_, Box<dyn Opener>) = match (to.transport, &tls) {
                (CollectorTransport::Udp, _) => (
                    Transport::Datagrams,
                    Box::new(Datagrams::to(to, args.export_rate)),
                ),
                (CollectorTransport::Tls, Some(tls)) => (
                    Transport::Stream,
                    Box::new(Stream::over_tls(to, tls.clone())),
                ),
                (CollectorTransport::Tcp | CollectorTransport::Tls, _) => {
                    (Transport::Stream, Box::new(Stream::to(to)))
                }
            };
            let config = config(transport, QUEUE_BYTES);
            destinations.push(Destination::start(
                to.to_string(),
                config,
                opener,
                complains,
            )?);
        }
        if let Some(path) = &args.ipfix_file {
            let opener = Box::new(FileCarrier::create(path)?);
            let config = config(Transport::Stream, QUEUE_BYTES);
            destinations.push(Destination::start(
                path.display().to_string(),
                config,
                opener,
                complains,
            )?);
        }
        Ok(Self { destinations })
    }

    /// Whether records go nowhere.
    pub const fn is_empty(&self) -> bool {
        self.destinations.is_empty()
    }

    /// Takes the profile of a connection, to be sent from the next [`wake`](Self::wake) on.
    pub fn take(&self, profile: &FlowProfile) {
        for destination in &self.destinations {
            destination.take(profile);
        }
    }

    /// Takes the record of a name lookup, as [`take`](Self::take) does.
    pub fn take_lookup(&self, lookup: &DnsProfile) {
        for destination in &self.destinations {
            destination.take_lookup(lookup);
        }
    }

    /// Takes a flow that a tap has counted, as [`take`](Self::take) does.
    pub fn take_tapped(&self, flow: &TapFlow) {
        for destination in &self.destinations {
            destination.take_tapped(flow);
        }
    }

    /// Begins to send what was taken: once for a batch, since to wake a thread costs more than to
    /// encode a record. [`wait_for_room`](Self::wait_for_room) and [`finish`](Self::finish) do it, too.
    pub fn wake(&self) {
        for destination in &self.destinations {
            destination.wake();
        }
    }

    /// Counts records that were lost before they came here, for the statistics that collectors get.
    pub fn not_recorded(&self, records: u64) {
        for destination in &self.destinations {
            destination.not_recorded(records);
        }
    }

    /// Waits until no destination has more than half of its queue waiting: for records that are
    /// there already and can be read more slowly.
    ///
    /// # Errors
    ///
    /// Who did not take any for as long as `patience`.
    pub fn wait_for_room(&self, patience: Duration) -> Result<(), &str> {
        for destination in &self.destinations {
            if !destination.wait_for_room(patience) {
                return Err(destination.name());
            }
        }
        Ok(())
    }

    /// What became of the records so far, destination by destination.
    pub fn statistics(&self) -> impl Iterator<Item = (&str, ExporterStatistics)> {
        self.destinations
            .iter()
            .map(|destination| (destination.name(), destination.statistics()))
    }

    /// Sends all that waits, for at most `patience`, and ends.
    pub fn finish(self, patience: Duration) -> Vec<Outcome> {
        for destination in &self.destinations {
            destination.finish(patience);
        }
        let ended = self.destinations.into_iter().map(Destination::join);
        ended.collect()
    }
}

/// Most bytes of records that wait for a destination.
const QUEUE_BYTES: usize = 16 << 20;
