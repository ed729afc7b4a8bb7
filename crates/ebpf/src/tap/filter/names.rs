//! Names that stand for numbers. None is looked up anywhere else, so a filter means the same on every
//! machine.

/// Protocols of IP.
pub(super) fn protocol(name: &str) -> Option<u32> {
    Some(match name {
        "icmp" => 1,
        "igmp" => 2,
        "ipip" => 4,
        "tcp" => 6,
        "egp" => 8,
        "igrp" => 9,
        "udp" => 17,
        "dccp" => 33,
        "ipv6" => 41,
        "rsvp" => 46,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmp6" | "ipv6-icmp" => 58,
        "eigrp" => 88,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" | "carp" => 112,
        "l2tp" => 115,
        "sctp" => 132,
        "udplite" => 136,
        _ => return None,
    })
}

/// Protocols of Ethernet.
pub(super) fn ethertype(name: &str) -> Option<u32> {
    Some(match name {
        "ip" => 0x0800,
        "arp" => 0x0806,
        "rarp" => 0x8035,
        "ip6" => 0x86dd,
        "loopback" => 0x9000,
        "mopdl" => 0x6001,
        "moprc" => 0x6002,
        "decnet" => 0x6003,
        "lat" => 0x6004,
        "sca" => 0x6007,
        _ => return None,
    })
}

/// Services (IANA), the usual ones: the port, and the protocol if there is one only.
pub(super) fn port(name: &str) -> Option<(u16, Option<u32>)> {
    const TCP: Option<u32> = Some(6);
    const UDP: Option<u32> = Some(17);
    Some(match name {
        "ftp-data" => (20, TCP),
        "ftp" => (21, TCP),
        "ssh" => (22, TCP),
        "telnet" => (23, TCP),
        "smtp" => (25, TCP),
        "domain" => (53, None),
        "bootps" => (67, UDP),
        "bootpc" => (68, UDP),
        "tftp" => (69, UDP),
        "http" | "www" => (80, TCP),
        "kerberos" => (88, None),
        "pop3" => (110, TCP),
        "sunrpc" => (111, None),
        "ntp" => (123, UDP),
        "imap" | "imap2" => (143, TCP),
        "snmp" => (161, None),
        "snmp-trap" | "snmptrap" => (162, None),
        "bgp" => (179, TCP),
        "ldap" => (389, None),
        "https" => (443, None),
        "syslog" => (514, UDP),
        "submission" => (587, TCP),
        "ldaps" => (636, None),
        "imaps" => (993, TCP),
        "pop3s" => (995, TCP),
        "mysql" => (3306, TCP),
        "ms-wbt-server" | "rdp" => (3389, TCP),
        "sip" => (5060, None),
        "postgresql" => (5432, TCP),
        "redis" => (6379, TCP),
        _ => return None,
    })
}

/// Constants of arithmetic: offsets of fields, and what is in them.
pub(super) fn constant(name: &str) -> Option<u32> {
    Some(match name {
        "icmptype" | "icmp6type" => 0,
        "icmpcode" | "icmp6code" => 1,
        "tcpflags" => 13,
        "tcp-fin" => 0x01,
        "tcp-syn" => 0x02,
        "tcp-rst" => 0x04,
        "tcp-push" => 0x08,
        "tcp-ack" => 0x10,
        "tcp-urg" => 0x20,
        "tcp-ece" => 0x40,
        "tcp-cwr" => 0x80,
        "icmp-echoreply" => 0,
        "icmp-unreach" => 3,
        "icmp-sourcequench" => 4,
        "icmp-redirect" => 5,
        "icmp-echo" => 8,
        "icmp-routeradvert" => 9,
        "icmp-routersolicit" => 10,
        "icmp-timxceed" => 11,
        "icmp-paramprob" => 12,
        "icmp-tstamp" => 13,
        "icmp-tstampreply" => 14,
        "icmp-ireq" => 15,
        "icmp-ireqreply" => 16,
        "icmp-maskreq" => 17,
        "icmp-maskreply" => 18,
        "icmp6-destinationunreach" => 1,
        "icmp6-packettoobig" => 2,
        "icmp6-timeexceeded" => 3,
        "icmp6-parameterproblem" => 4,
        "icmp6-echo" => 128,
        "icmp6-echoreply" => 129,
        "icmp6-multicastlistenerquery" => 130,
        "icmp6-multicastlistenerreportv1" => 131,
        "icmp6-multicastlistenerdone" => 132,
        "icmp6-routersolicit" => 133,
        "icmp6-routeradvert" => 134,
        "icmp6-neighborsolicit" => 135,
        "icmp6-neighboradvert" => 136,
        "icmp6-redirect" => 137,
        "icmp6-routerrenum" => 138,
        "icmp6-nodeinformationquery" => 139,
        "icmp6-nodeinformationresponse" => 140,
        _ => return None,
    })
}
