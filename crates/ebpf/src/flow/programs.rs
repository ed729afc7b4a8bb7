//! The programs, what each needs from the kernel, and what is lost without it.

use libbpf_rs::btf::types::{Composite, Func, FuncProto, Ptr, Typedef};
use libbpf_rs::btf::{Btf, ReferencesType as _};

/// What a program is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hook {
    /// A tracepoint with at least so many arguments.
    Tracepoint(&'static str, usize),
    /// An iterator.
    Iterator(&'static str),
    /// An iterator, for a program that calls this function of the kernel.
    IteratorCalling(&'static str, &'static str),
}

/// A program of `flow.bpf.c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) name: &'static str,
    pub(super) hook: Hook,
    /// What it is for: figures, or what is done with it.
    pub(super) gives: &'static str,
    /// The release of Linux that first had what it needs.
    pub(super) since: &'static str,
    /// Whether it runs for each segment, and so only where that was asked for.
    pub(super) is_per_segment: bool,
}

pub(super) const STATE: &str = "flow_state";
pub(super) const CONGESTION: &str = "flow_congestion";
pub(super) const RETRANSMIT: &str = "flow_retransmit";
pub(super) const RESET_RECEIVED: &str = "flow_reset_received";
pub(super) const RESET_SENT: &str = "flow_reset_sent";
pub(super) const DROP: &str = "flow_drop";
pub(super) const SEGMENT: &str = "flow_segment";
pub(super) const STALL: &str = "flow_stall";
pub(super) const BASELINE: &str = "flow_baseline";
pub(super) const PASS: &str = "flow_pass";
pub(super) const TABLE: &str = "flow_table";
pub(super) const WALK: &str = "flow_walk";

pub(super) const PROGRAMS: [Program; 12] = [
    Program {
        name: STATE,
        hook: Hook::Tracepoint("inet_sock_set_state", 3),
        gives: "connections, from establishment to end",
        since: "5.12",
        is_per_segment: false,
    },
    Program {
        name: CONGESTION,
        hook: Hook::Tracepoint("tcp_cong_state_set", 2),
        gives: "lossy phases, retransmission timeouts, fast recoveries",
        since: "5.19",
        is_per_segment: false,
    },
    Program {
        name: RETRANSMIT,
        hook: Hook::Tracepoint("tcp_retransmit_skb", 2),
        gives: "tail loss probes",
        since: "5.11",
        is_per_segment: false,
    },
    Program {
        name: RESET_RECEIVED,
        hook: Hook::Tracepoint("tcp_receive_reset", 1),
        gives: "resets received",
        since: "5.11",
        is_per_segment: false,
    },
    Program {
        name: RESET_SENT,
        hook: Hook::Tracepoint("tcp_send_reset", 2),
        gives: "resets sent",
        since: "5.11",
        is_per_segment: false,
    },
    Program {
        name: DROP,
        hook: Hook::Tracepoint("kfree_skb", 4),
        gives: "duplicates received",
        since: "6.11",
        is_per_segment: false,
    },
    Program {
        name: BASELINE,
        hook: Hook::Iterator("task_file"),
        gives: "connections that were there before",
        since: "5.11",
        is_per_segment: false,
    },
    Program {
        name: PASS,
        hook: Hook::Iterator("bpf_sk_storage_map"),
        gives: "active and idle timeouts, orphans",
        since: "5.12",
        is_per_segment: false,
    },
    Program {
        name: TABLE,
        hook: Hook::IteratorCalling("bpf_map_elem", "bpf_rdonly_cast"),
        gives: "less cost for each connection: no storage for its socket",
        since: "6.2",
        is_per_segment: false,
    },
    Program {
        name: WALK,
        hook: Hook::IteratorCalling("bpf_map", "bpf_rdonly_cast"),
        gives: "what pass and table give, where the kernel refuses those",
        since: "6.2",
        is_per_segment: false,
    },
    Program {
        name: SEGMENT,
        hook: Hook::Tracepoint("tcp_probe", 2),
        gives: "round-trip times one by one, distance out of order, zero windows",
        since: "5.11",
        is_per_segment: true,
    },
    Program {
        name: STALL,
        hook: Hook::Tracepoint("subflow_check_data_avail", 2),
        gives: "head-of-line stalls of multipath connections",
        since: "5.13",
        is_per_segment: true,
    },
];

/// The programs that can be left out ([`Options::without`](super::Options::without)): all but
/// `state`, without which there is nothing.
pub fn optional_programs() -> impl Iterator<Item = &'static str> {
    let others = PROGRAMS.iter().filter(|program| program.name != STATE);
    others.map(|program| short(program.name))
}

/// A program's name for people: `drop` for `flow_drop`.
pub(super) fn short(name: &str) -> &str {
    name.strip_prefix("flow_").unwrap_or(name)
}

impl Hook {
    /// Why this kernel does not have it.
    pub(super) fn missing(self, types: &Btf<'_>) -> Option<String> {
        match self {
            Self::Tracepoint(name, wanted) => match arguments(types, name) {
                None => Some(format!("this kernel has no tracepoint {name}")),
                Some(there) if there < wanted => Some(format!(
                    "tracepoint {name} has {there} arguments here, not {wanted}"
                )),
                Some(_) => None,
            },
            Self::Iterator(name) => types
                .type_by_name::<Composite<'_>>(&format!("bpf_iter__{name}"))
                .is_none()
                .then(|| format!("this kernel has no iterator {name}")),
            Self::IteratorCalling(name, function) => {
                Self::Iterator(name).missing(types).or_else(|| {
                    types
                        .type_by_name::<Func<'_>>(function)
                        .is_none()
                        .then(|| format!("this kernel has no function {function}"))
                })
            }
        }
    }
}

/// How many arguments a program at a tracepoint gets.
fn arguments(types: &Btf<'_>, tracepoint: &str) -> Option<usize> {
    let typedef: Typedef<'_> = types.type_by_name(&format!("btf_trace_{tracepoint}"))?;
    let pointer = Ptr::try_from(typedef.referenced_type()).ok()?;
    let function = FuncProto::try_from(pointer.referenced_type()).ok()?;
    // The first is the tracepoint's own.
    function.len().checked_sub(1)
}

/// Whether a structure of this kernel has a member, those of unnamed structures in it included.
pub(super) fn has_member(types: &Btf<'_>, structure: &str, member: &str) -> bool {
    let Some(outer) = types.type_by_name::<Composite<'_>>(structure) else {
        return false;
    };
    let mut look = vec![outer];
    while let Some(composite) = look.pop() {
        for candidate in composite.iter() {
            match candidate.name {
                Some(name) if !name.is_empty() => {
                    if name == member {
                        return true;
                    }
                }
                _ => look.extend(types.type_by_id::<Composite<'_>>(candidate.ty)),
            }
        }
    }
    false
}
