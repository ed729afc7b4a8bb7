//! Real QUIC connections of quinn over loopback, and the profiles that come of them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;

use plumb_quic::{Emitter, watch};
use plumb_record::{FlowEnd, FlowEvent, FlowOpen, FlowPhase, FlowProfile, FlowProtocol, FlowState};
use quinn::{ClientConfig, Endpoint, ServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// The socket that profiles are sent to, which goes with the test.
struct Reader {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Reader {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("plumb-quic-{test}-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self { socket, path }
    }

    /// The profiles of each connection, until `connections` have ended.
    async fn until_ended(self, connections: usize) -> BTreeMap<u64, Vec<FlowProfile>> {
        let read = tokio::task::spawn_blocking(move || self.read(connections));
        read.await.unwrap()
    }

    fn read(&self, connections: usize) -> BTreeMap<u64, Vec<FlowProfile>> {
        let mut flows: BTreeMap<u64, Vec<FlowProfile>> = BTreeMap::new();
        let mut buffer = [0; 8192];
        let mut ended = 0;
        while ended < connections {
            let len = self.socket.recv(&mut buffer).unwrap();
            let profile: FlowProfile = serde_json::from_slice(&buffer[..len]).unwrap();
            ended += usize::from(profile.event == FlowEvent::Ended);
            flows.entry(profile.flow_id).or_default().push(profile);
        }
        flows
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

fn certificate() -> (CertificateDer<'static>, PrivatePkcs8KeyDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    (CertificateDer::from(made.cert), key)
}

fn client(trusted: &CertificateDer<'static>) -> (Endpoint, ClientConfig) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    let mut client = Endpoint::client(loopback()).unwrap();
    client.set_default_client_config(config.clone());
    (client, config)
}

/// A server, and a client that trusts it.
fn endpoints() -> (Endpoint, Endpoint) {
    let (certificate, key) = certificate();
    let (client, _) = client(&certificate);
    let config = ServerConfig::with_single_cert(vec![certificate], key.into()).unwrap();
    (Endpoint::server(config, loopback()).unwrap(), client)
}

/// Passes datagrams between one client and `server`; of those to the server, number `drop` is lost
/// and the nine behind it.
async fn relay(server: SocketAddr, drop: u64) -> SocketAddr {
    let outside = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    let inside = tokio::net::UdpSocket::bind(loopback()).await.unwrap();
    inside.connect(server).await.unwrap();
    let address = outside.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut back) = (vec![0; 65_536], vec![0; 65_536]);
        let (mut client, mut number) = (address, 0);
        loop {
            tokio::select! {
                Ok((len, from)) = outside.recv_from(&mut there) => {
                    client = from;
                    number += 1;
                    if !(drop..drop + 10).contains(&number) {
                        let _ = inside.send(&there[..len]).await;
                    }
                }
                Ok(len) = inside.recv(&mut back) => {
                    let _ = outside.send_to(&back[..len], client).await;
                }
            }
        }
    });
    address
}

/// A server that reads what one connection sends, and then says so.
async fn serve(server: Endpoint, emitter: Arc<Emitter>) {
    let local = server.local_addr().unwrap();
    let connecting = server.accept().await.unwrap().accept().unwrap();
    let connection = watch(connecting, local, FlowOpen::Passive, emitter)
        .await
        .unwrap();
    let (mut send, mut receive) = connection.accept_bi().await.unwrap();
    receive.read_to_end(usize::MAX).await.unwrap();
    send.write_all(b"done").await.unwrap();
    send.finish().unwrap();
    connection.closed().await;
}

/// Sends to `server` over one connection: so many pieces of so many bytes, with a pause behind each.
async fn transfer(
    client: &Endpoint,
    server: SocketAddr,
    emitter: Arc<Emitter>,
    pieces: (usize, usize, Duration),
) {
    let connecting = client.connect(server, "localhost").unwrap();
    let local = client.local_addr().unwrap();
    let connection = watch(connecting, local, FlowOpen::Active, emitter)
        .await
        .unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let (count, len, pause) = pieces;
    for _ in 0..count {
        send.write_all(&vec![7; len]).await.unwrap();
        tokio::time::sleep(pause).await;
    }
    send.finish().unwrap();
    assert_eq!(receive.read_to_end(16).await.unwrap(), b"done");
}

/// Runs a test, and the tasks that it started until what it returns is there.
fn in_tokio<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await })
        .expect("the connections end in time")
}

