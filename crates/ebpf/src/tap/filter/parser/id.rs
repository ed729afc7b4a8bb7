//! Addresses, networks, ports and numbers of protocols, with what was said of them.

use super::super::address::{v4_host, v4_net, v6_net};
use super::super::condition::Condition;
use super::super::lexer::Token;
use super::super::primitive::{ARP, IP, IP6, RARP, SCTP, TCP, UDP};
use super::super::{Error, names};
use super::{Kind, Parser, Protocol, Qualifiers};

impl Parser<'_> {
    /// One address, port or number, or several in parentheses.
    pub(super) fn ids(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        if self.take_word("not") || self.take_sign("!") {
            return Ok(self.deeper(|parser| parser.ids(qualifiers))?.not());
        }
        if !self.take_sign("(") {
            return self.id(qualifiers);
        }
        self.deeper(|parser| {
            let mut condition = parser.ids(qualifiers)?;
            while let Some(is_and) = parser.junction() {
                let next = parser.ids(qualifiers)?;
                condition = if is_and {
                    condition.and(next)
                } else {
                    condition.or(next)
                };
            }
            if parser.take_sign(")") {
                Ok(condition)
            } else {
                Err(parser.wrong("a closing parenthesis was expected"))
            }
        })
    }

    pub(super) fn id(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        match qualifiers.kind {
            Kind::Host => self.host(qualifiers),
            Kind::Net => self.net(qualifiers),
            Kind::Port | Kind::PortRange => self.port(qualifiers),
            Kind::Proto => self.proto(qualifiers),
        }
    }

    fn host(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        let Qualifiers {
            protocol,
            direction,
            ..
        } = qualifiers;
        let condition = match (self.peek(), protocol) {
            (Some(Token::Mac(mac)), Some(Protocol::Ether)) => self.link.mac(*mac, direction),
            (Some(Token::Mac(_)), _) => {
                return Err(self.wrong("an Ethernet address needs `ether` before it"));
            }
            (Some(Token::Dotted(parts)), protocol) => {
                let address = v4_host(parts).map_err(|reason| self.wrong(reason))?;
                match protocol {
                    None => self.link.any_v4(address, u32::MAX, direction),
                    Some(Protocol::Type(kind @ (IP | ARP | RARP))) => {
                        self.link.v4(kind, address, u32::MAX, direction)
                    }
                    Some(_) => return Err(self.wrong("this protocol has no IPv4 addresses")),
                }
            }
            (Some(Token::V6(address)), None | Some(Protocol::Type(IP6))) => {
                self.link.v6(address.to_bits(), u128::MAX, direction)
            }
            (Some(Token::V6(_)), Some(_)) => {
                return Err(self.wrong("this protocol has no IPv6 addresses"));
            }
            (Some(Token::Word { text, .. }), _) => {
                return Err(self.wrong(format!(
                    "{text:?} is no address, and names are not looked up"
                )));
            }
            _ => return Err(self.wrong("an address was expected")),
        };
        self.next += 1;
        if self.take_sign("/") {
            return Err(self.wrong("`net` takes a prefix, `host` takes none"));
        }
        Ok(condition)
    }

    fn net(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        let Qualifiers {
            protocol,
            direction,
            ..
        } = qualifiers;
        let token = self.peek();
        self.next += usize::from(token.is_some());
        let start = self.next;
        let len = if self.take_sign("/") {
            Some(self.number()?)
        } else {
            None
        };
        let parts = match token {
            Some(Token::Dotted(parts)) => parts.clone(),
            Some(Token::Number(number)) => match u8::try_from(*number) {
                Ok(part) => vec![part],
                Err(_) => return Err(self.wrong("a network was expected")),
            },
            Some(Token::V6(address)) => {
                if !matches!(protocol, None | Some(Protocol::Type(IP6))) {
                    return Err(self.wrong("this protocol has no IPv6 addresses"));
                }
                let net = v6_net(*address, len.unwrap_or(128));
                let (address, mask) = net.map_err(|reason| self.wrong(reason))?;
                return Ok(self.link.v6(address, mask, direction));
            }
            _ => {
                self.next = start.saturating_sub(1);
                return Err(self.wrong("a network was expected, such as 10.2.0.0/16"));
            }
        };
        let net = if len.is_none() && self.take_word("mask") {
            let Some(Token::Dotted(mask)) = self.peek() else {
                return Err(self.wrong("a mask was expected"));
            };
            self.next += 1;
            let mask = v4_host(mask);
            mask.and_then(|mask| {
                let (address, _) = v4_net(&parts, Some(32))?;
                if address & !mask == 0 {
                    Ok((address, mask))
                } else {
                    Err("the address has bits outside of the mask".to_owned())
                }
            })
        } else {
            v4_net(&parts, len)
        };
        let (address, mask) = net.map_err(|reason| self.wrong(reason))?;
        Ok(match protocol {
            None => self.link.any_v4(address, mask, direction),
            Some(Protocol::Type(kind @ (IP | ARP | RARP))) => {
                self.link.v4(kind, address, mask, direction)
            }
            Some(_) => return Err(self.wrong("this protocol has no IPv4 addresses")),
        })
    }

    fn port(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        let protocols: &[u32] = match qualifiers.protocol {
            None => &[TCP, UDP, SCTP],
            Some(Protocol::Carried { number: TCP, .. }) => &[TCP],
            Some(Protocol::Carried { number: UDP, .. }) => &[UDP],
            Some(Protocol::Carried { number: SCTP, .. }) => &[SCTP],
            Some(_) => return Err(self.wrong("this protocol has no ports")),
        };
        // Some services have a port of one protocol only.
        let mut only = None;
        let mut of = |text: &str| {
            let number = text.parse::<u16>().ok();
            let (port, protocol) = number.map(|port| (port, None)).or(names::port(text))?;
            only = only.or(protocol);
            Some(u32::from(port))
        };
        let range = match (self.peek(), qualifiers.kind) {
            (Some(Token::Number(port @ ..=0xffff)), _) => Some((*port, *port)),
            (Some(Token::Word { text, .. }), Kind::PortRange) if text.contains('-') => {
                let (low, high) = text.split_once('-').unwrap_or_default();
                let (low, high) = (of(low), of(high));
                low.min(high).zip(low.max(high))
            }
            (Some(Token::Word { text, .. }), _) => of(text).map(|port| (port, port)),
            _ => None,
        };
        let range = range.ok_or_else(|| {
            self.wrong(if qualifiers.kind == Kind::PortRange {
                "a range was expected, such as 6000-6008"
            } else {
                "a port was expected: a number, or the name of a well-known service"
            })
        })?;
        let only = only.into_iter().collect::<Vec<_>>();
        let protocols = match only.first() {
            None => protocols,
            Some(protocol) if protocols.contains(protocol) => &only,
            Some(_) => return Err(self.wrong("this service is one of another protocol")),
        };
        self.next += 1;
        Ok(self.link.ports(protocols, range, qualifiers.direction))
    }

    fn proto(&mut self, qualifiers: Qualifiers) -> Result<Condition, Error> {
        let of_ether = qualifiers.protocol == Some(Protocol::Ether);
        let number = match self.peek() {
            Some(Token::Number(number)) => Some(*number),
            Some(Token::Word { text, .. }) if of_ether => names::ethertype(text),
            Some(Token::Word { text, .. }) => names::protocol(text),
            _ => None,
        };
        let most = if of_ether { 0xffff } else { 0xff };
        let number = number
            .filter(|number| *number <= most)
            .ok_or_else(|| self.wrong("a protocol was expected: its number, or \\ and its name"))?;
        self.next += 1;
        match qualifiers.protocol {
            None => Ok(self.link.protocol(number)),
            Some(Protocol::Ether) => Ok(self.link.ethertype(number)),
            Some(Protocol::Type(IP)) => Ok(self.link.ip_protocol(number)),
            Some(Protocol::Type(IP6)) => Ok(self.link.ip6_protocol(number)),
            Some(_) => Err(self.wrong("this protocol carries no others")),
        }
    }
}
