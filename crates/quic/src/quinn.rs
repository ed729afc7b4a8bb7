//! Connections of quinn.

use core::net::SocketAddr;
use core::ops::Deref;
use core::time::Duration;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use plumb_record::{FlowOpen, WallTime};
use quinn::{Connecting, Connection, ConnectionError, VarInt};

use crate::{Emitter, End, Identity, Recorder, Snapshot};

/// How often a connection is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// RFC 9000 §20.1: the server refuses to accept a new connection.
const CONNECTION_REFUSED: u64 = 0x02;
/// RFC 9000 §20.1: the connection is closed without an error.
const NO_ERROR: u64 = 0x00;

/// A connection that is watched. It is closed with error code 0 when the last clone is dropped, as
/// quinn closes a connection without handles.
#[derive(Clone, Debug)]
pub struct Watched(Arc<Handle>);

#[derive(Debug)]
struct Handle(Connection);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close(VarInt::from_u32(0), b"");
    }
}

impl Deref for Watched {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0.0
    }
}

/// Waits for a connection and watches it until it ends; profiles go to `emitter`.
///
/// `local` is the address of the endpoint ([`quinn::Endpoint::local_addr`]); where it names no
/// address, that of the connection is taken. Runs in tokio, and spawns one task.
///
/// # Errors
///
/// Those of the handshake, which are reported, too.
pub async fn watch(
    connecting: Connecting,
    local: SocketAddr,
    open: FlowOpen,
    emitter: Arc<Emitter>,
) -> Result<Watched, ConnectionError> {
    let mut identity = Identity {
        flow_id: emitter.next_flow_id(),
        local,
        remote: connecting.remote_address(),
        open,
        process: std::env::current_exe()
            .ok()
            .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned())),
    };
    if let Some(address) = connecting.local_ip() {
        identity.local.set_ip(address);
    }
    let mut recorder = Recorder::new(identity, now());
    let connection = match connecting.await {
        Ok(connection) => connection,
        Err(error) => {
            emitter.emit(&recorder.ended(&Snapshot::default(), end(&error), now()));
            return Err(error);
        }
    };
    emitter.emit(&recorder.established(&snapshot(&connection), now()));
    let watched = Watched(Arc::new(Handle(connection.clone())));
    tokio::spawn(async move {
        let error = loop {
            match tokio::time::timeout(LOOK_EVERY, connection.closed()).await {
                Ok(error) => break error,
                Err(_) => {
                    if let Some(profile) = recorder.look(&snapshot(&connection), now()) {
                        emitter.emit(&profile);
                    }
                }
            }
        };
        emitter.emit(&recorder.ended(&snapshot(&connection), end(&error), now()));
    });
    Ok(watched)
}

fn snapshot(connection: &Connection) -> Snapshot {
    let stats = connection.stats();
    Snapshot {
        bytes_sent: stats.udp_tx.bytes,
        bytes_received: stats.udp_rx.bytes,
        packets_sent: Some(stats.path.sent_packets),
        // quinn counts datagrams, each of which may hold several packets.
        packets_received: None,
        packets_lost: Some(stats.path.lost_packets),
        congestion_events: Some(stats.path.congestion_events),
        rtt: Some(stats.path.rtt),
        rtt_min: Some(stats.path.min_rtt),
        congestion_window_bytes: Some(stats.path.cwnd),
        payload_bytes: Some(u32::from(stats.path.current_mtu)),
    }
}

fn end(error: &ConnectionError) -> End {
    match error {
        ConnectionError::LocallyClosed | ConnectionError::ApplicationClosed(_) => End::Closed,
        ConnectionError::TimedOut => End::TimedOut,
        ConnectionError::VersionMismatch => End::Refused,
        ConnectionError::ConnectionClosed(close) => match u64::from(close.error_code) {
            NO_ERROR => End::Closed,
            CONNECTION_REFUSED => End::Refused,
            _ => End::Reset,
        },
        ConnectionError::Reset => End::Reset,
        ConnectionError::CidsExhausted => End::Aborted,
        ConnectionError::TransportError(_) => End::Error,
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    WallTime(u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX))
}