#[test]
fn both_ends_of_a_clean_connection_give_two_profiles() {
    let reader = Reader::new("clean");
    let emitter = Arc::new(Emitter::new(&reader.path).unwrap());
    let flows = in_tokio(async {
        let (server, client) = endpoints();
        let address = server.local_addr().unwrap();
        let served = tokio::spawn(serve(server, emitter.clone()));
        transfer(
            &client,
            address,
            emitter.clone(),
            (1, 100_000, Duration::ZERO),
        )
        .await;
        served.await.unwrap();
        reader.until_ended(2).await
    });
    assert_eq!(flows.len(), 2);
    assert_eq!(emitter.lost(), 0);
    for profiles in flows.values() {
        let [first, last] = profiles.as_slice() else {
            panic!("{profiles:#?}");
        };
        assert_eq!(first.protocol, FlowProtocol::Quic);
        assert_eq!(first.event, FlowEvent::Established);
        assert!(first.establishment_ns.unwrap() > 0);
        assert_eq!(last.state, FlowState::Finished);
        assert_eq!(last.end_reason, Some(FlowEnd::Closed));
        assert!(last.rtt_ns.unwrap() > 0);
    }
    let sent = |open| -> u64 {
        let flow = flows.values().find(|flow| flow[0].open == Some(open));
        flow.unwrap().iter().map(|profile| profile.bytes_sent).sum()
    };
    assert!(sent(FlowOpen::Active) >= 100_000);
    assert!(sent(FlowOpen::Passive) < 100_000);
}

#[test]
fn datagrams_lost_on_the_way_make_a_lossy_phase_with_an_end() {
    let reader = Reader::new("lossy");
    let emitter = Arc::new(Emitter::new(&reader.path).unwrap());
    let flows = in_tokio(async {
        let (server, client) = endpoints();
        let address = relay(server.local_addr().unwrap(), 30).await;
        let served = tokio::spawn(serve(server, emitter.clone()));
        // Long enough for the phase to end: quiet for at least 100 ms.
        let pieces = (60, 10_000, Duration::from_millis(20));
        transfer(&client, address, emitter.clone(), pieces).await;
        served.await.unwrap();
        reader.until_ended(2).await
    });
    let sender = flows
        .values()
        .find(|flow| flow[0].open == Some(FlowOpen::Active))
        .unwrap();
    let events: Vec<_> = sender.iter().map(|profile| profile.event).collect();
    // A busy machine may bring about further phases, each of which ends, too.
    let (begin, rest) = events.split_at(3);
    assert_eq!(
        begin,
        [
            FlowEvent::Established,
            FlowEvent::LossyEntered,
            FlowEvent::LossyLeft
        ],
        "{sender:#?}"
    );
    assert_eq!(rest.last(), Some(&FlowEvent::Ended), "{sender:#?}");
    assert_eq!(sender[2].phase, FlowPhase::Lossy);
    let lost: u64 = sender
        .iter()
        .filter_map(|profile| profile.packets_lost)
        .sum();
    assert!(lost >= 10, "ten datagrams were dropped, {lost} found");
    assert!(sender.iter().filter_map(|p| p.fast_recoveries).sum::<u32>() >= 1);
}

#[test]
fn a_handshake_that_nobody_answers_is_one_profile_of_a_network_error() {
    let reader = Reader::new("silent");
    let emitter = Arc::new(Emitter::new(&reader.path).unwrap());
    let flows = in_tokio(async {
        let silent = std::net::UdpSocket::bind(loopback()).unwrap();
        let (client, client_config) = client(&certificate().0);
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(Duration::from_millis(300).try_into().unwrap()));
        let mut config = client_config.clone();
        config.transport_config(Arc::new(transport));
        let connecting = client
            .connect_with(config, silent.local_addr().unwrap(), "localhost")
            .unwrap();
        let local = client.local_addr().unwrap();
        watch(connecting, local, FlowOpen::Active, emitter.clone())
            .await
            .unwrap_err();
        reader.until_ended(1).await
    });
    let profiles = flows.values().next().unwrap();
    assert_eq!(profiles.len(), 1);
    assert_eq!(profiles[0].state_before, FlowState::New);
    assert_eq!(profiles[0].state, FlowState::NetworkError);
    assert_eq!(profiles[0].end_reason, Some(FlowEnd::TimedOut));
}

#[test]
fn profiles_that_nobody_reads_are_counted_and_the_connection_does_not_notice() {
    let path = std::env::temp_dir().join(format!("plumb-quic-nobody-{}", std::process::id()));
    let emitter = Arc::new(Emitter::new(&path).unwrap());
    in_tokio(async {
        let (server, client) = endpoints();
        let address = server.local_addr().unwrap();
        let served = tokio::spawn(serve(server, emitter.clone()));
        transfer(&client, address, emitter.clone(), (1, 1000, Duration::ZERO)).await;
        served.await.unwrap();
        client.wait_idle().await;
    });
    // At least the two of the handshakes, which have come before the data.
    assert!(emitter.lost() >= 2);
}
