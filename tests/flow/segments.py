"""Connections for what is watched for each segment. Both ends take what they do and the server's
address.

talk: 50 requests one after the other, then one of 300 kB, all answered before the client closes.
bulk: half a megabyte, answered. paths: the same over MPTCP, 3 MB, once the connection has as many
more paths as is said; then both ends say what the kernel says of it, and it stays open until a line
on the client's standard input. stop: the server reads nothing until a line on its standard input says
so; each line makes the client send until it is held back.
"""

import socket
import struct
import sys
import time

PORT, REQUEST, REPLY, BULK = 5030, 3000, 200, 300_000
END, WHAT, HOST = sys.argv[1:4]
MULTIPATH, SOL_MPTCP, MPTCP_INFO = 262, 284, 1


def take(connection, count):
    while count:
        count -= len(connection.recv(min(count, 1 << 16)))


def send_until_held(connection):
    still = time.monotonic()
    while time.monotonic() - still < 0.7:
        try:
            connection.send(b"x" * 4096)
            still = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)


def read_until_quiet(connection):
    connection.settimeout(0.4)
    try:
        while connection.recv(1 << 16):
            pass
    except TimeoutError:
        pass


def tell(connection):
    # struct mptcp_info of include/uapi/linux/mptcp.h
    info = connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 80)
    retransmitted, sent, received, _ = struct.unpack_from("4Q", info, 48)
    (token,) = struct.unpack_from("I", info, 12)
    print("info", info[0], token, sent, received, retransmitted, flush=True)


def serve(connection):
    if WHAT == "stop":
        for _ in sys.stdin:
            read_until_quiet(connection)
            print("read", flush=True)
        connection.settimeout(20)
        assert connection.recv(1) == b""
        return
    if WHAT == "talk":
        for _ in range(50):
            take(connection, REQUEST)
            connection.sendall(b"y" * REPLY)
    take(connection, {"talk": BULK, "bulk": 500_000, "paths": 3_000_000}[WHAT])
    connection.sendall(b"y" * REPLY)
    assert connection.recv(1) == b""
    if WHAT == "paths":
        tell(connection)


def ask(connection):
    if WHAT == "stop":
        connection.setblocking(False)
        for _ in sys.stdin:
            send_until_held(connection)
            print("held", flush=True)
        return
    if WHAT == "talk":
        for _ in range(50):
            connection.sendall(b"x" * REQUEST)
            take(connection, REPLY)
        connection.sendall(b"x" * BULK)
    elif WHAT == "bulk":
        connection.sendall(b"x" * 500_000)
    else:
        connection.sendall(b"x" * 100_000)
        for _ in range(500):
            if connection.getsockopt(SOL_MPTCP, MPTCP_INFO, 64)[0] >= int(sys.argv[4]):
                break
            time.sleep(0.01)
        connection.sendall(b"x" * 2_900_000)
    take(connection, REPLY)
    if WHAT == "paths":
        tell(connection)
        sys.stdin.readline()


protocol = MULTIPATH if WHAT == "paths" else 0
with socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol) as s:
    if END == "server":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if WHAT == "stop":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        s.bind(("0.0.0.0", PORT))
        s.listen(8)
        print("ready", flush=True)
        with s.accept()[0] as connection:
            serve(connection)
    else:
        if WHAT == "stop":
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        s.connect((HOST, PORT))
        ask(s)
