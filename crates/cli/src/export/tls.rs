//! TLS to a collector (RFC 7011 §11).

use std::io::{self, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, KeyLogFile, RootCertStore};

use super::carrier::closed;
use crate::args::ExportArgs;

/// How plumb speaks TLS to collectors.
#[derive(Clone, Debug)]
pub(super) struct TlsClient {
    config: Arc<ClientConfig>,
}

/// Where Debian, and others, keep the system's authorities.
const SYSTEM_AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

impl TlsClient {
    /// Reads authorities, certificate and key.
    pub(super) fn new(args: &ExportArgs) -> anyhow::Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(authorities(args.export_ca.as_deref())?);
        let mut config = match (&args.export_certificate, &args.export_key) {
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| anyhow::anyhow!("{}: {error}", key.display()))?;
                builder.with_client_auth_cert(chain, key)?
            }
            _ => builder.with_no_client_auth(),
        };
        // Writes the session's secrets only where SSLKEYLOGFILE names a file, as browsers do.
        config.key_log = Arc::new(KeyLogFile::new());
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Shakes hands over a connection.
    pub(super) fn connect(&self, host: &str, mut tcp: TcpStream) -> io::Result<TlsStream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let mut tls =
            ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(TlsStream { tls, tcp })
    }
}

fn authorities(path: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let path = match path {
        Some(path) => path,
        None => SYSTEM_AUTHORITIES
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .context(
                "the system has no list of certificate authorities: install ca-certificates, \
                 or name one with --export-ca",
            )?,
    };
    let mut store = RootCertStore::empty();
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        bail!("{} has no certificate of an authority", path.display());
    }
    Ok(store)
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?
        .collect();
    let found = found.map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
    if found.is_empty() {
        bail!("{} has no certificate", path.display());
    }
    Ok(found)
}

/// A connection with TLS on it.
#[derive(Debug)]
pub(super) struct TlsStream {
    tls: ClientConnection,
    tcp: TcpStream,
}

impl TlsStream {
    /// Reads what the collector's TLS says (tickets, keys, alerts) until there is nothing more for
    /// now.
    pub(super) fn hear(&mut self) -> io::Result<()> {
        self.tcp.set_nonblocking(true)?;
        let heard = self.hear_all();
        self.tcp.set_nonblocking(false)?;
        heard
    }

    fn hear_all(&mut self) -> io::Result<()> {
        loop {
            match self.tls.read_tls(&mut self.tcp) {
                Ok(0) => return Err(closed()),
                Ok(_) => {
                    let state = self.tls.process_new_packets().map_err(io::Error::other)?;
                    if state.peer_has_closed() {
                        return Err(closed());
                    }
                    let mut unwanted = vec![0; state.plaintext_bytes_to_read()];
                    io::Read::read_exact(&mut self.tls.reader(), &mut unwanted)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        rustls::Stream::new(&mut self.tls, &mut self.tcp).write_all(bytes)?;
        self.flush()
    }

    /// Says that nothing more will come.
    pub(super) fn end(&mut self) {
        self.tls.send_close_notify();
        // Whoever does not take it any more has missed nothing.
        drop(self.flush());
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.tcp)? == 0 {
                return Err(closed());
            }
        }
        Ok(())
    }
}
