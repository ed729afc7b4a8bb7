//! What this kernel can tell of connections.

use libbpf_rs::btf::Btf;

use super::loading::{NOT_NEEDED, OFF, reason};
use super::programs::{Hook, PROGRAMS, has_member, short};

/// A group of figures, and whether this kernel has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The program, or member of a structure, that gives it.
    pub name: String,
    /// What it gives.
    pub gives: &'static str,
    /// Where in the kernel that comes from.
    pub source: String,
    /// The release of Linux that first had it.
    pub since: &'static str,
    /// Why it is not there; `None` if it is.
    pub missing: Option<String>,
    /// Whether that is only because nobody asked for it: this kernel has it.
    pub is_off: bool,
}

/// Members of structures that not every supported kernel has.
const MEMBERS: [(&str, &str, &str, &str); 6] = [
    ("tcp_sock", "bytes_retrans", "bytes retransmitted", "4.19"),
    (
        "tcp_sock",
        "rcv_ooopack",
        "segments received out of order",
        "5.4",
    ),
    (
        "tcp_sock",
        "total_rto",
        "retransmission timeouts, each of a series",
        "6.7",
    ),
    (
        "tcp_sock",
        "is_mptcp",
        "subflows of multipath connections",
        "5.6",
    ),
    (
        "mptcp_subflow_context",
        "subflow_id",
        "path index of subflows",
        "6.5",
    ),
    (
        "mptcp_sock",
        "bytes_sent",
        "bytes of multipath connections, reinjections",
        "6.5",
    ),
];

pub(super) fn list(types: &Btf<'_>, verdicts: &[Option<String>]) -> Vec<Capability> {
    let programs = PROGRAMS.iter().map(|program| Capability {
        name: short(program.name).to_owned(),
        gives: program.gives,
        source: match program.hook {
            Hook::Tracepoint(name, _) => format!("tp_btf/{name}"),
            Hook::Iterator(name) | Hook::IteratorCalling(name, _) => format!("iter/{name}"),
        },
        since: program.since,
        missing: reason(verdicts, program.name).map(str::to_owned),
        is_off: [Some(OFF), Some(NOT_NEEDED)].contains(&reason(verdicts, program.name)),
    });
    let members = MEMBERS
        .iter()
        .map(|&(structure, member, gives, since)| Capability {
            name: member.to_owned(),
            gives,
            source: format!("{structure}.{member}"),
            since,
            missing: (!has_member(types, structure, member))
                .then(|| format!("this kernel's {structure} has no {member}")),
            is_off: false,
        });
    programs.chain(members).collect()
}
