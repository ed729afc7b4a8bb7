"""What the kernel's connection tracking says of packets, one line for each.

Usage, in a network namespace of its own: ct_state.py SEED SCENARIOS

Packets are sent through the namespace, which forwards them and writes into their DSCP field what
nft's `ct state`, `ct direction` and `ct status` say. A line is: side, state, direction (`-` where
there is no connection), whether it is assured, and the frames as they were sent, in hexadecimal;
several where they are fragments of one datagram. A line that begins with `#` names what follows:
each scenario has hosts of its own, so that none knows of the others' connections.
"""

import ipaddress
import random
import socket
import struct
import subprocess
import sys
import time

SEED, SCENARIOS = int(sys.argv[1]), int(sys.argv[2])
# MAC addresses: the hosts, the kernel towards them, the kernel outwards, the next hop.
HOSTS, INNER, OUTER, NEXT = (b"\2\0\0\0\0" + bytes([n]) for n in (0xA1, 0xA0, 0xB0, 0xB1))
STATES = ["new", "established", "related", "invalid", "untracked"]
SETUP = """
set -e
ip link add l0 type veth peer name l1
ip link add r0 type veth peer name r1
for i in l0 l1 r0 r1; do
    ethtool -K $i tx off rx off gro off >/dev/null
    sysctl -qw net.ipv6.conf.$i.accept_dad=0 net.ipv6.conf.$i.router_solicitations=0
done
for i in l1 r1; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=1; done
ip link set l0 address 02:00:00:00:00:a0
ip link set r0 address 02:00:00:00:00:b0
ip addr add 169.254.1.1/24 dev l0
ip addr add 169.254.2.1/24 dev r0
for i in lo l0 l1 r0 r1; do ip link set $i up; done
ip neigh add 169.254.1.2 lladdr 02:00:00:00:00:a1 dev l0 nud permanent
ip neigh add 169.254.2.2 lladdr 02:00:00:00:00:b1 dev r0 nud permanent
ip neigh add fe80::2 lladdr 02:00:00:00:00:a1 dev l0 nud permanent
ip neigh add fe80::3 lladdr 02:00:00:00:00:b1 dev r0 nud permanent
ip route add 10.0.0.0/8 via 169.254.1.2 dev l0
ip route add 172.16.0.0/12 via 169.254.2.2 dev r0
ip -6 route add fd00::/16 via fe80::2 dev l0
ip -6 route add fd01::/16 via fe80::3 dev r0
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.l0.rp_filter=0 net.ipv4.conf.r0.rp_filter=0
"""
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
OPTIONS = bytes([2, 4, 5, 0xB4, 1, 3, 3, 7, 1, 1, 4, 2])


def rules():
    lines = ["table inet oracle {", "chain forward {", "type filter hook forward priority 0"]
    for i, state in enumerate(STATES):
        for ip in ("ip", "ip6"):
            family = f"meta nfproto {'ipv4' if ip == 'ip' else 'ipv6'}"
            code = 1 + 4 * i
            lines.append(f"{family} ct state {state} {ip} dscp set {code}")
            if i > 2:
                continue
            reply = f"{family} ct state {state} ct direction reply"
            lines.append(f"{reply} {ip} dscp set {code + 2}")
            lines.append(f"{family} ct state {state} ct direction original ct status assured {ip} dscp set {code + 1}")
            lines.append(f"{reply} ct status assured {ip} dscp set {code + 3}")
    return "\n".join(lines + ["}", "}"])


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def filled(data, at, covered=b""):
    return data[:at] + struct.pack(">H", checksum(covered + data) or 0xFFFF) + data[at + 2 :]


def pseudo(src, dst, number, length):
    return src.packed + dst.packed + struct.pack(">II", length, number)


