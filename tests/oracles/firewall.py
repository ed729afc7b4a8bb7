"""Sends the same packets through the kernel's nftables and through `plumb firewall`.

Usage, in a network namespace of its own: firewall.py PLUMB SEED PACKETS RULES...

Both load the same rules, and must make the same of every packet: let it pass unchanged, drop it,
or answer it. What a router changes and a wire does not is set aside: Ethernet addresses, TTL, and
who speaks in an ICMP error. The last line says how many packets were the same, and how many passed,
were dropped and were answered.
"""

import os
import random
import select
import socket
import struct
import subprocess
import sys
import time

PLUMB, SEED, PACKETS, RULES = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
HOSTS = 60
# MAC addresses: those on the left, the kernel towards them, the kernel to the right, those there.
LEFT, INNER, OUTER, RIGHT = (b"\2\0\0\0\0" + bytes([n]) for n in (0xA1, 0xA0, 0xB0, 0xB1))
SETUP = """
set -e
ip link add left type veth peer name l1
ip link add right type veth peer name r1
for i in left l1 right r1; do
    ethtool -K $i tx off rx off gso off gro off tso off >/dev/null
done
for i in l1 r1; do sysctl -qw net.ipv6.conf.$i.disable_ipv6=1; done
sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
sysctl -qw net.ipv6.conf.left.accept_dad=0 net.ipv6.conf.right.accept_dad=0
ip link set left address 02:00:00:00:00:a0
ip link set right address 02:00:00:00:00:b0
ip addr add 10.0.0.1/24 dev left
ip addr add 203.0.113.1/24 dev right
for i in lo left l1 right r1; do ip link set $i up; done
ip addr add fd00:1::1/64 dev left nodad
ip addr add 2001:db8::1/64 dev right nodad
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=0
sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0
sysctl -qw net.ipv4.icmp_msgs_per_sec=1000000 net.ipv4.icmp_msgs_burst=1000000 || true
sysctl -qw net.ipv4.conf.all.send_redirects=0
"""


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pack(address):
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def packet(src, dst, protocol, payload, number, ttl=64, tos=0, frag=0):
    """The packet with this number in its identification or flow label, and its EtherType."""
    src, dst = pack(src), pack(dst)
    at = {6: 16, 17: 6, 1: 2, 58: 2}[protocol]
    covered = b"" if protocol == 1 else src + dst + struct.pack(">II", len(payload), protocol)
    value = checksum(covered + payload) or 0xFFFF
    payload = payload[:at] + struct.pack(">H", value) + payload[at + 2 :]
    if len(src) == 4:
        header = struct.pack(">BBHHHBBH", 0x45, tos, 20 + len(payload), number, frag, ttl, protocol, 0)
        header += src + dst
        header = header[:10] + struct.pack(">H", checksum(header)) + header[12:]
        return b"\x08\0", header + payload
    first = 6 << 28 | tos << 20 | number
    return b"\x86\xdd", struct.pack(">IHBB", first, len(payload), protocol, ttl) + src + dst + payload


