//! `plumb doctor`: what plumb needs on this system, whether it is there, and what helps.

mod machines;
mod programs;
mod tap;

use std::fs::OpenOptions;
use std::io::Write;

use plumb_link::{Capability, Mode, ProbePort, ProbePortOptions};
use serde::Serialize;

use self::machines::Machines;
use self::programs::Programs;
use self::tap::Tap;
use super::network::{ALLOW_PING, program};
use crate::args::Doctor;
use crate::exit::Exit;
use crate::output::ndjson::write_record;
use crate::output::style::{BAD, FAINT, GOOD, LABEL, Look, STRONG, locale_is_utf8};

pub(super) fn run(args: Doctor) -> anyhow::Result<Exit> {
    let raw = ProbePortOptions {
        mode: Mode::Raw,
        ..ProbePortOptions::default()
    };
    let system = System {
        read: &|path| std::fs::read_to_string(path).ok(),
        raw: ProbePort::open(&raw).map(drop).map_err(|e| e.to_string()),
        tun: OpenOptions::new()
            .read(true)
            .write(true)
            .open(TUN)
            .map(drop)
            .map_err(|e| e.to_string()),
        admin: plumb_link::capability::has(Capability::NetAdmin),
        program: program(),
        utf8: locale_is_utf8(),
    };
    let mut checks = system.checks();
    let programs = Programs {
        read: system.read,
        types: std::path::Path::new(programs::TYPES).exists(),
        bpf: plumb_link::capability::has(Capability::Bpf),
        perfmon: plumb_link::capability::has(Capability::PerfMon),
        program: system.program.clone(),
    };
    checks.extend(programs.checks());
    let machines = Machines {
        runners: machines::runners(),
        tun: system.tun.is_ok(),
        admin: system.admin,
        no_namespaces: system.namespace_obstacle().map(|(obstacle, _)| obstacle),
        ksm: system.value(machines::KSM),
        program: system.program,
    };
    checks.extend(machines.checks());
    checks.extend(Tap::look(program()).checks());
    let mut out = std::io::stdout().lock();
    let look = Look::of_stdout();
    for check in &checks {
        if args.json {
            write_record(&mut out, check)?;
        } else {
            writeln!(out, "{}", line(look, check))?;
        }
    }
    let works = checks.iter().all(|check| check.state != State::Missing);
    if !args.json {
        let (style, verdict) = if works {
            (GOOD, "plumb trace works here")
        } else {
            (BAD, "plumb trace does not work here")
        };
        writeln!(out, "{}", look.paint(style, verdict))?;
    }
    Ok(if works {
        Exit::Reached
    } else {
        Exit::NotReached
    })
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    found: String,
    why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// All is well.
    Ok,
    /// Something works less well, or not at all that tracing does not need.
    Limited,
    /// Nothing can be traced.
    Missing,
}

/// What the checks look at.
struct System<'a> {
    /// The content of a file.
    read: &'a dyn Fn(&str) -> Option<String>,
    /// Whether raw and packet sockets can be had.
    raw: Result<(), String>,
    /// Whether the TUN device can be opened.
    tun: Result<(), String>,
    /// Whether CAP_NET_ADMIN is there.
    admin: bool,
    /// The path of this program.
    program: String,
    utf8: bool,
}

const TUN: &str = "/dev/net/tun";
const PING_GROUPS: &str = "/proc/sys/net/ipv4/ping_group_range";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
const IDLE_GOVERNOR: &str = "/sys/devices/system/cpu/cpuidle/current_governor";
const HALT_POLL: &str = "/sys/module/haltpoll/parameters/guest_halt_poll_ns";

