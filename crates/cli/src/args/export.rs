//! Where flow records go: `--export`, and `plumb export`.

use core::fmt;
use core::str::FromStr;
use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Options of every command that sends flow records to collectors.
#[derive(Clone, Debug, Default, Args)]
pub struct ExportArgs {
    /// Send the records to an IPFIX collector: ipfix://HOST[:PORT][,udp|tcp|tls]; may be repeated.
    #[allow(
        rustdoc::broken_intra_doc_links,
        reason = "brackets for people, not links"
    )]
    #[arg(long, value_name = "COLLECTOR", help_heading = EXPORT, visible_alias = "to")]
    pub export: Vec<CollectorAddress>,
    /// Write the records into a file of IPFIX messages (RFC 5655).
    #[arg(long, value_name = "FILE", help_heading = EXPORT, value_hint = ValueHint::FilePath)]
    pub ipfix_file: Option<PathBuf>,
    /// Private enterprise number of the elements that IANA has not: your own, if you have one.
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = EXPORT,
        default_value_t = plumb_ipfix::table::DOCUMENTATION_ENTERPRISE,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub enterprise: u32,
    /// Observation domain, by which a collector tells exporters of one host apart.
    #[arg(
        long,
        value_name = "NUMBER",
        help_heading = EXPORT,
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub observation_domain: u32,
    /// Most messages a second over UDP, where nobody says that a collector is overrun.
    #[arg(
        long,
        value_name = "MESSAGES",
        help_heading = EXPORT,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    pub export_rate: u32,
    /// Authorities that sign collectors' certificates, as PEM [default: those of the system].
    #[arg(long, value_name = "FILE", help_heading = EXPORT, value_hint = ValueHint::FilePath)]
    pub export_ca: Option<PathBuf>,
    /// Certificate to show to collectors, as PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = EXPORT,
        requires = "export_key",
        value_hint = ValueHint::FilePath
    )]
    pub export_certificate: Option<PathBuf>,
    /// Key of that certificate, as PEM.
    #[arg(
        long,
        value_name = "FILE",
        help_heading = EXPORT,
        requires = "export_certificate",
        value_hint = ValueHint::FilePath
    )]
    pub export_key: Option<PathBuf>,
}

/// Arguments of `plumb export`.
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct Export {
    /// Flow records as NDJSON (plumb.flow/1, or plumb.tap/1 of `plumb tap --flows`); - is standard
    /// input.
    #[arg(default_value = "-", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Where they go.
    #[command(flatten)]
    pub to: ExportArgs,
}

const EXPORT: &str = "Export";

const AFTER_HELP: &str = "\
Other lines of NDJSON than flow records and name lookups are passed over. At the end of the input
what waits is sent; a collector that does not answer is given ten seconds.

Examples:
  plumb export flows.ndjson --to ipfix://collector.example
  plumb flow --json | plumb export --to ipfix://10.0.0.9:4739,tcp
  plumb export flows.ndjson --to ipfix://collector.example,tls --export-ca ca.pem
  plumb export flows.ndjson --ipfix-file flows.ipfix";

/// What carries messages to a collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CollectorTransport {
    /// UDP: nothing is known of what arrives.
    #[default]
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
}

/// Where a collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorAddress {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What carries messages to it.
    pub transport: CollectorTransport,
}

/// IANA's port of IPFIX.
const PORT: u16 = 4739;
/// IANA's port of IPFIX over TLS.
const TLS_PORT: u16 = 4740;

impl FromStr for CollectorAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.strip_prefix("ipfix://").ok_or_else(|| {
            format!("a collector is written ipfix://HOST[:PORT][,udp|tcp|tls], not {text}")
        })?;
        let (place, transport) = match rest.rsplit_once(',') {
            None => (rest, CollectorTransport::Udp),
            Some((place, "udp")) => (place, CollectorTransport::Udp),
            Some((place, "tcp")) => (place, CollectorTransport::Tcp),
            Some((place, "tls")) => (place, CollectorTransport::Tls),
            Some((_, other)) => {
                return Err(format!("no transport is called {other}: udp, tcp or tls"));
            }
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(bracketed) => {
                let (host, port) = bracketed
                    .split_once(']')
                    .ok_or("the bracket of an IPv6 address is not closed")?;
                if host.parse::<core::net::Ipv6Addr>().is_err() {
                    return Err(format!("not an IPv6 address: {host}"));
                }
                let port = match port.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if port.is_empty() => None,
                    None => return Err(format!("after ] comes :PORT or nothing, not {port}")),
                };
                (host, port)
            }
            None => match place.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err(format!("an IPv6 address needs brackets: [{place}]"));
                }
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err(format!("not a host: {host:?}"));
        }
        let default = match transport {
            CollectorTransport::Udp | CollectorTransport::Tcp => PORT,
            CollectorTransport::Tls => TLS_PORT,
        };
        let port = port.map_or(Ok(default), |port| {
            let number = port.parse::<u16>().ok().filter(|&port| port > 0);
            number.ok_or_else(|| format!("not a port: {port:?}"))
        })?;
        Ok(Self {
            host: host.into(),
            port,
            transport,
        })
    }
}

impl fmt::Display for CollectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = match self.host.contains(':') {
            true => ("[", "]"),
            false => ("", ""),
        };
        let transport = match self.transport {
            CollectorTransport::Udp => "udp",
            CollectorTransport::Tcp => "tcp",
            CollectorTransport::Tls => "tls",
        };
        let (host, port) = (&self.host, self.port);
        write!(f, "ipfix://{open}{host}{close}:{port},{transport}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_are_read_with_their_defaults() {
        for (text, full) in [
            ("ipfix://a.example", "ipfix://a.example:4739,udp"),
            ("ipfix://a.example,tls", "ipfix://a.example:4740,tls"),
            ("ipfix://10.0.0.1:2055,tcp", "ipfix://10.0.0.1:2055,tcp"),
            ("ipfix://[2001:db8::1]", "ipfix://[2001:db8::1]:4739,udp"),
            (
                "ipfix://[2001:db8::1]:99,udp",
                "ipfix://[2001:db8::1]:99,udp",
            ),
        ] {
            let address: CollectorAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), full);
            assert_eq!(full.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, why) in [
            ("10.0.0.1:4739", "ipfix://HOST"),
            ("ipfix://", "not a host"),
            ("ipfix://:4739", "not a host"),
            ("ipfix://a,sctp", "udp, tcp or tls"),
            ("ipfix://a:0", "not a port"),
            ("ipfix://a:70000", "not a port"),
            ("ipfix://2001:db8::1", "brackets"),
            ("ipfix://[2001:db8::1", "not closed"),
            ("ipfix://[a.example]", "not an IPv6 address"),
            ("ipfix://[::1]4739", "after ]"),
            ("ipfix://a/b", "not a host"),
        ] {
            let error = text.parse::<CollectorAddress>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
