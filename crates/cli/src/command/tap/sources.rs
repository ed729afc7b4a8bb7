//! Which interfaces a session is on.

use std::collections::BTreeSet;

use plumb_link::{Interface, LearnedAddress};

use crate::args::{Mac, TapDirection, TapRun};

/// What was asked for.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    names: Vec<String>,
    macs: Vec<Mac>,
    direction: TapDirection,
    /// The interfaces are those of a machine itself, not of the switch before it.
    inside: bool,
}

/// An interface that a session is to be on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Chosen {
    pub(super) index: u32,
    pub(super) name: String,
    /// What it receives is what the machine behind it sends.
    pub(super) is_port: bool,
    /// It was named as such, so it stays if it gets another name.
    pub(super) by_name: bool,
}

impl Sources {
    pub(super) fn new(args: &TapRun) -> Self {
        Self {
            names: args.sources.clone(),
            macs: args.mac.clone(),
            direction: args.direction,
            inside: args.netns.is_some(),
        }
    }

    /// Whether what bridges have learned matters.
    pub(super) const fn has_macs(&self) -> bool {
        !self.macs.is_empty()
    }

    /// The interfaces to be on, of all that there are. `of_machines` are the names of those that the
    /// processes of machines hold, `learned` is what bridges know.
    pub(super) fn choose(
        &self,
        all: &[Interface],
        of_machines: &BTreeSet<String>,
        learned: &[LearnedAddress],
    ) -> Vec<Chosen> {
        let mut chosen: Vec<Chosen> = all
            .iter()
            .filter_map(|interface| {
                let by_name = self.names.contains(&interface.name);
                let bridge = interface.bridge.and_then(|index| {
                    let bridge = all.iter().find(|other| other.index == index)?;
                    (bridge.kind == "bridge").then_some(&bridge.name)
                });
                let is_bridge = interface.kind == "bridge";
                let of_machine = of_machines.contains(&interface.name);
                let wanted = (by_name && !is_bridge)
                    || bridge.is_some_and(|name| self.names.contains(name))
                    || of_machine
                    || self.has_mac(interface, learned)
                    || (!is_bridge && self.matches(&interface.name));
                wanted.then(|| Chosen {
                    index: interface.index,
                    name: interface.name.clone(),
                    is_port: of_machine || (!self.inside && is_port(interface)),
                    by_name,
                })
            })
            .collect();
        chosen.sort();
        chosen
    }

    fn matches(&self, name: &str) -> bool {
        let mut patterns = self.names.iter().filter(|name| is_pattern(name));
        patterns.any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }

    /// libvirt gives a TAP device its machine's address with another first byte, 0xfe. Of others, the
    /// bridge knows which machine is behind them. Behind what is no machine's port may be a whole
    /// network, in which the address is but one.
    fn has_mac(&self, interface: &Interface, learned: &[LearnedAddress]) -> bool {
        let is = |mac: [u8; 6], Mac(wanted): &Mac| {
            mac == *wanted || (mac[0] == 0xfe && mac[1..] == wanted[1..])
        };
        let is_its_own = |mac| self.macs.iter().any(|wanted| is(mac, wanted));
        let is_behind = |entry: &LearnedAddress| {
            entry.port == interface.index && self.macs.contains(&Mac(entry.mac))
        };
        interface.mac.is_some_and(is_its_own)
            || (is_port(interface) && learned.iter().any(is_behind))
    }

    /// Names that should be there and are not: what to say of them, if anything.
    pub(super) fn missing(&self, all: &[Interface]) -> Option<String> {
        let there = |name: &String| all.iter().any(|interface| interface.name == *name);
        let mut names = self.names.iter().filter(|name| !is_pattern(name));
        names
            .find(|name| !there(name))
            .map(|name| format!("there is no network interface {name:?}"))
    }

    /// Whether packets are wanted that go through an interface like this.
    pub(super) fn wants(&self, chosen: &Chosen, receives: bool) -> bool {
        match self.direction {
            TapDirection::Both => true,
            TapDirection::Out => receives == chosen.is_port,
            TapDirection::In => receives != chosen.is_port,
        }
    }
}