impl System<'_> {
    fn checks(&self) -> Vec<Check> {
        vec![
            self.kernel(),
            self.raw_sockets(),
            self.unprivileged(),
            self.ipv4_route(),
            self.ipv6(),
            self.clock(),
            self.idle(),
            self.tun(),
            self.namespaces(),
            self.locale(),
        ]
    }

    fn value(&self, path: &str) -> Option<String> {
        (self.read)(path).map(|text| text.trim().to_owned())
    }

    fn is(&self, path: &str, value: &str) -> bool {
        self.value(path).is_some_and(|v| v == value)
    }

    fn kernel(&self) -> Check {
        let release = self.value("/proc/sys/kernel/osrelease");
        Check {
            name: "kernel",
            state: State::Ok,
            found: format!(
                "Linux {}",
                release.as_deref().unwrap_or("of unknown release")
            ),
            why: "plumb speaks to the kernel directly",
            fix: None,
        }
    }

    fn raw_sockets(&self) -> Check {
        let fix = format!("sudo setcap cap_net_raw+ep {}", self.program);
        let (state, found) = match &self.raw {
            Ok(()) => (State::Ok, "can be opened".to_owned()),
            Err(_) if self.in_ping_group() => {
                let losses = Mode::Unprivileged.losses().join(", ");
                (
                    State::Limited,
                    format!("no CAP_NET_RAW, so there are no {losses}"),
                )
            }
            Err(error) => (State::Missing, error.clone()),
        };
        Check {
            name: "raw sockets",
            state,
            found,
            why: "they carry every kind of probe, and show replies as they came",
            fix: self.raw.is_err().then_some(fix),
        }
    }

    fn unprivileged(&self) -> Check {
        let allowed = self.in_ping_group();
        let range = self.value(PING_GROUPS).unwrap_or_default();
        Check {
            name: "unprivileged ICMP",
            state: if allowed { State::Ok } else { State::Limited },
            found: format!(
                "ping_group_range is {}",
                range.split_whitespace().collect::<Vec<_>>().join(" ")
            ),
            why: "lets users without capabilities ping and trace, MPLS labels included",
            fix: (!allowed).then(|| ALLOW_PING.to_owned()),
        }
    }

    /// Whether one of this process's groups may open ICMP sockets (icmp(7)).
    fn in_ping_group(&self) -> bool {
        let range = self.value(PING_GROUPS).unwrap_or_default();
        let mut bounds = range
            .split_whitespace()
            .filter_map(|n| n.parse::<u64>().ok());
        let (Some(low), Some(high)) = (bounds.next(), bounds.next()) else {
            return false;
        };
        let status = (self.read)("/proc/self/status").unwrap_or_default();
        status
            .lines()
            .filter_map(|line| line.strip_prefix("Gid:").or(line.strip_prefix("Groups:")))
            .flat_map(str::split_whitespace)
            .filter_map(|gid| gid.parse::<u64>().ok())
            .any(|gid| (low..=high).contains(&gid))
    }

    fn ipv4_route(&self) -> Check {
        // The second column is the destination, in hexadecimal.
        let routes = (self.read)("/proc/net/route").unwrap_or_default();
        let default = routes
            .lines()
            .skip(1)
            .any(|line| line.split_whitespace().nth(1) == Some("00000000"));
        Check {
            name: "IPv4 route",
            state: if default { State::Ok } else { State::Limited },
            found: if default {
                "there is a default route".to_owned()
            } else {
                "there is no default route".to_owned()
            },
            why: "without it only local networks can be reached",
            fix: (!default).then(|| "sudo ip route add default via GATEWAY".to_owned()),
        }
    }

    fn ipv6(&self) -> Check {
        let disabled = self.is("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
        // Address, index, prefix length, scope: 00 is global.
        let addresses = (self.read)("/proc/net/if_inet6");
        let global = addresses.as_ref().is_some_and(|table| {
            table
                .lines()
                .any(|line| line.split_whitespace().nth(3) == Some("00"))
        });
        let (state, found, fix) = match (&addresses, disabled, global) {
            (None, _, _) => (State::Limited, "this kernel has none", None),
            (_, true, _) => (
                State::Limited,
                "is switched off",
                Some("sudo sysctl -w net.ipv6.conf.all.disable_ipv6=0"),
            ),
            (_, _, false) => (State::Limited, "no interface has a global address", None),
            (_, _, true) => (State::Ok, "there is a global address", None),
        };
        Check {
            name: "IPv6",
            state,
            found: found.to_owned(),
            why: "IPv6 targets need an IPv6 source address",
            fix: fix.map(str::to_owned),
        }
    }

    fn clock(&self) -> Check {
        let source = self.value(CLOCK).unwrap_or_else(|| "unknown".to_owned());
        let slow = matches!(
            source.as_str(),
            "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies"
        );
        Check {
            name: "clock",
            state: if slow { State::Limited } else { State::Ok },
            found: format!("the clock source is {source}"),
            why: "a slow one blurs round-trip times and costs packets per second",
            fix: slow.then(|| format!("echo tsc | sudo tee {CLOCK}")),
        }
    }

    /// What a virtual machine does with a processor that has nothing to do. The governor polls for a while,
    /// unless it is told not to, which some kernels are from the start.
    fn idle(&self) -> Check {
        let governor = self.value(IDLE_GOVERNOR);
        let polls = (self.value(HALT_POLL)).filter(|_| governor.as_deref() == Some("haltpoll"));
        let (state, found) = match (polls.as_deref(), governor) {
            (Some("0"), _) => (
                State::Limited,
                "are given back to the hypervisor at once".to_owned(),
            ),
            (Some(ns), _) => (
                State::Ok,
                format!("look for work for up to {ns} ns before the hypervisor gets them back"),
            ),
            (None, Some(governor)) => (State::Ok, format!("are governed by {governor}")),
            (None, None) => (State::Ok, "have no governor".to_owned()),
        };
        Check {
            name: "idle processors",
            state,
            found,
            why: "a stage that sleeps is woken by as much later as one takes to come back",
            fix: (state == State::Limited).then(|| format!("echo 200000 | sudo tee {HALT_POLL}")),
        }
    }

    fn tun(&self) -> Check {
        let exists = (self.read)("/sys/class/misc/tun/dev").is_some();
        let fix = if exists {
            format!("sudo chmod 666 {TUN}")
        } else {
            "sudo modprobe tun".to_owned()
        };
        Check {
            name: "TUN device",
            state: match self.tun {
                Ok(()) => State::Ok,
                Err(_) => State::Limited,
            },
            found: match &self.tun {
                Ok(()) => format!("{TUN} can be opened"),
                Err(error) => format!("{TUN} cannot be opened: {error}"),
            },
            why: "plumb lab puts its network behind one",
            fix: self.tun.is_err().then_some(fix),
        }
    }

    fn namespaces(&self) -> Check {
        let (state, found, fix) = match self.namespace_obstacle() {
            None => (State::Ok, "may be made by any user".to_owned(), None),
            Some((found, _)) if self.admin => (
                State::Ok,
                format!("{found}, but this process has CAP_NET_ADMIN"),
                None,
            ),
            Some((found, fix)) => (State::Limited, found, fix.map(str::to_owned)),
        };
        Check {
            name: "user namespaces",
            state,
            found,
            why: "plumb lab runs without root in one",
            fix,
        }
    }

    /// What forbids users to make user and network namespaces, and the command that allows it.
    fn namespace_obstacle(&self) -> Option<(String, Option<&'static str>)> {
        let zero = |name: &str| self.is(&format!("/proc/sys/user/{name}"), "0");
        if (self.read)("/proc/sys/user/max_user_namespaces").is_none() {
            Some(("this kernel has none".into(), None))
        } else if zero("max_user_namespaces") {
            Some((
                "user.max_user_namespaces is 0".into(),
                Some("sudo sysctl -w user.max_user_namespaces=10000"),
            ))
        } else if zero("max_net_namespaces") {
            Some((
                "user.max_net_namespaces is 0".into(),
                Some("sudo sysctl -w user.max_net_namespaces=10000"),
            ))
        } else if self.is("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            Some((
                "kernel.unprivileged_userns_clone is 0".into(),
                Some("sudo sysctl -w kernel.unprivileged_userns_clone=1"),
            ))
        } else if self.is(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) {
            Some((
                "kernel.apparmor_restrict_unprivileged_userns is 1".into(),
                Some("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
            ))
        } else {
            None
        }
    }

    fn locale(&self) -> Check {
        Check {
            name: "locale",
            state: if self.utf8 { State::Ok } else { State::Limited },
            found: if self.utf8 {
                "is UTF-8".to_owned()
            } else {
                "is not UTF-8".to_owned()
            },
            why: "tunnels are drawn with line characters, else with ASCII",
            fix: (!self.utf8).then(|| "export LC_ALL=C.UTF-8".to_owned()),
        }
    }
}

