//! Classic BPF programs that let through what answers a probe, and nothing else.
//!
//! Most run on packets that begin with the IP header: those of SOCK_DGRAM packet sockets, and of
//! raw IPv4 sockets. What passes:
//! ICMP errors and echo replies, and TCP segments with RST, or SYN and ACK, to a port that probes
//! are sent from. Replies to UDP probes are ICMP errors. A flood of anything else costs a few
//! instructions per packet, and no copy.

use libc::sock_filter;

/// The program for packets with EtherType 0x0800, where probes are sent from `first_port` and above.
pub(crate) fn ipv4(first_port: u16) -> Vec<sock_filter> {
    assemble(&[
        Op::LoadPacketType,
        Op::Require(u32::from(libc::PACKET_HOST)),
        // Only a first fragment has a transport header.
        Op::LoadHalf(6),
        Op::DropIfAny(0x1fff),
        Op::LoadIpv4HeaderLen,
        Op::LoadByte(9),
        Op::SkipUnless(1, 6),
        Op::LoadByteIndexed(0),
        Op::AcceptIf(0),
        Op::AcceptIf(3),
        Op::AcceptIf(11),
        Op::AcceptIf(12),
        Op::Drop,
        Op::Require(6),
        Op::LoadHalfIndexed(2),
        Op::DropBelow(first_port.into()),
        Op::LoadByteIndexed(13),
        Op::AcceptIfAny(RST),
        Op::Mask(SYN_ACK),
        Op::AcceptIf(SYN_ACK),
        Op::Drop,
    ])
}

/// The program for packets with EtherType 0x86dd, where probes are sent from `first_port` and above.
///
/// Classic BPF has no loops, so it cannot walk extension headers: a packet whose first one is
/// followed by ICMPv6 or TCP passes, and the engine decides.
pub(crate) fn ipv6(first_port: u16) -> Vec<sock_filter> {
    assemble(&[
        Op::LoadPacketType,
        Op::Require(u32::from(libc::PACKET_HOST)),
        Op::LoadByte(6),
        Op::SkipUnless(58, 7),
        Op::LoadByte(40),
        Op::AcceptIf(1),
        Op::AcceptIf(2),
        Op::AcceptIf(3),
        Op::AcceptIf(4),
        Op::AcceptIf(129),
        Op::Drop,
        Op::SkipUnless(6, 7),
        Op::LoadHalf(42),
        Op::DropBelow(first_port.into()),
        Op::LoadByte(53),
        Op::AcceptIfAny(RST),
        Op::Mask(SYN_ACK),
        Op::AcceptIf(SYN_ACK),
        Op::Drop,
        // Hop-by-hop options, routing, fragment, destination options.
        Op::SkipUnless(0, 1),
        Op::Jump(6),
        Op::SkipUnless(43, 1),
        Op::Jump(4),
        Op::SkipUnless(44, 1),
        Op::Jump(2),
        Op::SkipUnless(60, 4),
        Op::Jump(0),
        Op::LoadByte(40),
        Op::AcceptIf(58),
        Op::AcceptIf(6),
        Op::Drop,
    ])
}

/// The program for raw ICMPv6 sockets, whose packets begin with the ICMPv6 header.
pub(crate) fn icmpv6_messages() -> Vec<sock_filter> {
    assemble(&[
        Op::LoadByte(0),
        Op::AcceptIf(1),
        Op::AcceptIf(2),
        Op::AcceptIf(3),
        Op::AcceptIf(4),
        Op::AcceptIf(129),
        Op::Drop,
    ])
}

/// The program for raw TCP sockets of IPv6, whose packets begin with the TCP header.
pub(crate) fn tcp_segments(first_port: u16) -> Vec<sock_filter> {
    assemble(&[
        Op::LoadHalf(2),
        Op::DropBelow(first_port.into()),
        Op::LoadByte(13),
        Op::AcceptIfAny(RST),
        Op::Mask(SYN_ACK),
        Op::AcceptIf(SYN_ACK),
        Op::Drop,
    ])
}

const RST: u32 = plumb_wire::tcp::RST as u32;
const SYN_ACK: u32 = (plumb_wire::tcp::SYN | plumb_wire::tcp::ACK) as u32;

/// What the programs are written in: tests and loads of one instruction each, with jumps counted
/// in operations.
#[derive(Clone, Copy)]
enum Op {
    /// A = PACKET_HOST and its like.
    LoadPacketType,
    /// A = the byte at this offset.
    LoadByte(u32),
    /// A = the 16-bit word at this offset.
    LoadHalf(u32),
    /// X = length of the IPv4 header.
    LoadIpv4HeaderLen,
    /// A = the byte at X and this offset.
    LoadByteIndexed(u32),
    /// A = the 16-bit word at X and this offset.
    LoadHalfIndexed(u32),
    /// A = A and this.
    Mask(u32),
    /// Drop unless A is this.
    Require(u32),
    /// Accept if A is this.
    AcceptIf(u32),
    /// Accept if A has any of these bits.
    AcceptIfAny(u32),
    /// Drop if A has any of these bits.
    DropIfAny(u32),
    /// Drop if A is less than this.
    DropBelow(u32),
    /// Skip so many operations unless A is this.
    SkipUnless(u32, u8),
    /// Skip so many operations.
    Jump(u32),
    /// Drop.
    Drop,
}

