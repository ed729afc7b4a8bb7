//! Addresses and ports as they are written on the command line.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use core::str::FromStr;

use plumb_nf::nat::Protocol;

/// An address, or a range of them: `198.51.100.1`, `198.51.100.1-198.51.100.4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRange(pub RangeInclusive<u32>);

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (address(first)?.to_bits(), address(last)?.to_bits());
        if first > last {
            return Err("the last address lies before the first".into());
        }
        Ok(Self(first..=last))
    }
}

/// A network: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub Ipv4Addr, pub u8);

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected a network such as 10.0.0.0/8";
        let (net, len) = text.split_once('/').unwrap_or((text, "32"));
        let net = address(net)?;
        let len: u8 = len.parse().map_err(|_| EXAMPLE)?;
        if len > 32 {
            return Err(EXAMPLE.into());
        }
        let hosts = u32::MAX.checked_shr(len.into()).unwrap_or(0);
        if net.to_bits() & hosts != 0 {
            let meant = Ipv4Addr::from_bits(net.to_bits() & !hosts);
            return Err(format!("{text} has bits behind the prefix; {meant}/{len}?"));
        }
        Ok(Self(net, len))
    }
}

/// Ports: `80`, `1024-65535`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(pub RangeInclusive<u16>);

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected ports such as 80 or 1024-65535";
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let (first, last) = port(first).zip(port(last)).ok_or(EXAMPLE)?;
        if first > last {
            return Err("the last port lies before the first".into());
        }
        Ok(Self(first..=last))
    }
}

/// Ports that lead inside: `tcp:8080=10.0.0.2:80`, `udp:198.51.100.1:5000-5010=10.0.0.2:5000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedPorts {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Outside address, if one is named.
    pub outside: Option<Ipv4Addr>,
    /// Outside ports.
    pub ports: RangeInclusive<u16>,
    /// Inside host.
    pub inside: Ipv4Addr,
    /// Where the first port leads.
    pub inside_port: u16,
}

impl FromStr for ForwardedPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected PROTOCOL:PORTS=HOST:PORT such as tcp:8080=10.0.0.2:80";
        let (outside, inside) = text.split_once('=').ok_or(EXAMPLE)?;
        let (protocol, outside) = outside.split_once(':').ok_or(EXAMPLE)?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err("only tcp and udp have ports that can be forwarded".into()),
        };
        let (outside, ports) = match outside.rsplit_once(':') {
            Some((outside, ports)) => (Some(address(outside)?), ports),
            None => (None, outside),
        };
        let ports = ports.parse::<PortRange>()?.0;
        let (inside, inside_port) = match inside.split_once(':') {
            Some((inside, port)) => (inside, *port.parse::<PortRange>()?.0.start()),
            None => (inside, *ports.start()),
        };
        Ok(Self {
            protocol,
            outside,
            ports,
            inside: address(inside)?,
            inside_port,
        })
    }
}

/// An outside address for one inside host: `198.51.100.9=10.0.0.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticPair {
    /// Outside address.
    pub outside: Ipv4Addr,
    /// Inside host.
    pub inside: Ipv4Addr,
}

impl FromStr for StaticPair {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "expected OUTSIDE=INSIDE such as 198.51.100.9=10.0.0.9";
        let (outside, inside) = text.split_once('=').ok_or(EXAMPLE)?;
        Ok(Self {
            outside: address(outside)?,
            inside: address(inside)?,
        })
    }
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is not an IPv4 address"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_networks_are_checked() {
        let range = "198.51.100.1-198.51.100.4".parse::<AddressRange>().unwrap();
        assert_eq!(range.0.count(), 4);
        assert!("198.51.100.4-198.51.100.1".parse::<AddressRange>().is_err());
        assert_eq!("10.0.0.0/8".parse(), Ok(Network([10, 0, 0, 0].into(), 8)));
        assert_eq!("0.0.0.0/0".parse(), Ok(Network([0, 0, 0, 0].into(), 0)));
        for wrong in ["10.0.0.1/8", "10.0.0.0/33", "10/8", "", "x/8"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert_eq!("80".parse(), Ok(PortRange(80..=80)));
        for wrong in ["0", "80-70", "65536", "-", "1-", ""] {
            assert!(wrong.parse::<PortRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn forwarded_ports_may_name_an_address_and_lead_to_the_same_port() {
        let full = ForwardedPorts {
            protocol: Protocol::Tcp,
            outside: Some([198, 51, 100, 1].into()),
            ports: 8000..=8010,
            inside: [10, 0, 0, 2].into(),
            inside_port: 80,
        };
        let text = "tcp:198.51.100.1:8000-8010=10.0.0.2:80";
        assert_eq!(text.parse(), Ok(full.clone()));
        let short = ForwardedPorts {
            protocol: Protocol::Udp,
            outside: None,
            ports: 53..=53,
            inside_port: 53,
            ..full
        };
        assert_eq!("udp:53=10.0.0.2".parse(), Ok(short));
        for wrong in [
            "80=10.0.0.2",
            "icmp:8=10.0.0.2",
            "tcp:80",
            "tcp:80=x",
            "tcp:=10.0.0.2",
        ] {
            assert!(wrong.parse::<ForwardedPorts>().is_err(), "{wrong}");
        }
    }
}