fn line(look: Look, check: &Check) -> String {
    let (style, state) = match check.state {
        State::Ok => (GOOD, "ok"),
        State::Limited => (LABEL, "limited"),
        State::Missing => (BAD, "missing"),
    };
    let state = look.paint(style, &format!("{state:<7}"));
    let name = look.paint(STRONG, &format!("{:<18}", check.name));
    let why = look.paint(FAINT, check.why);
    let fix = match &check.fix {
        Some(fix) => format!("; fix: {}", look.paint(STRONG, fix)),
        None => String::new(),
    };
    format!("{state} {name} {}; {why}{fix}", check.found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn healthy() -> BTreeMap<&'static str, &'static str> {
        BTreeMap::from([
            ("/proc/sys/kernel/osrelease", "6.1.0\n"),
            (PING_GROUPS, "0\t2147483647\n"),
            (
                "/proc/self/status",
                "Name:\tplumb\nGid:\t100\t100\t100\t100\nGroups:\t4 100\n",
            ),
            (
                "/proc/net/route",
                "Iface\tDestination\tGateway\neth0\t00000000\t0102A8C0\n",
            ),
            ("/proc/sys/net/ipv6/conf/all/disable_ipv6", "0"),
            (
                "/proc/net/if_inet6",
                "2a005000000000000000000000000002 02 40 00 80 eth0\n",
            ),
            (CLOCK, "tsc\n"),
            ("/sys/class/misc/tun/dev", "10:200\n"),
            ("/proc/sys/user/max_user_namespaces", "10000\n"),
            ("/proc/sys/user/max_net_namespaces", "10000\n"),
        ])
    }

    fn checks(
        files: &BTreeMap<&'static str, &'static str>,
        raw: bool,
        tun: bool,
    ) -> BTreeMap<&'static str, Check> {
        let refused = |ok: bool| {
            if ok {
                Ok(())
            } else {
                Err("refused".to_owned())
            }
        };
        System {
            read: &|path| files.get(path).map(|text| (*text).to_owned()),
            raw: refused(raw),
            tun: refused(tun),
            admin: false,
            program: "/usr/bin/plumb".into(),
            utf8: true,
        }
        .checks()
        .into_iter()
        .map(|check| (check.name, check))
        .collect()
    }

    #[test]
    fn a_healthy_system_needs_no_fix() {
        for check in checks(&healthy(), true, true).values() {
            assert_eq!((check.state, &check.fix), (State::Ok, &None), "{check:?}");
        }
    }

    #[test]
    fn a_virtual_machine_whose_idle_processors_do_not_poll_is_told_how_they_would() {
        let mut files = healthy();
        files.extend([(IDLE_GOVERNOR, "haltpoll\n"), (HALT_POLL, "0\n")]);
        let found = &checks(&files, true, true)["idle processors"];
        assert_eq!(found.state, State::Limited);
        let fix = found.fix.as_deref().expect("a fix");
        assert!(fix.starts_with("echo 200000 | ") && fix.ends_with(HALT_POLL));
        files.insert(HALT_POLL, "200000\n");
        assert_eq!(
            checks(&files, true, true)["idle processors"].state,
            State::Ok
        );
        // Of the module of another governor nobody is interested.
        files.extend([(IDLE_GOVERNOR, "menu\n"), (HALT_POLL, "0\n")]);
        let found = &checks(&files, true, true)["idle processors"];
        assert_eq!(
            (found.state, &found.found[..]),
            (State::Ok, "are governed by menu")
        );
    }

    #[test]
    fn without_raw_sockets_the_ping_group_decides_whether_anything_works() {
        let mut files = healthy();
        let found = checks(&files, false, true);
        assert_eq!(found["raw sockets"].state, State::Limited);
        files.insert(PING_GROUPS, "1\t0");
        let found = checks(&files, false, true);
        assert_eq!(found["raw sockets"].state, State::Missing);
        assert_eq!(
            found["raw sockets"].fix.as_deref(),
            Some("sudo setcap cap_net_raw+ep /usr/bin/plumb")
        );
        assert!(found["unprivileged ICMP"].fix.is_some());
    }

    #[test]
    fn every_knob_that_forbids_namespaces_is_named_with_its_command() {
        for (path, value) in [
            ("/proc/sys/user/max_user_namespaces", "0"),
            ("/proc/sys/user/max_net_namespaces", "0"),
            ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            (
                "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
                "1",
            ),
        ] {
            let mut files = healthy();
            files.insert(path, value);
            let found = checks(&files, true, true);
            let knob = path.rsplit('/').next().unwrap();
            let check = &found["user namespaces"];
            assert_eq!(check.state, State::Limited);
            assert!(check.found.contains(knob), "{check:?}");
            assert!(check.fix.as_ref().unwrap().contains(knob), "{check:?}");
        }
        let mut files = healthy();
        files.remove("/proc/sys/user/max_user_namespaces");
        assert_eq!(
            checks(&files, true, true)["user namespaces"].state,
            State::Limited
        );
    }

    #[test]
    fn what_is_missing_is_limited_and_only_sockets_keep_from_tracing() {
        let found = checks(&BTreeMap::new(), true, false);
        for name in ["IPv4 route", "IPv6", "TUN device", "user namespaces"] {
            assert_eq!(found[name].state, State::Limited, "{name}");
        }
        assert_eq!(
            found["TUN device"].fix.as_deref(),
            Some("sudo modprobe tun")
        );
        assert!(found.values().all(|check| check.state != State::Missing));
    }
}
