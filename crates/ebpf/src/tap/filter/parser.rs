//! From pieces to a condition.
//!
//! `and` and `or` bind equally and from the left, as libpcap has it; what is said of one address
//! or port ("tcp dst port") counts for those that follow bare.

mod arithmetic;
mod id;

use super::condition::{Comparison, Condition, Value};
use super::lexer::{Placed, Token};
use super::primitive::{ARP, Direction, ICMP6, IP, IP6, Link, RARP, SCTP, TCP, UDP, at};
use super::{Error, MAX_DEPTH};

pub(super) fn parse(tokens: &[Placed], len: usize) -> Result<Condition, Error> {
    let mut parser = Parser {
        tokens,
        next: 0,
        end: len + 1,
        link: Link::new(),
        last: None,
        depth: 0,
    };
    let condition = parser.expression()?;
    match parser.tokens.get(parser.next) {
        None => Ok(condition),
        Some(_) => Err(parser.wrong("`and`, `or` or the end was expected")),
    }
}

struct Parser<'a> {
    tokens: &'a [Placed],
    next: usize,
    /// The position behind the text.
    end: usize,
    link: Link,
    last: Option<Qualifiers>,
    depth: u32,
}

/// What is said of an address, a port or a number.
#[derive(Clone, Copy, Debug)]
struct Qualifiers {
    protocol: Option<Protocol>,
    direction: Direction,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// A protocol that can be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Ether,
    /// What Ethernet carries.
    Type(u32),
    /// What both versions of IP carry, or only one.
    Carried {
        number: u32,
        v4: bool,
        v6: bool,
    },
}

impl Protocol {
    fn named(name: &str) -> Option<Self> {
        let carried = |number, v4, v6| Some(Self::Carried { number, v4, v6 });
        match name {
            "ether" | "link" => Some(Self::Ether),
            "ip" => Some(Self::Type(IP)),
            "ip6" => Some(Self::Type(IP6)),
            "arp" => Some(Self::Type(ARP)),
            "rarp" => Some(Self::Type(RARP)),
            "icmp" => carried(1, true, false),
            "igmp" => carried(2, true, false),
            "igrp" => carried(9, true, false),
            "vrrp" | "carp" => carried(112, true, false),
            "icmp6" => carried(ICMP6, false, true),
            "tcp" => carried(TCP, true, true),
            "udp" => carried(UDP, true, true),
            "sctp" => carried(SCTP, true, true),
            "esp" => carried(50, true, true),
            "ah" => carried(51, true, true),
            "pim" => carried(103, true, true),
            _ => None,
        }
    }
}

/// Words of libpcap that need what a packet does not tell, or another link.
const REFUSED: [&str; 22] = [
    "gateway",
    "inbound",
    "outbound",
    "protochain",
    "pppoes",
    "pppoed",
    "geneve",
    "wlan",
    "type",
    "subtype",
    "dir",
    "llc",
    "iso",
    "ipx",
    "netbeui",
    "atalk",
    "aarp",
    "ifname",
    "rnr",
    "reason",
    "ifindex",
    "host6",
];

impl<'a> Parser<'a> {
    fn at(&self) -> usize {
        self.tokens
            .get(self.next)
            .map_or(self.end, |placed| placed.at)
    }

    fn wrong(&self, what: impl Into<String>) -> Error {
        Error::Syntax {
            what: what.into(),
            at: self.at(),
        }
    }

    fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    /// The keyword that is next.
    fn word(&self) -> Option<&'a str> {
        match self.peek() {
            Some(Token::Word {
                text,
                escaped: false,
            }) => Some(text),
            _ => None,
        }
    }

    fn take_word(&mut self, word: &str) -> bool {
        let is_next = self.word() == Some(word);
        self.next += usize::from(is_next);
        is_next
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let is_next = matches!(self.peek(), Some(Token::Sign(next)) if *next == sign);
        self.next += usize::from(is_next);
        is_next
    }

    fn number(&mut self) -> Result<u32, Error> {
        match self.peek() {
            Some(Token::Number(number)) => {
                self.next += 1;
                Ok(*number)
            }
            _ => Err(self.wrong("a number was expected")),
        }
    }

    fn optional_number(&mut self, most: u32) -> Result<Option<u32>, Error> {
        match self.peek() {
            Some(Token::Number(number)) if *number > most => {
                Err(self.wrong(format!("{most} is the largest there is")))
            }
            Some(Token::Number(number)) => {
                self.next += 1;
                Ok(Some(*number))
            }
            _ => Ok(None),
        }
    }

    /// What joins two terms: true for `and`.
    fn junction(&mut self) -> Option<bool> {
        if self.take_word("and") || self.take_sign("&&") {
            Some(true)
        } else if self.take_word("or") || self.take_sign("||") {
            Some(false)
        } else {
            None
        }
    }

    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(self.wrong("this is nested too deeply"));
        }
        self.depth += 1;
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    fn expression(&mut self) -> Result<Condition, Error> {
        let mut condition = self.term()?;
        while let Some(is_and) = self.junction() {
            let next = self.term()?;
            condition = if is_and {
                condition.and(next)
            } else {
                condition.or(next)
            };
        }
        Ok(condition)
    }

    fn term(&mut self) -> Result<Condition, Error> {
        if self.take_word("not") || self.take_sign("!") {
            return Ok(self.deeper(Self::term)?.not());
        }
        if let Some(relation) = self.relation()? {
            return Ok(relation);
        }
        if self.take_sign("(") {
            let inner = self.deeper(Self::expression)?;
            if !self.take_sign(")") {
                return Err(self.wrong("a closing parenthesis was expected"));
            }
            return Ok(inner);
        }
        self.primitive()
    }

    fn primitive(&mut self) -> Result<Condition, Error> {
        let Some(word) = self.word() else {
            return self.bare();
        };
        if REFUSED.contains(&word) {
            return Err(self.wrong(format!(
                "{word:?} is not known here; --bytecode takes what tcpdump -ddd makes of it"
            )));
        }
        match word {
            "less" | "greater" => {
                self.next += 1;
                let len = self.number()?;
                let comparison = match word {
                    "less" => Comparison::LessOrEqual,
                    _ => Comparison::GreaterOrEqual,
                };
                return Ok(Value::Len.compares(comparison, len));
            }
            "vlan" => {
                self.next += 1;
                let network = self.optional_number(0xfff)?;
                return Ok(self.link.vlan(network));
            }
            "mpls" => {
                self.next += 1;
                let label = self.optional_number(0xf_ffff)?;
                return Ok(self.link.mpls(label));
            }
            "broadcast" | "multicast" => {
                self.next += 1;
                return self.cast(None, word);
            }
            _ => {}
        }
        let start = self.next;
        let protocol = Protocol::named(word);
        self.next += usize::from(protocol.is_some());
        if let (Some(protocol), Some(cast @ ("broadcast" | "multicast"))) = (protocol, self.word())
        {
            self.next += 1;
            return self.cast(Some(protocol), cast);
        }
        let direction = self.direction();
        let kind = self.kind();
        if start == self.next {
            return self.bare();
        }
        if direction.is_none()
            && kind.is_none()
            && let Some(protocol) = protocol
            && !self.is_id()
        {
            return self.alone(protocol);
        }
        let qualifiers = Qualifiers {
            protocol,
            direction: direction.unwrap_or(Direction::SrcOrDst),
            kind: kind.unwrap_or(Kind::Host),
        };
        self.last = Some(qualifiers);
        self.ids(qualifiers)
    }

    /// An address or a number for which what was said last counts.
    fn bare(&mut self) -> Result<Condition, Error> {
        if !self.is_id() {
            return Err(self.wrong(match self.peek() {
                None => "something is missing".to_owned(),
                Some(Token::Word { text, .. }) => format!("{text:?} is not known"),
                Some(_) => "this was not expected".to_owned(),
            }));
        }
        let qualifiers = self.last.unwrap_or(Qualifiers {
            protocol: None,
            direction: Direction::SrcOrDst,
            kind: Kind::Host,
        });
        self.id(qualifiers)
    }

    /// Whether an address, a number or a name is next that is no keyword.
    fn is_id(&self) -> bool {
        match self.peek() {
            Some(Token::Word { text, escaped }) => *escaped || !is_keyword(text),
            Some(Token::Number(_) | Token::Dotted(_) | Token::V6(_) | Token::Mac(_)) => true,
            Some(Token::Sign(_)) | None => false,
        }
    }

    fn direction(&mut self) -> Option<Direction> {
        let one = match self.word()? {
            "src" => Direction::Src,
            "dst" => Direction::Dst,
            _ => return None,
        };
        self.next += 1;
        let start = self.next;
        let other = if one == Direction::Src { "dst" } else { "src" };
        if let Some(is_and) = self.junction()
            && self.take_word(other)
        {
            return Some(if is_and {
                Direction::SrcAndDst
            } else {
                Direction::SrcOrDst
            });
        }
        self.next = start;
        Some(one)
    }

    fn kind(&mut self) -> Option<Kind> {
        let kind = match self.word()? {
            "host" => Kind::Host,
            "net" => Kind::Net,
            "port" => Kind::Port,
            "portrange" => Kind::PortRange,
            "proto" => Kind::Proto,
            _ => return None,
        };
        self.next += 1;
        Some(kind)
    }

    /// A protocol without more.
    fn alone(&self, protocol: Protocol) -> Result<Condition, Error> {
        match protocol {
            Protocol::Ether => Err(self.wrong("`ether` of what: host, src, dst, proto?")),
            Protocol::Type(number) => Ok(self.link.ethertype(number)),
            Protocol::Carried { number, v4, v6 } => Ok(match (v4, v6) {
                (true, false) => self.link.ip_protocol(number),
                (false, _) => self.link.ip6_protocol(number),
                (true, true) => self.link.protocol(number),
            }),
        }
    }

    fn cast(&self, protocol: Option<Protocol>, word: &str) -> Result<Condition, Error> {
        let is_multicast = word == "multicast";
        match (protocol, is_multicast) {
            (None | Some(Protocol::Ether), true) => Ok(at(0, 1).compares(Comparison::SomeBits, 1)),
            (None | Some(Protocol::Ether), false) => Ok(self.link.mac([0xff; 6], Direction::Dst)),
            (Some(Protocol::Type(IP)), true) => Ok(self
                .link
                .ethertype(IP)
                .and(at(self.link.payload + 16, 1).compares(Comparison::GreaterOrEqual, 224))),
            (Some(Protocol::Type(IP6)), true) => {
                let group = at(self.link.payload + 24, 1).equals(255);
                Ok(self.link.ethertype(IP6).and(group))
            }
            (Some(Protocol::Type(IP)), false) => {
                Err(self.wrong("broadcasts of IP depend on the network's mask: use `dst host`"))
            }
            _ => Err(self.wrong(format!("this protocol has no {word}"))),
        }
    }
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: [&str; 19] = [
        "and",
        "or",
        "not",
        "src",
        "dst",
        "host",
        "net",
        "port",
        "portrange",
        "proto",
        "mask",
        "less",
        "greater",
        "vlan",
        "mpls",
        "broadcast",
        "multicast",
        "len",
        "length",
    ];
    KEYWORDS.contains(&word) || REFUSED.contains(&word) || Protocol::named(word).is_some()
}
