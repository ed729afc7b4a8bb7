//! Where copies go: what `--to` says, and the way there.

use core::net::{IpAddr, Ipv6Addr};
use core::str::FromStr;
use std::net::UdpSocket;

use plumb_ebpf::tap::{GENEVE_PORT, Output, Path, Tunnel, VXLAN_PORT};
use plumb_link::{Interface, path_to, route};
use plumb_record::TapOutput;

/// What `--to` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// An interface of this machine.
    Interface(String),
    /// A collector.
    Collector {
        tunnel: Tunnel,
        address: IpAddr,
        port: u16,
    },
}

const EXAMPLES: &str = "expected the name of an interface, vxlan://192.0.2.9?vni=77, \
     geneve://[2001:db8::9]?vni=77, gre://192.0.2.9?key=5, erspan://192.0.2.9?session=5&type=3, or ipfix://192.0.2.9:4739";
/// Where a datagram goes that only makes the kernel look for a neighbour (RFC 863).
const DISCARD: u16 = 9;

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            if text.is_empty() || text.len() > 15 || text.contains(['/', ' ']) {
                return Err(EXAMPLES.to_owned());
            }
            return Ok(Self::Interface(text.to_owned()));
        };
        let (host, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut options = Options::parse(query)?;
        let (address, port) = host_and_port(host)?;
        let (tunnel, default_port) = match scheme {
            "vxlan" => (
                Tunnel::Vxlan {
                    vni: options.take("vni", 0, 0x00ff_ffff)?,
                },
                VXLAN_PORT,
            ),
            "geneve" => (
                Tunnel::Geneve {
                    vni: options.take("vni", 0, 0x00ff_ffff)?,
                },
                GENEVE_PORT,
            ),
            "gre" => (
                Tunnel::Gre {
                    key: options.take_if("key", u32::MAX)?,
                },
                0,
            ),
            "erspan" => {
                let session = options.take("session", 0, 0x3ff)?;
                let session = u16::try_from(session).map_err(|_| EXAMPLES)?;
                match options.take("type", 2, 3)? {
                    2 => (Tunnel::Erspan2 { session }, 0),
                    3 => (Tunnel::Erspan3 { session }, 0),
                    _ => return Err("ERSPAN has types 2 and 3".to_owned()),
                }
            }
            _ => return Err(format!("{scheme:?} is no tunnel protocol; {EXAMPLES}")),
        };
        options.finish()?;
        if port.is_some() && default_port == 0 {
            return Err(format!("{scheme} has no ports"));
        }
        Ok(Self::Collector {
            tunnel,
            address,
            port: port.unwrap_or(default_port),
        })
    }
}

/// `key=value` pairs.
struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn parse(query: &'a str) -> Result<Self, String> {
        let parts = query.split('&').filter(|part| !part.is_empty());
        let pairs = parts.map(|part| part.split_once('=').ok_or(EXAMPLES.to_owned()));
        Ok(Self(pairs.collect::<Result<_, _>>()?))
    }

    fn take_if(&mut self, name: &str, most: u32) -> Result<Option<u32>, String> {
        let Some(at) = self.0.iter().position(|(key, _)| *key == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.swap_remove(at);
        match value.parse() {
            Ok(number) if number <= most => Ok(Some(number)),
            _ => Err(format!("{name} is a number up to {most}")),
        }
    }

    fn take(&mut self, name: &str, default: u32, most: u32) -> Result<u32, String> {
        Ok(self.take_if(name, most)?.unwrap_or(default))
    }

    fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("there is no option {name:?} here; {EXAMPLES}")),
        }
    }
}

fn host_and_port(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or(EXAMPLES)?;
            let host: Ipv6Addr = host.parse().map_err(|_| EXAMPLES)?;
            (IpAddr::V6(host), port.strip_prefix(':').or(Some(port)))
        }
        None => {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let host = host.parse().map_err(|_| {
                format!("{host:?} is no IP address, and names are not looked up; {EXAMPLES}")
            })?;
            (IpAddr::V4(host), port)
        }
    };
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(str::parse).transpose();
    Ok((host, port.map_err(|_| "a port is a number up to 65535")?))
}

/// An output with the way to it, if there is one at present.
#[derive(Clone, Debug)]
pub(super) struct Target {
    name: String,
    destination: Destination,
    pub(super) found: Result<Output, String>,
    asking: bool,
}