class Traffic:
    """Packets that try what the rules distinguish, and connections that go both ways."""

    def __init__(self, rng):
        self.rng, self.number, self.open = rng, 0, []

    def host(self, side, v6):
        n = self.rng.choice([2, 2, 3, 9, 16, 17, 20, 33, self.rng.randrange(2, 62)])
        if side == "left":
            return f"fd00:1::{n:x}" if v6 else f"10.0.0.{n}"
        n = self.rng.choice([9, 64, 80, 96, 100, 130, 200, self.rng.randrange(2, 250)])
        return f"2001:db8::{n:x}" if v6 else f"203.0.113.{n}"

    def port(self):
        some = [1, 2, 3, 4, 5, 6, 7, 22, 22, 23, 24, 25, 53, 80, 80, 81, 113, 114, 123, 443, 443]
        some += [26, 27, 28, 500, 550, 777, 900, 901, 902, 99, 120, 1000, 8050, 60500]
        return self.rng.choice(some + [self.rng.randrange(1, 65536)])

    def next(self):
        rng = self.rng
        self.number += 1
        n = self.number
        if self.open and rng.random() < 0.5:
            flow = rng.choice(self.open)
        else:
            side, v6 = rng.choice(["left", "left", "right"]), rng.random() < 0.4
            other = "right" if side == "left" else "left"
            flow = dict(side=side, v6=v6, a=self.host(side, v6), b=self.host(other, v6), step=0)
            flow.update(kind=rng.choice(["tcp", "tcp", "udp", "udp", "icmp", "odd"]), dport=self.port())
            flow.update(sport=rng.choice([5000, 1500, rng.randrange(1024, 60000)]), seq=n << 8)
            if flow["kind"] in ("tcp", "udp") and rng.random() < 0.6:
                self.open.append(flow)
        made = getattr(self, flow["kind"])(flow, n)
        flow["step"] += 1
        if flow["step"] > 5 and flow in self.open:
            self.open.remove(flow)
        return made

    def ends(self, flow, back):
        a, b = (flow["b"], flow["a"]) if back else (flow["a"], flow["b"])
        side = flow["side"]
        if back:
            side = "right" if side == "left" else "left"
        return side, a, b

    def header(self):
        rng = self.rng
        header = {"ttl": rng.choice([64, 64, 64, 5, 11, 20])}
        header["tos"] = rng.choice([0, 0, 0, 0x20, 0x28, 0xB8, 3, 1])
        return header

    def tcp(self, flow, n):
        step = flow["step"]
        back = step in (1, 4)
        side, a, b = self.ends(flow, back)
        flags = [2, 18, 16, 24, 16, 17][min(step, 5)]
        seq = flow["seq"] + (step > 0) if not back else flow["seq"] + 0x10000 + (step > 1)
        ack = 0 if step == 0 else (flow["seq"] + 1 if back else flow["seq"] + 0x10001)
        ports = (flow["dport"], flow["sport"]) if back else (flow["sport"], flow["dport"])
        window = self.rng.choice([9000, 150])
        payload = struct.pack(">HHIIBBHHH", *ports, seq, ack, 0x50, flags, window, 0, 0)
        header = self.header() if step == 0 else {}
        return (side, *packet(a, b, 6, payload, n, **header))

    def udp(self, flow, n):
        back = flow["step"] % 2 == 1
        side, a, b = self.ends(flow, back)
        ports = (flow["dport"], flow["sport"]) if back else (flow["sport"], flow["dport"])
        data = b"x" * self.rng.choice([1, 20, 32, 272, 600, 1100])
        payload = struct.pack(">HHHH", *ports, 8 + len(data), 0) + data
        header = self.header()
        if not flow["v6"]:
            header["frag"] = self.rng.choice([0, 0x4000])
        return (side, *packet(a, b, 17, payload, n, **header))

    def icmp(self, flow, n):
        side, a, b = self.ends(flow, False)
        kinds = [128, 128, 129, 2] if flow["v6"] else [8, 8, 13, 0, 3]
        kind = self.rng.choice(kinds)
        ident = self.rng.choice([5, n])
        payload = struct.pack(">BBHHH", kind, 0, 0, ident, self.rng.choice([1, 2, 3]))
        if kind in (2, 3):
            # An error about a packet that came from where it goes.
            quoted = struct.pack(">HHHH", 5000, 5001, 8, 0)
            known = [f for f in self.open if f["kind"] == "udp" and f["v6"] == flow["v6"]]
            if known:
                known = self.rng.choice(known)
                side, b, a = self.ends(known, False)
                side = "right" if side == "left" else "left"
                quoted = struct.pack(">HHHH", known["sport"], known["dport"], 8, 0)
            payload = payload[:4] + struct.pack(">I", 1400) + packet(b, a, 17, quoted, n)[1]
        return (side, *packet(a, b, 58 if flow["v6"] else 1, payload, n))

    def odd(self, flow, n):
        side, a, b = self.ends(flow, False)
        flags = self.rng.choice([0, 1, 3, 4, 16, 18, 20, 0x28, 0x29, 0x3F, 2])
        ports = self.rng.choice([1, 2, 3, 4, 5, flow["sport"]]), flow["dport"]
        payload = struct.pack(">HHIIBBHHH", *ports, n << 8, n, 0x50, flags, 150, 0, 0)
        return (side, *packet(a, b, 6, payload, n, **self.header()))


def number_of(ethertype, data):
    """Which packet this is, or answers, and what must be the same about it."""
    v6 = ethertype == b"\x86\xdd"
    if len(data) < (48 if v6 else 28):
        return None, None
    if not v6:
        data = data[: struct.unpack_from(">H", data, 2)[0]]
    start, protocol, ttl = (40, data[6], 7) if v6 else ((data[0] & 15) * 4, data[9], 8)

    def plain(packet):
        """Without TTL, and the checksum that covers it."""
        packet = bytearray(packet)
        packet[ttl] = 0
        if not v6:
            packet[10:12] = b"\0\0"
        return bytes(packet)

    if v6 and data[8:10] == b"\xfe\x80":
        # The kernel's own.
        return None, None

    def label(at):
        if v6:
            return struct.unpack_from(">I", data, at)[0] & 0xFFFFF
        return struct.unpack_from(">H", data, at + 4)[0]

    kind = data[start]
    is_error = protocol == (58 if v6 else 1) and kind == (1 if v6 else 3)
    # Errors that were sent quote what is numbered, too, and pass under that number.
    if is_error and len(data) >= start + 28:
        return "answer", (label(start + 8), data[start : start + 2], plain(data[start + 8 :]))
    if protocol == 6 and len(data) >= start + 20 and data[start + 13] & 4 and data[start + 14 : start + 16] == b"\0\0":
        addresses = data[8:40] if v6 else data[12:20]
        return "reset", (addresses, data[start : start + 14])
    return "packet", (label(0), plain(data))


