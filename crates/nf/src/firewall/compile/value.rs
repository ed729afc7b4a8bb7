//! Values, by the type of what they are compared with.

use alloc::format;
use alloc::string::String;
use core::net::IpAddr;

use super::super::syntax::Complaint;
use super::super::syntax::ast::{Expr, Kind, Node};
use super::super::syntax::field::Type;
use super::{Compiled, Compiler};

/// The number for the left and for the right port; 0 is none.
pub(in super::super) const PORTS: [u32; 2] = [1, 2];

/// The largest number of some bits.
pub(super) fn most(kind: Kind) -> u128 {
    u128::MAX >> (128 - u32::from(kind.bits.clamp(1, 128)))
}

impl Compiler<'_> {
    /// A single value.
    pub(super) fn value(&self, kind: Kind, expr: &Expr) -> Compiled<u128> {
        let fail = |complaint| Err((expr.span, complaint));
        let mismatch = |found: &str| {
            let words = kind.of.words();
            Err((
                expr.span,
                Complaint::new(format!("expected {words}, found {found}")),
            ))
        };
        let value = match &expr.node {
            Node::Number(_)
                if matches!(
                    kind.of,
                    Type::Ipv4 | Type::Ipv6 | Type::Mac | Type::Interface
                ) =>
            {
                return mismatch("a number");
            }
            Node::Number(number) => *number,
            Node::Address(IpAddr::V4(address)) => {
                if !matches!(kind.of, Type::Ipv4) {
                    return mismatch("an IPv4 address");
                }
                u128::from(address.to_bits())
            }
            Node::Address(IpAddr::V6(address)) => {
                if !matches!(kind.of, Type::Ipv6) {
                    return mismatch("an IPv6 address");
                }
                address.to_bits()
            }
            Node::Mac(mac) => {
                if !matches!(kind.of, Type::Mac) {
                    return mismatch("a MAC address");
                }
                mac.iter()
                    .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
            }
            Node::Symbol(name) if kind.of == Type::Interface => {
                let (first, last) = self.interface(name).map_err(|c| (expr.span, c))?;
                if first != last {
                    return fail(Complaint::new("one interface is expected here"));
                }
                first
            }
            Node::Symbol(name) => match kind.of.symbol(name) {
                Some(value) => value.into(),
                None => return fail(unknown(kind.of, name)),
            },
            Node::Or(all) => {
                let mut bits = 0;
                for flag in all {
                    bits |= self.value(kind, flag)?;
                }
                bits
            }
            Node::Range(..) => return mismatch("a range"),
            Node::Prefix(..) => return mismatch("a prefix"),
            Node::List(_) => return mismatch("a list"),
            Node::Masked(..) => return mismatch("a value with a mask"),
            Node::Concat(_) => return mismatch("several values"),
            Node::Set(_) | Node::Named(_) => return mismatch("a set"),
            Node::Any => return mismatch("\"*\""),
        };
        if value > most(kind) {
            let bits = kind.bits;
            return fail(Complaint::new(format!(
                "{value} does not fit into {bits} bits"
            )));
        }
        Ok(value)
    }

    /// A value, range or prefix, by its first and last value.
    pub(super) fn range(&self, kind: Kind, expr: &Expr) -> Compiled<(u128, u128)> {
        match &expr.node {
            Node::Range(first, last) => {
                let (first, last) = (self.value(kind, first)?, self.value(kind, last)?);
                if first > last {
                    return Err((expr.span, Complaint::new("the range ends before it begins")));
                }
                Ok((first, last))
            }
            Node::Prefix(address, len) => {
                let value = self.value(kind, address)?;
                let Some(host) = kind.bits.checked_sub(*len) else {
                    let what = format!("a prefix has {} bits at most here", kind.bits);
                    return Err((expr.span, Complaint::new(what)));
                };
                let below = match host {
                    0 => 0,
                    host => u128::MAX >> (128 - u32::from(host)),
                };
                Ok((value & !below, value | below))
            }
            Node::Symbol(name) if kind.of == Type::Interface => {
                self.interface(name).map_err(|c| (expr.span, c))
            }
            Node::Number(_)
            | Node::Address(_)
            | Node::Mac(_)
            | Node::Symbol(_)
            | Node::Or(_)
            | Node::List(_)
            | Node::Masked(..)
            | Node::Concat(_)
            | Node::Set(_)
            | Node::Named(_)
            | Node::Any => {
                let value = self.value(kind, expr)?;
                Ok((value, value))
            }
        }
    }

    /// The ports that a name stands for.
    fn interface(&self, name: &str) -> Result<(u128, u128), Complaint> {
        let matches = |port: &String| match name.strip_suffix('*') {
            Some(start) => port.starts_with(start),
            None => port == name,
        };
        let [left, right] = self.ports;
        let numbers = PORTS.map(u128::from);
        match (matches(left), matches(right)) {
            (true, true) => Ok((numbers[0], numbers[1])),
            (true, false) => Ok((numbers[0], numbers[0])),
            (false, true) => Ok((numbers[1], numbers[1])),
            (false, false) => Err(Complaint::with_help(
                format!("there is no interface {name:?}: a stage has {left:?} and {right:?}"),
                "say --left-name or --right-name to call them otherwise",
            )),
        }
    }
}

fn unknown(of: Type, name: &str) -> Complaint {
    let what = format!("{name:?} is not {}", of.words());
    let help = match of {
        Type::Ipv4 | Type::Ipv6 => "write an address: names are not looked up".into(),
        Type::Service => "write the number: only the best known names of ports are known".into(),
        _ => {
            let mut known = String::new();
            for (symbol, _) in of.symbols() {
                known.push_str(if known.is_empty() { "known: " } else { ", " });
                known.push_str(symbol);
            }
            if known.is_empty() {
                known.push_str("write a number");
            }
            known
        }
    };
    Complaint::with_help(what, help)
}
