"""Sends the same packets through the kernel's masquerading and through `plumb nat`.

Usage, in a network namespace of its own: nat_masquerade.py PLUMB SEED

Both must make the same packets of them, but for the outside ports (and identifiers), which each
chooses; the checksums that depend on those are checked instead. The last line says how many
packets were the same, and how many were not.
"""

import os
import random
import socket
import struct
import subprocess
import sys
import time

PLUMB, SEED = sys.argv[1], int(sys.argv[2])
OUTSIDE, REMOTE, ROUTER = "198.51.100.1", "203.0.113.9", "192.0.2.7"
# MAC addresses: the hosts inside, the kernel towards them, the kernel outwards, the next hop.
HOSTS, INNER, OUTER, NEXT = (b"\2\0\0\0\0" + bytes([n]) for n in (0xA1, 0xA0, 0xB0, 0xB1))
SETUP = """
set -e
ip link add l0 type veth peer name l1
ip link add r0 type veth peer name r1
for i in l0 l1 r0 r1; do
    ethtool -K $i tx off rx off >/dev/null
    sysctl -qw net.ipv6.conf.$i.disable_ipv6=1
done
ip link set l0 address 02:00:00:00:00:a0
ip link set r0 address 02:00:00:00:00:b0
ip addr add 10.0.0.1/24 dev l0
ip addr add 198.51.100.1/24 dev r0
for i in lo l0 l1 r0 r1; do ip link set $i up; done
ip route add default via 198.51.100.254 dev r0
ip neigh add 198.51.100.254 lladdr 02:00:00:00:00:b1 dev r0 nud permanent
ip neigh add 10.0.0.2 lladdr 02:00:00:00:00:a1 dev l0 nud permanent
ip neigh add 10.0.0.3 lladdr 02:00:00:00:00:a1 dev l0 nud permanent
sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.icmp_ratelimit=0
nft -f - <<RULES
table ip nat {
    chain post {
        type nat hook postrouting priority 100
        oifname "r0" masquerade fully-random
    }
}
RULES
"""


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def filled(data, at, covered=b""):
    """The data with the checksum at a place, over what else it covers too."""
    value = checksum(covered + data)
    return data[:at] + struct.pack(">H", value or 0xFFFF) + data[at + 2 :]


def ip(src, dst, protocol, payload, ident=7, ttl=64, tos=0, options=b""):
    first, length = 0x45 + len(options) // 4, 20 + len(options) + len(payload)
    header = struct.pack(">BBHHHBBH", first, tos, length, ident, 0, ttl, protocol, 0)
    header += socket.inet_aton(src) + socket.inet_aton(dst) + options
    return filled(header, 10) + payload


def pseudo(src, dst, protocol, length):
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">HH", protocol, length)


def udp(src, sport, dst, dport, data=b"hi", no_checksum=False, **header):
    payload = struct.pack(">HHHH", sport, dport, 8 + len(data), 0) + data
    if not no_checksum:
        payload = filled(payload, 6, pseudo(src, dst, 17, len(payload)))
    return ip(src, dst, 17, payload, **header)


def tcp(src, sport, dst, dport, flags, seq, ack=0, data=b""):
    payload = struct.pack(">HHIIBBHHH", sport, dport, seq, ack, 0x50, flags, 9000, 0, 0) + data
    return ip(src, dst, 6, filled(payload, 16, pseudo(src, dst, 6, len(payload))))


def echo(src, dst, kind, ident, data):
    return ip(src, dst, 1, filled(struct.pack(">BBHHH", kind, 0, 0, ident, 1) + data, 2))


def error(src, dst, kind, code, quote, rest=0):
    return ip(src, dst, 1, filled(struct.pack(">BBHI", kind, code, 0, rest) + quote, 2))


class Kernel:
    def __init__(self):
        subprocess.run(SETUP, shell=True, check=True)
        self.ends = {}
        for side, name in (("left", "l1"), ("right", "r1")):
            end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x800))
            end.bind((name, 0x800))
            self.ends[side] = end

    def send(self, side, packet):
        """What leaves on the other side, if anything does within 0.3 s."""
        for end in self.ends.values():
            end.setblocking(False)
            try:
                while end.recv(70000):
                    pass
            except BlockingIOError:
                pass
        macs = INNER + HOSTS if side == "left" else OUTER + NEXT
        self.ends[side].send(macs + b"\x08\0" + packet)
        other = self.ends["right" if side == "left" else "left"]
        until = time.monotonic() + 0.3
        while (wait := until - time.monotonic()) > 0:
            other.settimeout(wait)
            try:
                frame, address = other.recvfrom(70000)
            except TimeoutError:
                return None
            if address[2] != socket.PACKET_OUTGOING:
                return frame[14:]
        return None


def block(kind, body):
    body += b"\0" * (-len(body) % 4)
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


def interface(name):
    options = struct.pack("<HH", 2, len(name)) + name + b"\0" * (-len(name) % 4)
    options += struct.pack("<HHB3xHH", 9, 1, 9, 0, 0)
    return block(1, struct.pack("<HHI", 1, 0, 262144) + options)


class Plumb:
    """Plays the whole history again for each packet, as the same input gives the same output."""

    def __init__(self):
        self.history = []

    def send(self, side, packet):
        self.history.append((side, packet))
        capture = block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
        capture += interface(b"left") + interface(b"right")
        for number, (side, packet) in enumerate(self.history):
            frame = (INNER + HOSTS if side == "left" else OUTER + NEXT) + b"\x08\0" + packet
            stamp, length, port = number * 1000, len(frame), int(side == "right")
            capture += block(6, struct.pack("<IIIII", port, 0, stamp, length, length) + frame)
        command = [PLUMB, "nat", "--offline", "--outside", OUTSIDE, "--decrement-ttl"]
        done = subprocess.run(command, input=capture, stdout=subprocess.PIPE, check=True)
        sent, at = None, 0
        while at < len(done.stdout):
            kind, length = struct.unpack_from("<II", done.stdout, at)
            if kind == 6:
                _, low, captured = struct.unpack_from("<III", done.stdout, at + 12)
                if low == stamp:
                    sent = done.stdout[at + 42 : at + 28 + captured]
            at += length
        return sent