class Place:
    """Two hosts, the one on the left and the one on the right."""

    idents = 0

    def __init__(self, number, six):
        self.six = six
        if six:
            self.ends = [ipaddress.ip_address(f"fd0{i}::{number:x}") for i in (0, 1)]
            self.routers = [ipaddress.ip_address(f"fd0{i}:9::{number:x}") for i in (0, 1)]
        else:
            high, low = divmod(number, 250)
            self.ends = [ipaddress.ip_address(f"{net}.{high}.{low + 1}") for net in ("10.0", "172.16")]
            self.routers = [ipaddress.ip_address(f"{net}.{high}.{low + 1}") for net in ("10.9", "172.19")]

    def ip(self, side, number, payload, src=None):
        """A packet from one side to the other. It has a name of its own, to know it again by."""
        Place.idents = Place.idents % 0xFFFF + 1
        src, dst = src or self.ends[side], self.ends[1 - side]
        if self.six:
            first = struct.pack(">IHBB", 6 << 28 | Place.idents, len(payload), number, 64)
            return first + src.packed + dst.packed + payload
        first = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), Place.idents, 0, 64, number, 0)
        return filled(first + src.packed + dst.packed, 10) + payload

    def tcp(self, side, flags, seq, ack, size=0, window=1000, options=b"", ports=(40000, 80), damage=0):
        sport, dport = ports if side == 0 else ports[::-1]
        offset = (5 + len(options) // 4) << 4
        numbers = (sport, dport, seq % 2**32, ack % 2**32, offset, flags, window, 0, 0)
        data = struct.pack(">HHIIBBHHH", *numbers) + options + b"U" * size
        data = filled(data, 16, pseudo(self.ends[side], self.ends[1 - side], 6, len(data)))
        return self.ip(side, 6, data[:13] + bytes([data[13] ^ damage]) + data[14:])

    def udp(self, side, size=4, ports=(5000, 53), damage=0, none=False):
        sport, dport = ports if side == 0 else ports[::-1]
        data = struct.pack(">HHHH", sport, dport, 8 + size, 0) + b"q" * size
        if not none:
            data = filled(data, 6, pseudo(self.ends[side], self.ends[1 - side], 17, len(data)))
        return self.ip(side, 17, data[:-1] + bytes([data[-1] ^ damage]))

    def icmp(self, side, kind, code, rest, body=b"", src=None, damage=0):
        data = struct.pack(">BBHI", kind, code, 0, rest) + body
        src = src or self.ends[side]
        covered = pseudo(src, self.ends[1 - side], 58, len(data)) if self.six else b""
        data = filled(data, 2, covered)
        data = data[:1] + bytes([data[1] ^ damage]) + data[2:]
        return self.ip(side, 58 if self.six else 1, data, src)

    def echo(self, side, reply, ident, **more):
        kinds = (128, 129) if self.six else (8, 0)
        return self.icmp(side, kinds[reply], 0, ident << 16 | 1, b"data", **more)

    def error(self, side, about, kind=None, size=8, **more):
        """An error from a router on a side about a packet that came from the other."""
        kind = kind or ((1, 4) if self.six else (3, 3))
        header = 40 if self.six else 20
        return self.icmp(side, *kind, 0, about[: header + size], src=self.routers[side], **more)

    def fragments(self, packet, *edges):
        header = 40 if self.six else 20
        payload, pieces = packet[header:], []
        for start, end in zip((0, *edges), (*edges, len(payload))):
            more = end < len(payload)
            if self.six:
                extension = struct.pack(">BBHI", packet[6], 0, start | more, 7)
                length = struct.pack(">H", 8 + end - start)
                piece = packet[:4] + length + bytes([44]) + packet[7:40] + extension
            else:
                field = struct.pack(">HHH", 20 + end - start, *struct.unpack(">H", packet[4:6]), start >> 3 | more << 13)
                piece = filled(packet[:2] + field + packet[8:10] + b"\0\0" + packet[12:20], 10)
            pieces.append(piece + payload[start:end])
        return pieces


class Kernel:
    def __init__(self):
        subprocess.run(SETUP, shell=True, check=True)
        subprocess.run(["nft", "-f", "-"], input=rules(), text=True, check=True)
        self.ends = []
        for name in ("l1", "r1"):
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            end.bind((name, 3))
            self.ends.append(end)

    def send(self, side, packets):
        """The DSCP field of the packets as they leave on the other side; none if they do not."""
        macs = (INNER + HOSTS, OUTER + NEXT)[side]
        for packet in packets:
            ethertype = b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\0"
            self.ends[side].send(macs + ethertype + packet)
        # The kernel may cut a datagram otherwise than it came.
        return self.leaves(1 - side, name(packets[0]))

    def leaves(self, side, wanted):
        end = self.ends[side]
        until = time.monotonic() + 0.5
        while (wait := until - time.monotonic()) > 0:
            end.settimeout(wait)
            try:
                frame, address = end.recvfrom(70000)
            except TimeoutError:
                return None
            packet = frame[14:]
            ours = address[2] != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\0", b"\x86\xdd")
            if ours and name(packet) == wanted:
                return struct.unpack(">H", packet[:2])[0] >> (6 if packet[0] >> 4 == 6 else 2) & 63
        return None


def name(packet):
    """IPv4 identification or IPv6 flow label."""
    if packet[0] >> 4 == 6:
        return 6, struct.unpack(">I", packet[:4])[0] & 0xFFFFF
    return 4, struct.unpack(">H", packet[4:6])[0]


def tcp_by_hand(p):
    """Each case is a list of (side, packet)."""
    opening = [
        (0, p.tcp(0, SYN, 100, 0)),
        (1, p.tcp(1, SYN | ACK, 500, 101)),
        (0, p.tcp(0, ACK, 101, 501)),
    ]
    used = opening + [(0, p.tcp(0, ACK | PSH, 101, 501, 10)), (1, p.tcp(1, ACK, 501, 111))]
    closed = used + [
        (0, p.tcp(0, FIN | ACK, 111, 501)),
        (1, p.tcp(1, ACK, 501, 112)),
        (1, p.tcp(1, FIN | ACK, 501, 112)),
        (0, p.tcp(0, ACK, 112, 502)),
    ]
    yield "closes", closed + [(1, p.tcp(1, FIN | ACK, 501, 112)), (0, p.tcp(0, ACK, 112, 502))]
    yield "reopens", closed + [(0, p.tcp(0, SYN, 50000, 0)), (1, p.tcp(1, SYN | ACK, 900, 50001))]
    yield "reopens from the server", closed + [(1, p.tcp(1, SYN, 50000, 0)), (0, p.tcp(0, SYN | ACK, 900, 50001))]
    yield "simultaneous open", [
        (0, p.tcp(0, SYN, 100, 0)),
        (1, p.tcp(1, SYN, 500, 0)),
        (0, p.tcp(0, SYN | ACK, 100, 501)),
        (1, p.tcp(1, SYN | ACK, 500, 101)),
        (1, p.tcp(1, ACK, 501, 101)),
        (0, p.tcp(0, ACK | PSH, 101, 501, 5)),
    ]
    yield "resets", used + [
        (0, p.tcp(0, RST, 90, 0)),
        (0, p.tcp(0, RST, 300, 0)),
        (1, p.tcp(1, ACK, 501, 111)),
        (0, p.tcp(0, RST, 111, 0)),
        (0, p.tcp(0, SYN, 7000, 0)),
    ]
    yield "refused", [(0, p.tcp(0, SYN, 100, 0)), (1, p.tcp(1, RST | ACK, 0, 101)), (0, p.tcp(0, SYN, 200, 0))]
    yield "out of step", used + [
        (0, p.tcp(0, SYN, 90000, 0, options=OPTIONS)),
        (1, p.tcp(1, SYN | ACK, 70000, 90001, options=OPTIONS)),
        (0, p.tcp(0, ACK, 90001, 70001)),
        (1, p.tcp(1, ACK | PSH, 70001, 90001, 500)),
    ]
    yield "half open", [
        (0, p.tcp(0, SYN, 100, 0)),
        (1, p.tcp(1, ACK, 800, 55)),
        (0, p.tcp(0, RST, 55, 0)),
        (0, p.tcp(0, SYN, 100, 0)),
        (1, p.tcp(1, SYN | ACK, 500, 101)),
    ]
    yield "challenge in last ack", used + [
        (0, p.tcp(0, FIN | ACK, 111, 501)),
        (1, p.tcp(1, FIN | ACK, 501, 112)),
        (0, p.tcp(0, SYN, 50000, 0)),
        (1, p.tcp(1, ACK, 502, 112)),
        (0, p.tcp(0, ACK, 112, 502)),
        (0, p.tcp(0, SYN, 60000, 0)),
    ]
    yield "above the window", opening + [
        (0, p.tcp(0, ACK, 101, 501, 1000)),
        (0, p.tcp(0, ACK, 1200, 501, 500)),
        (1, p.tcp(1, ACK, 501, 1700)),
        (0, p.tcp(0, ACK, 90000, 501, 10)),
        (1, p.tcp(1, ACK, 501, 90000)),
    ]
    yield "picked up", [
        (1, p.tcp(1, ACK, 7000, 9000, 100)),
        (0, p.tcp(0, ACK, 9000, 7100)),
        (1, p.tcp(1, ACK, 900000, 9000, 100)),
        (0, p.tcp(0, ACK, 9000, 7100, 1000)),
    ]
    for flags in range(64):
        yield f"flags {flags:#x}", [(0, p.tcp(0, flags, 100, 200)), (1, p.tcp(1, SYN | ACK, 200, 101))]
    yield "wrong checksum", [(0, p.tcp(0, SYN, 100, 0, damage=64)), (0, p.tcp(0, SYN, 100, 0))]


def other_by_hand(p):
    ask, answer = p.udp(0), p.udp(1)
    yield "udp", [(0, ask), (0, p.udp(0)), (1, answer), (0, p.udp(0)), (1, p.udp(1, ports=(5001, 53)))]
    yield "udp without checksum", [(0, p.udp(0, none=True)), (1, p.udp(1, damage=1)), (1, p.udp(1))]
    yield "udp errors", [
        (1, p.error(1, p.udp(0, ports=(9, 9)))),
        (0, ask),
        (1, p.error(1, ask)),
        (0, p.udp(0)),
        (1, answer),
        (0, p.error(0, answer)),
        (1, p.error(1, ask, size=4)),
        (1, p.error(1, ask, size=3)),
        (1, p.error(1, ask, damage=1)),
        (0, p.error(0, ask)),
    ]
    yield "echo", [
        (1, p.echo(1, True, 7)),
        (0, p.echo(0, False, 7)),
        (1, p.echo(1, True, 8)),
        (1, p.echo(1, True, 7)),
        (0, p.echo(0, False, 7)),
        (1, p.echo(1, False, 7)),
        (1, p.echo(1, True, 7, damage=1)),
        (1, p.error(1, p.echo(0, False, 7), kind=(3, 0) if p.six else (11, 0))),
    ]
    # The kernel answers some of the others itself, or does not forward them.
    for kind in (100, 127, 128, 129, 139, 140, 200) if p.six else (0, 8, 13, 14, 15, 16, 17, 18, 30, 40):
        yield f"icmp {kind}", [(0, p.icmp(0, kind, 0, 7 << 16, bytes(12)))]
    yield "gre", [(0, p.ip(0, 50, bytes(16))), (1, p.ip(1, 50, bytes(16))), (0, p.ip(0, 51, bytes(16)))]
    long = p.udp(0, 3000)
    yield "fragments", [(0, p.fragments(long, 1400, 2800)), (1, p.udp(1)), (0, p.fragments(p.udp(0, 100), 48)[::-1])]


def at_random(chance, p):
    """Two ends that mostly do what TCP does, and an onlooker who does not."""
    numbers = [chance.choice([0, 2**32 - 3000, chance.randrange(2**32)]) for _ in (0, 1)]
    at, sent = list(numbers), []
    options = [chance.choice([b"", OPTIONS, bytes([1, 3, 3, chance.randrange(16)])]) for _ in (0, 1)]
    for _ in range(50):
        side = chance.randrange(2)
        kinds = [ACK] * 10 + [ACK | PSH] * 6 + [SYN] * 2 + [SYN | ACK] * 2 + [FIN | ACK] * 2
        flags = chance.choice(kinds + [RST, RST | ACK, SYN | FIN, 0, FIN])
        if len(sent) < 3 and chance.random() < 0.85:
            side, flags = [(0, SYN), (1, SYN | ACK), (0, ACK)][len(sent)]
        size = chance.choice([0, 0, 1, 10, 100, 1000]) if not flags & (SYN | RST) else 0
        slip = [0] * 12 + [1, -1, 100, -100, 1000, -1000, 5000, 70000, -70000, 2**31]
        seq, ack = at[side] + chance.choice(slip), at[1 - side] + chance.choice(slip)
        if flags & RST and chance.random() < 0.2:
            seq, ack = chance.choice([(0, ack), (seq, 0)])
        extra = options[side] if flags & SYN else b""
        if not flags & SYN and chance.random() < 0.2:
            extra = struct.pack(">BBBBII", 1, 1, 5, 10, (ack + 10) % 2**32, (ack + chance.choice([20, 500, 9000])) % 2**32)
        window = chance.choice([0, 1, 500, 1000, 65535])
        packet = p.tcp(side, flags, seq, ack, size, window, extra)
        if flags & (SYN | FIN | ACK) and abs(seq - at[side]) <= 1000:
            at[side] = max(at[side], seq + size + bool(flags & SYN) + bool(flags & FIN))
        if sent and chance.random() < 0.08:
            way, about = chance.choice(sent)
            yield 1 - way, p.error(1 - way, about)
        sent.append((side, packet))
        yield side, packet
        if chance.random() < 0.05:
            yield chance.choice(sent)


def others_at_random(chance, p):
    """Datagrams, echoes, errors and fragments between two ends and from onlookers."""
    sent = []
    for _ in range(30):
        side = chance.randrange(2)
        damage = chance.random() < 0.05
        ports = chance.choice([(5000, 53), (5000, 54), (5001, 53), (7, 7)])
        what = chance.choice(["udp", "udp", "echo", "echo", "error", "error", "other", "fragments"])
        if what == "udp":
            packet = p.udp(side, chance.choice([0, 1, 4, 500]) + damage, ports, damage, chance.random() < 0.1)
        elif what == "echo":
            packet = p.echo(side, chance.random() < 0.5, chance.randrange(3), damage=damage)
        elif what == "error" and sent:
            way, about = chance.choice(sent)
            side = 1 - way if chance.random() < 0.8 else way
            packet = p.error(side, about, size=chance.choice([2, 4, 7, 8, 12, 40]), damage=damage)
        elif what == "fragments":
            edges = sorted(chance.sample(range(8, 400, 8), chance.randrange(1, 4)))
            pieces = p.fragments(p.udp(side, 400, ports), *edges)
            chance.shuffle(pieces)
            yield side, pieces
            continue
        else:
            packet = p.ip(side, chance.choice([47, 50, 115]), bytes(16))
        # An error about an error says nothing of a connection.
        sent.append((side, packet))
        yield side, packet


def scenarios():
    number = 0
    for six in (False, True):
        for by_hand in (tcp_by_hand, other_by_hand):
            for i in range(len(list(by_hand(Place(0, six))))):
                number += 1
                yield list(by_hand(Place(number, six)))[i]
    chance = random.Random(SEED)
    for i in range(SCENARIOS):
        number += 1
        kind = others_at_random if i % 5 == 4 else at_random
        yield f"random {i}", list(kind(chance, Place(number, i % 2 == 1)))


def main():
    kernel = Kernel()
    for title, packets in scenarios():
        print(f"# {title}")
        for side, sent in packets:
            sent = sent if isinstance(sent, list) else [sent]
            code = kernel.send(side, sent)
            if code is None or not 0 < code <= 4 * len(STATES):
                print(f"the kernel did not pass on {[s.hex() for s in sent]}", file=sys.stderr)
                sys.exit(1)
            state, rest = divmod(code - 1, 4)
            tracked = state < 3
            direction = ("reply" if rest & 2 else "original") if tracked else "-"
            ethertype = "86dd" if sent[0][0] >> 4 == 6 else "0800"
            frames = [("020000000001020000000002" + ethertype + s.hex()) for s in sent]
            print(("left", "right")[side], STATES[state], direction, rest & 1, *frames)


main()