/// Whether a machine or container is behind it.
fn is_port(interface: &Interface) -> bool {
    matches!(interface.kind.as_str(), "tun" | "veth")
}

fn is_pattern(name: &str) -> bool {
    name.contains(['*', '?'])
}

/// Whether a name matches a pattern of letters, `*` and `?`.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) if matches(rest, name) => true,
        (Some((b'*', _)), Some((_, name))) => matches(pattern, name),
        (Some((p, pattern)), Some((n, name))) if *p == b'?' || p == n => matches(pattern, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, kind: &str, bridge: Option<u32>) -> Interface {
        Interface {
            name: name.to_owned(),
            index,
            kind: kind.to_owned(),
            mtu: 1500,
            queue_len: 1000,
            is_up: true,
            bridge,
            mac: Some([0xfe, 0x54, 0, 0, 0, u8::try_from(index).unwrap()]),
        }
    }

    fn host() -> Vec<Interface> {
        vec![
            interface(1, "eth0", "", None),
            interface(2, "br0", "bridge", None),
            interface(3, "vnet0", "tun", Some(2)),
            interface(4, "vnet1", "tun", Some(2)),
            interface(5, "veth7", "veth", None),
        ]
    }

    fn sources(names: &[&str]) -> Sources {
        Sources {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            macs: Vec::new(),
            direction: TapDirection::Out,
            inside: false,
        }
    }

    fn chosen(sources: &Sources) -> Vec<u32> {
        let chosen = sources.choose(&host(), &BTreeSet::new(), &[]);
        chosen.iter().map(|chosen| chosen.index).collect()
    }

    #[test]
    fn a_bridge_stands_for_its_ports_and_a_pattern_for_what_matches() {
        assert_eq!(chosen(&sources(&["br0"])), [3, 4]);
        assert_eq!(chosen(&sources(&["v*"])), [3, 4, 5]);
        assert_eq!(chosen(&sources(&["vnet?", "eth0"])), [1, 3, 4]);
        assert_eq!(chosen(&sources(&["vnet"])), [] as [u32; 0]);
        assert!(sources(&["vnet9"]).missing(&host()).is_some());
        assert_eq!(sources(&["x*", "eth0"]).missing(&host()), None);
    }

    #[test]
    fn the_machines_address_finds_the_port_that_libvirt_made_for_it() {
        let mut sources = sources(&[]);
        sources.macs = vec![Mac([0x52, 0x54, 0, 0, 0, 4])];
        assert_eq!(chosen(&sources), [4]);
    }

    #[test]
    fn the_machines_address_finds_the_port_behind_which_a_bridge_has_learned_it() {
        let mac = [0x52, 0x54, 0, 1, 2, 3];
        let mut sources = sources(&[]);
        sources.macs = vec![Mac(mac)];
        let behind = |port| {
            let learned = [LearnedAddress { mac, port }];
            let chosen = sources.choose(&host(), &BTreeSet::new(), &learned);
            chosen.iter().map(|c| c.index).collect::<Vec<_>>()
        };
        assert_eq!(behind(3), [3]);
        assert_eq!(behind(5), [5]);
        assert_eq!(behind(1), [] as [u32; 0], "a network is behind that");
    }

    #[test]
    fn what_a_machine_holds_is_its_port_wherever_it_is() {
        let mut sources = sources(&[]);
        sources.inside = true;
        let devices = BTreeSet::from(["vnet1".to_owned()]);
        let chosen = sources.choose(&host(), &devices, &[]);
        assert!(chosen.len() == 1 && chosen[0].index == 4 && chosen[0].is_port);
    }

    #[test]
    fn what_a_machine_sends_is_what_its_port_receives() {
        let sources = sources(&["vnet0", "eth0"]);
        let chosen = sources.choose(&host(), &BTreeSet::new(), &[]);
        let [eth0, vnet0] = &chosen[..] else {
            panic!("{chosen:?}")
        };
        assert!(sources.wants(vnet0, true) && !sources.wants(vnet0, false));
        assert!(!sources.wants(eth0, true) && sources.wants(eth0, false));
    }
}