class Kernel:
    def __init__(self):
        subprocess.run(SETUP, shell=True, check=True)
        neighbours = []
        for n in range(2, 254):
            neighbours += [f"neigh add 10.0.0.{n} lladdr 02:00:00:00:00:a1 dev left nud permanent"]
            neighbours += [f"neigh add 203.0.113.{n} lladdr 02:00:00:00:00:b1 dev right nud permanent"]
            neighbours += [f"neigh add fd00:1::{n:x} lladdr 02:00:00:00:00:a1 dev left nud permanent"]
            neighbours += [f"neigh add 2001:db8::{n:x} lladdr 02:00:00:00:00:b1 dev right nud permanent"]
        subprocess.run(["ip", "-batch", "-"], input="\n".join(neighbours).encode(), check=True)
        self.ends = {}
        for side, name in (("left", "l1"), ("right", "r1")):
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
            end.bind((name, 0))
            self.ends[side] = end

    def run(self, rules, packets):
        subprocess.run(["nft", "-f", rules], check=True)
        # No connection that the rules before have let through is known any more.
        subprocess.run(["conntrack", "-F"], check=True, stderr=subprocess.DEVNULL)
        seen = []
        self.receive([])
        for side, ethertype, data in packets:
            macs = INNER + LEFT if side == "left" else OUTER + RIGHT
            self.ends[side].send(macs + ethertype + data)
            self.receive(seen)
        until = time.monotonic() + 0.5
        while (wait := until - time.monotonic()) > 0:
            select.select(list(self.ends.values()), [], [], wait)
            self.receive(seen)
        return seen

    def receive(self, into):
        for side, end in self.ends.items():
            while select.select([end], [], [], 0)[0]:
                frame, address = end.recvfrom(70000)
                if address[2] != socket.PACKET_OUTGOING and frame[12:14] in (b"\x08\0", b"\x86\xdd"):
                    into.append((side, frame[12:14], frame[14:]))


def block(kind, body):
    body += b"\0" * (-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def interface(name):
    options = struct.pack("<HH", 2, len(name)) + name + b"\0" * (-len(name) % 4)
    options += struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    return block(1, struct.pack("<HHI", 1, 0, 262144) + options)


def plumb(rules, packets, *options):
    capture = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    capture += interface(b"left") + interface(b"right")
    for number, (side, ethertype, data) in enumerate(packets):
        frame = (INNER + LEFT if side == "left" else OUTER + RIGHT) + ethertype + data
        # Within the two seconds before a UDP flow counts as a stream, as through the kernel; but
        # far enough apart that refusals are not too many.
        apart = 20_000_000 if "reject" in os.path.basename(rules) else 1_000_000
        stamp, port = number * apart, int(side == "right")
        capture += block(6, struct.pack("<IIIII", port, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), len(frame)) + frame)
    command = [PLUMB, "firewall", "--offline", *options, rules]
    done = subprocess.run(command, input=capture, stdout=subprocess.PIPE, check=True)
    seen, at = [], 0
    while at < len(done.stdout):
        kind, length = struct.unpack_from("<II", done.stdout, at)
        if kind == 6:
            port, _, _, captured = struct.unpack_from("<IIII", done.stdout, at + 8)
            frame = done.stdout[at + 28 : at + 28 + captured]
            seen.append((["left", "right"][port], frame[12:14], frame[14:]))
        at += length
    return seen


def main():
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    kernel, failed = Kernel(), 0
    for rules in RULES:
        traffic = Traffic(random.Random(f"{SEED} {os.path.basename(rules)}"))
        packets = [traffic.next() for _ in range(PACKETS)]
        sent = {}
        for side, ethertype, data in packets:
            sent[number_of(ethertype, data)] = data
        outcomes = []
        for seen in (kernel.run(rules, packets), plumb(rules, packets)):
            outcomes.append(sorted((side, *map(repr, number_of(e, d))) for side, e, d in seen if number_of(e, d)[0]))
        theirs, ours = outcomes
        kinds = {kind: sum(1 for o in theirs if o[1] == repr(kind)) for kind in ("packet", "answer", "reset")}
        name = os.path.basename(rules)
        print(f"{name}: {len(packets)} packets, passed {kinds['packet']}, answers {kinds['answer']}, resets {kinds['reset']}")
        for which, ones, others in (("kernel", theirs, ours), ("plumb", ours, theirs)):
            others = set(others)
            for one in [o for o in ones if o not in others][:5]:
                print("only", which, *one)
                failed += 1
    print("different" if failed else "same")


main()
