//! What the TTLs of replies tell: path lengths, their differences, and the vendor.

use plumb_wire::icmp::Family;

/// The initial TTL of a packet received with `ttl`: the next of 32, 64, 128, 255.
pub(crate) const fn initial_ttl(ttl: u8) -> u8 {
    match ttl {
        129.. => 255,
        65.. => 128,
        33.. => 64,
        _ => 32,
    }
}

/// Routers that a packet received with `ttl` has passed, its sender included.
const fn path_length(ttl: u8) -> i16 {
    initial_ttl(ttl) as i16 - ttl as i16 + 1
}

/// Forward/return path length asymmetry of a time-exceeded reply received with TTL `te`.
pub(crate) fn frpla(te: u8, probe_ttl: u8) -> i16 {
    path_length(te) - i16::from(probe_ttl)
}

/// Return tunnel length: only where the initial TTLs differ so that, of the two replies, only the
/// time-exceeded one counts the hops of a return tunnel (<255,64> and the like).
pub(crate) fn rtla(te: u8, er: u8) -> Option<i16> {
    (initial_ttl(te) == 255 && initial_ttl(er) != 255).then(|| uturn(te, er))
}

/// U-turn signature: how much further the time-exceeded reply travelled than the echo reply.
pub(crate) const fn uturn(te: u8, er: u8) -> i16 {
    path_length(te) - path_length(er)
}

/// Says whether the initial TTLs are those of Junos.
pub(crate) const fn is_junos(te: u8, er: u8) -> bool {
    initial_ttl(te) == 255 && initial_ttl(er) == 64
}

/// Vendors whose IPv4 routers have these initial TTLs of time-exceeded and echo reply (Vanaubel et
/// al. 2013; shares checked against SNMPv3 in the IMC 2025 replication). Over IPv6 nearly all
/// vendors use <64,64>, so nothing is said.
pub(crate) const fn vendors(family: Family, te: u8, er: u8) -> &'static [&'static str] {
    match (family, initial_ttl(te), initial_ttl(er)) {
        (Family::V4, 255, 255) => &["cisco", "huawei", "h3c"],
        (Family::V4, 255, 64) => &["juniper"],
        (Family::V4, 128, 128) => &["juniper-junose"],
        (Family::V4, 64, 64) => &["mikrotik", "nokia", "ruijie", "brocade", "linux"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_ttls_change_above_32_64_and_128() {
        let boundaries = [0, 32, 33, 64, 65, 128, 129, 255].map(initial_ttl);
        assert_eq!(boundaries, [32, 32, 64, 64, 128, 128, 255, 255]);
    }

    #[test]
    fn measured_cases_of_the_technical_report_come_out() {
        // G6: PE2 at TTL 3 answers with 250.
        assert_eq!(frpla(250, 3), 3);
        // G12: VMX, PE2 answers with 250 and, to a ping, with 62.
        assert_eq!((rtla(250, 62), uturn(250, 62)), (Some(3), 3));
        // G1: Cisco P1 and P2.
        assert_eq!(
            (rtla(247, 253), uturn(247, 253), uturn(248, 252)),
            (None, 6, 4)
        );
        // G5: Junos with icmp-tunneling, P1.
        assert_eq!(uturn(246, 62), 7);
    }

    #[test]
    fn a_vendor_needs_both_initial_ttls() {
        assert_eq!(vendors(Family::V4, 250, 61), ["juniper"]);
        assert_eq!(vendors(Family::V4, 250, 250), ["cisco", "huawei", "h3c"]);
        assert!(vendors(Family::V6, 60, 60).is_empty());
    }
}