CHECKSUM_AT = {1: 2, 6: 16, 17: 6}


def chosen(packet):
    """The outside port or identifier of a packet that left."""
    if packet is None:
        return None
    at = (packet[0] & 15) * 4 + (4 if packet[9] == 1 else 0)
    return struct.unpack_from(">H", packet, at)[0]


def comparable(packet, port):
    """The packet with the outside port taken out, and the checksums that depend on it."""
    if packet is None:
        return None
    packet = bytearray(packet[: struct.unpack_from(">H", packet, 2)[0]])
    start, protocol = (packet[0] & 15) * 4, packet[9]
    assert checksum(bytes(packet[:start])) == 0, "IP checksum"

    def take_out(protocol, at):
        for place in (at + 4,) if protocol == 1 else (at, at + 2):
            if packet[place : place + 2] == struct.pack(">H", port):
                packet[place : place + 2] = b"\0\0"

    whole = bytes(packet[start:])
    if protocol == 1 and whole[0] in (3, 11, 12):
        assert checksum(whole) == 0, "checksum of the error"
        quote = start + 8
        inner = quote + (packet[quote] & 15) * 4
        assert checksum(bytes(packet[quote:inner])) == 0, "quoted IP checksum"
        take_out(packet[quote + 9], inner)
        at = inner + CHECKSUM_AT[packet[quote + 9]]
        if at + 2 <= len(packet):
            packet[at : at + 2] = b"\0\0"
    else:
        at = start + CHECKSUM_AT[protocol]
        if protocol != 17 or packet[at : at + 2] != b"\0\0":
            covered = bytes(packet[12:20]) + struct.pack(">HH", protocol, len(whole))
            assert checksum((b"" if protocol == 1 else covered) + whole) == 0, "checksum"
            packet[at : at + 2] = b"\1\1"
        take_out(protocol, start)
        return bytes(packet)
    packet[start + 2 : start + 4] = b"\0\0"
    return bytes(packet)


def main():
    kernel, plumb = Kernel(), Plumb()
    random.seed(SEED)
    counts = {True: 0, False: 0}

    def both(name, side, make, ports=None):
        """Sends what `make` makes of each one's outside port; returns the ports chosen."""
        ports = ports or (None, None)
        sent = [nat.send(side, make(port)) for nat, port in zip((kernel, plumb), ports)]
        ports = [port or chosen(packet) for port, packet in zip(ports, sent)]
        seen = [comparable(packet, port) for packet, port in zip(sent, ports)]
        same = seen[0] == seen[1]
        counts[same] += 1
        if not same:
            print(name, *(packet and packet.hex() for packet in seen), sep="\n  ")
        return ports

    for number in range(8):
        host = random.choice(["10.0.0.2", "10.0.0.3"])
        sport, dport = random.randrange(1024, 60000), random.randrange(1, 60000)
        data, none = os.urandom(random.randrange(60)), number % 4 == 3
        header = {"ttl": random.randrange(2, 255), "ident": random.randrange(1, 65535)}
        header |= {"tos": random.choice([0, 0xB8]), "options": random.choice([b"", b"\1\1\1\0"])}
        ports = both("UDP out", "left", lambda _: udp(host, sport, REMOTE, dport, data, none, **header))
        both("UDP in", "right", lambda p: udp(REMOTE, dport, OUTSIDE, p, data), ports)
        for kind, code, rest in ((3, 1, 0), (3, 4, 1400), (11, 0, 0)):
            cut = random.choice([28, 32, 200])
            quote = lambda p: udp(OUTSIDE, p, REMOTE, dport, data, none)[:cut]
            both("error in", "right", lambda p: error(ROUTER, OUTSIDE, kind, code, quote(p), rest), ports)
        quote = udp(REMOTE, dport, host, sport, data)
        both("error out", "left", lambda _: error(host, REMOTE, 3, 3, quote), ports)
        both("UDP of a stranger", "right", lambda p: udp(REMOTE, dport + 1, OUTSIDE, p), ports)

        ports = both("SYN", "left", lambda _: tcp(host, sport, REMOTE, dport, 2, 100))
        both("SYN ACK", "right", lambda p: tcp(REMOTE, dport, OUTSIDE, p, 18, 500, 101), ports)
        both("data", "left", lambda _: tcp(host, sport, REMOTE, dport, 16, 101, 501, data), ports)
        for cut in (28, 40, 99):
            quote = lambda p: tcp(OUTSIDE, p, REMOTE, dport, 16, 101, 501, data)[:cut]
            both("error about TCP", "right", lambda p: error(ROUTER, OUTSIDE, 3, 1, quote(p)), ports)
        both("RST", "left", lambda _: tcp(host, sport, REMOTE, dport, 4, 101 + len(data)), ports)

        ident = random.randrange(1, 65535)
        ports = both("echo", "left", lambda _: echo(host, REMOTE, 8, ident, data))
        both("echo reply", "right", lambda p: echo(REMOTE, OUTSIDE, 0, p, data), ports)
        quote = lambda p: echo(OUTSIDE, REMOTE, 8, p, data)[:28]
        both("error about echo", "right", lambda p: error(ROUTER, OUTSIDE, 11, 0, quote(p)), ports)
    print(f"same {counts[True]} different {counts[False]}")


main()