impl Target {
    pub(super) fn new(text: &str) -> Result<Self, String> {
        Ok(Self {
            name: text.to_owned(),
            destination: text.parse()?,
            found: Err("not looked for".to_owned()),
            asking: false,
        })
    }

    /// Looks for the way. A neighbour that is not known is asked for.
    pub(super) fn find(&mut self, all: &[Interface]) {
        self.asking = false;
        self.found = self.destination.find(all, &mut self.asking);
    }

    /// Whether a neighbour has been asked, and has not answered yet.
    pub(super) const fn is_asking(&self) -> bool {
        self.asking
    }

    /// What the kernel is told: clones to an output that is not there fail, and are counted.
    pub(super) fn output(&self) -> Output {
        self.found.clone().unwrap_or(Output {
            interface: 0,
            mtu: 0,
            path: None,
        })
    }

    pub(super) fn shown(&self) -> TapOutput {
        TapOutput {
            name: self.name.clone(),
            trouble: self.found.clone().err(),
        }
    }
}

impl Destination {
    fn find(&self, all: &[Interface], asking: &mut bool) -> Result<Output, String> {
        match self {
            Self::Interface(name) => {
                let interface = all.iter().find(|interface| interface.name == *name);
                let interface =
                    interface.ok_or_else(|| format!("there is no network interface {name:?}"))?;
                if !interface.is_up {
                    return Err(format!("the network interface {name:?} is down"));
                }
                Ok(Output {
                    interface: interface.index,
                    mtu: interface.mtu,
                    path: None,
                })
            }
            Self::Collector {
                tunnel,
                address,
                port,
            } => {
                let way = path_to(*address).map_err(|e| e.to_string())?;
                let way = way.ok_or_else(|| format!("there is no Ethernet way to {address}"))?;
                let interface = all.iter().find(|i| i.index == way.interface);
                let interface = interface.ok_or_else(|| "the interface is gone".to_owned())?;
                let source = route::source_for(*address, Some(&interface.name))
                    .map_err(|e| e.to_string())?;
                let Some(next_mac) = way.mac else {
                    ask(source, way.neighbour);
                    *asking = true;
                    return Err(format!(
                        "the neighbour {} does not answer yet",
                        way.neighbour
                    ));
                };
                Ok(Output {
                    interface: interface.index,
                    mtu: interface.mtu,
                    path: Some(Path {
                        tunnel: *tunnel,
                        port: *port,
                        source,
                        destination: *address,
                        source_mac: interface.mac.unwrap_or_default(),
                        next_mac,
                    }),
                })
            }
        }
    }
}

/// Makes the kernel look for a neighbour, by an empty datagram to it.
fn ask(source: IpAddr, neighbour: IpAddr) {
    if let Ok(socket) = UdpSocket::bind((source, 0)) {
        // It is looked for whether this arrives anywhere or not.
        let _ = socket.send_to(&[], (neighbour, DISCARD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_interfaces_or_collectors_behind_a_tunnel() {
        let parse = |text: &str| text.parse::<Destination>();
        assert_eq!(parse("mon0"), Ok(Destination::Interface("mon0".to_owned())));
        assert_eq!(
            parse("vxlan://192.0.2.9?vni=77"),
            Ok(Destination::Collector {
                tunnel: Tunnel::Vxlan { vni: 77 },
                address: [192, 0, 2, 9].into(),
                port: 4789,
            })
        );
        let Ok(Destination::Collector { address, port, .. }) = parse("geneve://[2001:db8::9]:99")
        else {
            panic!();
        };
        assert!(address.is_ipv6() && port == 99);
        assert!(matches!(
            parse("erspan://192.0.2.9?session=5&type=3"),
            Ok(Destination::Collector {
                tunnel: Tunnel::Erspan3 { session: 5 },
                ..
            })
        ));
        for wrong in [
            "",
            "a name",
            "vxlan://",
            "vxlan://example.net",
            "vxlan://192.0.2.9?vni=16777216",
            "vxlan://192.0.2.9?key=1",
            "gre://192.0.2.9:99",
            "erspan://192.0.2.9?type=1",
            "mpls://192.0.2.9",
            "geneve://[2001:db8::9",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