/// Translates operations; the two last instructions are "drop" and "accept all bytes".
fn assemble(ops: &[Op]) -> Vec<sock_filter> {
    use libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JMP,
        BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET,
    };
    let instruction = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: u16::try_from(code).unwrap_or(0),
        jt,
        jf,
        k,
    };
    let mut program: Vec<_> = ops
        .iter()
        .enumerate()
        .map(|(at, op)| {
            // From the instruction after this one to the two at the end.
            let drop = u8::try_from(ops.len() - at - 1).unwrap_or(0);
            let accept = drop + 1;
            let test = |code, k, jt, jf| instruction(BPF_JMP | code | BPF_K, jt, jf, k);
            match *op {
                Op::LoadPacketType => {
                    let ancillary = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
                    instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, ancillary)
                }
                Op::LoadByte(k) => instruction(BPF_LD | BPF_B | BPF_ABS, 0, 0, k),
                Op::LoadHalf(k) => instruction(BPF_LD | BPF_H | BPF_ABS, 0, 0, k),
                Op::LoadIpv4HeaderLen => instruction(BPF_LDX | BPF_B | BPF_MSH, 0, 0, 0),
                Op::LoadByteIndexed(k) => instruction(BPF_LD | BPF_B | BPF_IND, 0, 0, k),
                Op::LoadHalfIndexed(k) => instruction(BPF_LD | BPF_H | BPF_IND, 0, 0, k),
                Op::Mask(k) => instruction(BPF_ALU | BPF_AND | BPF_K, 0, 0, k),
                Op::Require(k) => test(BPF_JEQ, k, 0, drop),
                Op::AcceptIf(k) => test(BPF_JEQ, k, accept, 0),
                Op::AcceptIfAny(k) => test(BPF_JSET, k, accept, 0),
                Op::DropIfAny(k) => test(BPF_JSET, k, drop, 0),
                Op::DropBelow(k) => test(BPF_JGE, k, 0, drop),
                Op::SkipUnless(k, skip) => test(BPF_JEQ, k, 0, skip),
                Op::Jump(skip) => instruction(BPF_JMP | BPF_JA, 0, 0, skip),
                Op::Drop => instruction(BPF_JMP | BPF_JA, 0, 0, drop.into()),
            }
        })
        .collect();
    program.push(instruction(BPF_RET | BPF_K, 0, 0, 0));
    program.push(instruction(BPF_RET | BPF_K, 0, 0, u32::MAX));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use plumb_wire::tcp::{ACK, RST, SYN};

    /// Runs a program as the kernel does, reading past the end of the packet included (which
    /// drops it), and says whether the packet passes.
    fn passes(program: &[sock_filter], packet_type: u8, packet: &[u8]) -> bool {
        let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
        let byte = |offset: u32| packet.get(usize::try_from(offset).unwrap()).copied();
        let half = |offset: u32| Some(u32::from(byte(offset)?) << 8 | u32::from(byte(offset + 1)?));
        loop {
            let i = program[at];
            at += 1;
            let jump = |taken| usize::from(if taken { i.jt } else { i.jf });
            let loaded = match i.code {
                0x30 if i.k == 0xffff_f004 => Some(packet_type.into()),
                0x30 => byte(i.k).map(u32::from),
                0x28 => half(i.k),
                0x50 => byte(x + i.k).map(u32::from),
                0x48 => half(x + i.k),
                0xb1 => {
                    let Some(first) = byte(i.k) else { return false };
                    x = u32::from(first & 15) * 4;
                    continue;
                }
                0x54 => Some(a & i.k),
                0x15 | 0x45 | 0x35 => {
                    at += jump(match i.code {
                        0x15 => a == i.k,
                        0x45 => a & i.k != 0,
                        _ => a >= i.k,
                    });
                    continue;
                }
                0x05 => {
                    at += usize::try_from(i.k).unwrap();
                    continue;
                }
                0x06 => return i.k != 0,
                other => panic!("instruction {other:#x}"),
            };
            match loaded {
                Some(value) => a = value,
                None => return false,
            }
        }
    }

    fn v4(protocol: u8, options: usize, transport: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 20 + options];
        packet[0] = 0x45 + u8::try_from(options / 4).unwrap();
        packet[9] = protocol;
        packet.extend(transport);
        packet
    }

    fn v6(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; 40];
        packet[0] = 0x60;
        packet[6] = next_header;
        packet.extend(rest);
        packet
    }

    fn tcp(dst_port: u16, flags: u8) -> [u8; 20] {
        let mut segment = [0; 20];
        segment[2..4].copy_from_slice(&dst_port.to_be_bytes());
        segment[13] = flags;
        segment
    }

    #[test]
    fn icmp_errors_and_echo_replies_pass_and_other_icmp_does_not() {
        for number in 0..=255 {
            let icmp = [number, 0, 0, 0, 0, 0, 0, 0];
            for options in [0, 4, 40] {
                let pass = passes(&ipv4(0x8000), 0, &v4(1, options, &icmp));
                assert_eq!(pass, [0, 3, 11, 12].contains(&number), "ICMP {number}");
            }
            let expected = [1, 2, 3, 4, 129].contains(&number);
            let pass = passes(&ipv6(0x8000), 0, &v6(58, &icmp));
            assert_eq!(pass, expected, "ICMPv6 {number}");
            assert_eq!(
                passes(&icmpv6_messages(), 0, &icmp),
                expected,
                "ICMPv6 {number}"
            );
        }
    }

    #[test]
    fn tcp_passes_if_it_can_answer_a_probe() {
        for (port, flags, expected) in [
            (0x8000, RST, true),
            (0xffff, RST | ACK, true),
            (0x8001, SYN | ACK, true),
            (0x7fff, RST, false),
            (443, SYN | ACK, false),
            (0x8000, SYN, false),
            (0x8000, ACK, false),
        ] {
            let segment = tcp(port, flags);
            for options in [0, 8] {
                let pass = passes(&ipv4(0x8000), 0, &v4(6, options, &segment));
                assert_eq!(pass, expected, "{port} {flags:#x}");
            }
            let pass = passes(&ipv6(0x8000), 0, &v6(6, &segment));
            assert_eq!(pass, expected, "{port}");
            let pass = passes(&tcp_segments(0x8000), 0, &segment);
            assert_eq!(pass, expected, "{port}");
        }
        for (port, expected) in [(1023, false), (1024, true)] {
            let segment = tcp(port, RST);
            assert_eq!(passes(&ipv4(1024), 0, &v4(6, 0, &segment)), expected);
            assert_eq!(passes(&ipv6(1024), 0, &v6(6, &segment)), expected);
        }
    }

    #[test]
    fn only_what_was_sent_to_this_host_passes() {
        let icmp = [11, 0, 0, 0, 0, 0, 0, 0];
        for packet_type in 1..=7 {
            assert!(!passes(&ipv4(0x8000), packet_type, &v4(1, 0, &icmp)));
            assert!(!passes(&ipv6(0x8000), packet_type, &v6(58, &icmp)));
        }
    }

    #[test]
    fn later_fragments_and_other_protocols_are_dropped() {
        let mut fragment = v4(1, 0, &[11, 0, 0, 0, 0, 0, 0, 0]);
        fragment[7] = 1;
        assert!(!passes(&ipv4(0x8000), 0, &fragment));
        fragment[6..8].copy_from_slice(&[0x20, 0]);
        assert!(passes(&ipv4(0x8000), 0, &fragment), "a first fragment");
        for protocol in (0..=255).filter(|p| ![1, 6].contains(p)) {
            let packet = v4(protocol, 0, &[0xff; 20]);
            assert!(!passes(&ipv4(0x8000), 0, &packet), "{protocol}");
        }
        for protocol in (0..=255).filter(|p| ![0, 6, 43, 44, 58, 60].contains(p)) {
            let packet = v6(protocol, &[58; 20]);
            assert!(!passes(&ipv6(0x8000), 0, &packet), "{protocol}");
        }
    }

    #[test]
    fn icmpv6_behind_one_extension_header_passes() {
        for extension in [0, 43, 44, 60] {
            assert!(passes(
                &ipv6(0x8000),
                0,
                &v6(extension, &[58, 0, 0, 0, 0, 0, 0, 0])
            ));
            assert!(passes(
                &ipv6(0x8000),
                0,
                &v6(extension, &[6, 0, 0, 0, 0, 0, 0, 0])
            ));
            assert!(!passes(
                &ipv6(0x8000),
                0,
                &v6(extension, &[17, 0, 0, 0, 0, 0, 0, 0])
            ));
        }
    }

    #[test]
    fn a_packet_that_is_cut_off_anywhere_is_dropped() {
        let whole = v4(6, 8, &tcp(0x8000, RST));
        for len in 0..28 + 14 {
            assert!(!passes(&ipv4(0x8000), 0, &whole[..len]), "{len}");
        }
        let whole = v6(6, &tcp(0x8000, RST));
        for len in 0..40 + 14 {
            assert!(!passes(&ipv6(0x8000), 0, &whole[..len]), "{len}");
        }
    }
}
