//! The topology file as it is written: names and options, nothing resolved yet.

use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use super::profile::{
    Ecmp, Ending, ExtensionStyle, IpId, LabelDistribution, LseExpiry, NatPorts, NatQuote, PopTtl,
    QuoteLen, Silence, UnreachableSource, Vendor,
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub(crate) summary: Option<String>,
    #[serde(default)]
    pub(crate) targets: Vec<String>,
    #[serde(default)]
    pub(crate) addresses: Addresses,
    pub(crate) vantage: Option<Vantage>,
    #[serde(default)]
    pub(crate) defaults: Router,
    #[serde(default)]
    pub(crate) router: Vec<Router>,
    #[serde(default)]
    pub(crate) host: Vec<Host>,
    #[serde(default)]
    pub(crate) link: Vec<Link>,
    #[serde(default)]
    pub(crate) domain: Vec<Domain>,
    #[serde(default)]
    pub(crate) route: Vec<Route>,
    #[serde(default)]
    pub(crate) prefix: Vec<Prefix>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Addresses {
    pub(crate) links_v4: Option<String>,
    pub(crate) loopbacks_v4: Option<String>,
    pub(crate) links_v6: Option<String>,
    pub(crate) loopbacks_v6: Option<String>,
    pub(crate) link_prefix_len: Option<u8>,
    pub(crate) ipv4: Option<bool>,
    pub(crate) ipv6: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vantage {
    pub(crate) name: String,
}

/// Settings of routers, also the `defaults` for all of them.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Router {
    pub(crate) names: Option<String>,
    pub(crate) vendor: Option<Vendor>,
    pub(crate) loopback_v4: Option<String>,
    pub(crate) loopback_v6: Option<String>,
    pub(crate) ipv6: Option<bool>,
    pub(crate) time_exceeded_ttl: Option<u8>,
    pub(crate) echo_reply_ttl: Option<u8>,
    pub(crate) time_exceeded_hop_limit: Option<u8>,
    pub(crate) echo_reply_hop_limit: Option<u8>,
    pub(crate) rfc4950: Option<bool>,
    pub(crate) extensions: Option<ExtensionStyle>,
    pub(crate) quote: Option<QuoteLen>,
    pub(crate) quoted_ttl_zero: Option<bool>,
    pub(crate) quoted_length_swapped: Option<bool>,
    pub(crate) quoted_seq_rewritten: Option<bool>,
    pub(crate) unreachable_source: Option<UnreachableSource>,
    pub(crate) silent: Option<Silence>,
    pub(crate) icmp_rate: Option<f64>,
    pub(crate) icmp_burst: Option<u32>,
    pub(crate) echo_rate: Option<f64>,
    pub(crate) echo_burst: Option<u32>,
    pub(crate) ip_id: Option<IpId>,
    pub(crate) ecmp: Option<Ecmp>,
    pub(crate) ttl_propagate: Option<bool>,
    pub(crate) ending: Option<Ending>,
    pub(crate) lse_expiry: Option<LseExpiry>,
    pub(crate) pop_ttl: Option<PopTtl>,
    pub(crate) nat_outside: Option<String>,
    pub(crate) nat_ports: Option<NatPorts>,
    pub(crate) nat_quote: Option<NatQuote>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    pub(crate) names: String,
    pub(crate) vendor: Option<Vendor>,
    #[serde(default)]
    pub(crate) prefixes: Vec<String>,
    pub(crate) ipv6: Option<bool>,
    #[serde(default)]
    pub(crate) open_tcp: Vec<u16>,
    pub(crate) silent: Option<Silence>,
    pub(crate) echo_reply_ttl: Option<u8>,
    pub(crate) time_exceeded_ttl: Option<u8>,
    pub(crate) ip_id: Option<IpId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    pub(crate) path: String,
    pub(crate) v4: Option<String>,
    pub(crate) v6: Option<String>,
    pub(crate) delay_ms: Option<f64>,
    pub(crate) jitter_ms: Option<f64>,
    pub(crate) loss: Option<f64>,
    pub(crate) mtu: Option<u16>,
    pub(crate) cost: Option<u32>,
    pub(crate) cost_back: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Domain {
    pub(crate) name: String,
    pub(crate) routers: String,
    pub(crate) label_distribution: Option<LabelDistribution>,
    pub(crate) ending: Option<Ending>,
    pub(crate) ttl_propagate: Option<bool>,
    pub(crate) six_pe: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    pub(crate) at: String,
    pub(crate) to: String,
    pub(crate) via: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prefix {
    pub(crate) prefix: String,
    pub(crate) at: String,
    pub(crate) answer: Answer,
}

/// What a router does with packets to a prefix in which nobody answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    NetUnreachable,
    HostUnreachable,
    AdminProhibited,
    Drop,
}
