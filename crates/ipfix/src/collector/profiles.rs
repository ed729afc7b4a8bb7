//! Records of IPFIX as the records that they were made of.

use alloc::collections::BTreeMap;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};

use plumb_record::{
    DnsProfile, DnsTransport, DnsType, FlowProfile, FlowProtocol, FlowSchema, WallTime,
};

use super::Record;
use crate::Value;
use crate::table::{Column, DNS, FLOW, Group, Scope, columns};

/// Reads profiles and lookups that plumb exported.
#[derive(Debug)]
pub struct Profiles {
    enterprise: u32,
    flow: BTreeMap<(u32, u16), &'static Column<FlowProfile>>,
    lookup: BTreeMap<(u32, u16), &'static Column<DnsProfile>>,
}

/// The element that every profile has: what it is about.
const PROFILE_KIND: u16 = 2;
/// The element that every lookup has: its name.
const QUERY_NAME: u16 = 64;

impl Profiles {
    /// A reader of records whose elements are under this enterprise number.
    pub fn new(enterprise: u32) -> Self {
        Self {
            enterprise,
            flow: by_number(FLOW, enterprise),
            lookup: by_number(DNS, enterprise),
        }
    }

    /// The profile that a record is; `None` if it is none.
    pub fn flow(&self, record: &Record<'_>) -> Option<FlowProfile> {
        if !self.has(record, PROFILE_KIND) {
            return None;
        }
        let nowhere = SocketAddr::new(NOWHERE, 0);
        let mut profile = FlowProfile::new(0, FlowProtocol::Tcp, nowhere, nowhere);
        fill(&self.flow, record, &mut profile);
        Some(profile)
    }

    /// The lookup that a record is; `None` if it is none.
    pub fn lookup(&self, record: &Record<'_>) -> Option<DnsProfile> {
        if !self.has(record, QUERY_NAME) {
            return None;
        }
        let mut lookup = DnsProfile {
            schema: FlowSchema::V1,
            kind: DnsType::Dns,
            flow_id: None,
            transport: DnsTransport::Udp,
            local_addr: NOWHERE,
            local_port: 0,
            remote_addr: NOWHERE,
            remote_port: 0,
            pid: None,
            process: None,
            cgroup_id: None,
            cgroup: None,
            netns: None,
            start: WallTime(0),
            end: WallTime(0),
            name: alloc::string::String::new(),
            query_type: 0,
            queries: 0,
            resolution_ns: None,
            response_code: None,
            answers: None,
            truncated: None,
        };
        fill(&self.lookup, record, &mut lookup);
        Some(lookup)
    }

    fn has(&self, record: &Record<'_>, id: u16) -> bool {
        let fields = &record.template.fields;
        !record.is_options()
            && fields
                .iter()
                .any(|field| field.enterprise == self.enterprise && field.id == id)
    }
}

const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

fn by_number<R>(
    groups: &'static [Group<R>],
    enterprise: u32,
) -> BTreeMap<(u32, u16), &'static Column<R>> {
    columns(groups)
        .map(|column| {
            let scope: Scope = column.element.scope;
            ((scope.enterprise(enterprise), column.element.id), column)
        })
        .collect()
}

fn fill<R>(columns: &BTreeMap<(u32, u16), &'static Column<R>>, record: &Record<'_>, into: &mut R) {
    for (_, field, value) in record.fields() {
        let Some(column) = columns.get(&(field.enterprise, field.id)) else {
            continue;
        };
        // An element that the exporter did not describe yet came as octets.
        let value = if let Value::Octets(bytes) = value {
            Value::parse(column.element.kind, bytes)
        } else {
            value
        };
        (column.set)(into, value);
    }
}
