"""Connections of which every profile can be foretold; each has a port of its own.

server: listens on all of them and says "ready". client HOST: makes one after the other.
bulk HOST SIZE: sends so many bytes. hold HOST SIZE: the same, and ends when it is told to; each other
line makes it send 300 more. short HOST: makes many that carry a byte.
"""

import fcntl
import os
import socket
import struct
import sys
import termios
import threading
import time

CLEAN, SYN_LOST, TIMEOUT, FAST, ZERO_WINDOW = 5001, 5002, 5003, 5004, 5006
CLIENT_RESETS, SERVER_RESETS, UNREAD, REFUSED, UNREACHABLE = 5007, 5008, 5009, 5010, 5011
SILENT, GIVEN_UP, SHORT = 5012, 5013, 5014
REQUEST, REPLY = 10_000, 777
MANY = int(os.environ.get("MANY", "2000"))


def read_all(connection):
    count = 0
    while data := connection.recv(1 << 16):
        count += len(data)
    return count


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def answer(port, connection):
    with connection:
        if port == CLIENT_RESETS:
            connection.recv(1)
            connection.sendall(b"go")
            try:
                connection.recv(1)
            except ConnectionResetError:
                pass
        elif port == SERVER_RESETS:
            connection.recv(1)
            reset(connection)
        elif port == UNREAD:
            # Closing with data unread resets the other end.
            connection.recv(1)
        elif port == ZERO_WINDOW:
            # The client says on another connection when it has been held back long enough.
            HELD.wait(20)
            read_all(connection)
        elif port in (SHORT, TIMEOUT):
            connection.sendall(connection.recv(100))
        else:
            read_all(connection)
            connection.sendall(b"y" * REPLY)


HELD = threading.Event()


def listen(port):
    server = socket.socket(socket.AF_INET6)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if port == ZERO_WINDOW:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    server.bind(("::", port))
    server.listen(512)
    while True:
        connection, _ = server.accept()
        if port == SHORT:
            answer(port, connection)
        else:
            threading.Thread(target=answer, args=(port, connection)).start()


def serve():
    ports = [CLEAN, SYN_LOST, TIMEOUT, FAST, ZERO_WINDOW, CLIENT_RESETS, SERVER_RESETS, UNREAD]
    threads = [threading.Thread(target=listen, args=(port,), daemon=True) for port in [*ports, SHORT]]
    for thread in threads:
        thread.start()
    for port in [*ports, SHORT]:
        while True:
            probe = socket.socket(socket.AF_INET6)
            try:
                # Bound already: somebody listens.
                probe.bind(("::", port))
            except OSError:
                break
            finally:
                probe.close()
            time.sleep(0.01)
    time.sleep(0.05)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "held":
            HELD.set()
    # Without an input it serves until it is killed.
    threading.Event().wait(60)


def connect(host, port):
    while True:
        try:
            return socket.create_connection((host, port))
        except ConnectionRefusedError:
            # Somebody else starts the server.
            time.sleep(0.05)


def exchange(host, port, size):
    with connect(host, port) as connection:
        connection.sendall(b"x" * size)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == REPLY


def fails(host, port, *errors):
    try:
        socket.create_connection((host, port)).close()
    except errors:
        return
    raise SystemExit(f"port {port} should have failed")


def client(host):
    exchange(host, CLEAN, REQUEST)
    exchange(host, SYN_LOST, REQUEST)
    with socket.create_connection((host, TIMEOUT)) as connection:
        connection.sendall(b"x" * 100)
        assert read_all(connection) == 100
    exchange(host, FAST, 40_000)
    with socket.create_connection((host, CLIENT_RESETS)) as connection:
        connection.sendall(b"x")
        assert connection.recv(2) == b"go"
        reset(connection)
    with socket.create_connection((host, SERVER_RESETS)) as connection:
        connection.sendall(b"x")
        try:
            connection.recv(1)
        except ConnectionResetError:
            pass
    with socket.create_connection((host, UNREAD)) as connection:
        connection.sendall(b"x" * 100)
        try:
            connection.recv(1)
        except ConnectionResetError:
            pass
    fails(host, REFUSED, ConnectionRefusedError)
    fails(host, UNREACHABLE, OSError)
    fails(host, SILENT, TimeoutError)
    with socket.socket() as connection:
        connection.setblocking(False)
        connection.connect_ex((host, GIVEN_UP))
    with socket.create_connection((host, ZERO_WINDOW)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"x" * 3_000_000,))
        sender.start()
        time.sleep(1.5)
        print("held", flush=True)
        sender.join()
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    print("done", flush=True)


def hold(host, size):
    with connect(host, CLEAN) as connection:
        connection.sendall(b"x" * size)
        print("sent", flush=True)
        # How much is not acknowledged yet.
        while fcntl.ioctl(connection, termios.TIOCOUTQ, b"\0" * 4) != b"\0" * 4:
            time.sleep(0.01)
        print("acknowledged", flush=True)
        for line in sys.stdin:
            if line.strip() == "end":
                break
            connection.sendall(b"x" * 300)
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == REPLY
    print("done", flush=True)


def short(host):
    for _ in range(MANY):
        connection = socket.create_connection((host, SHORT))
        connection.sendall(b"x")
        assert connection.recv(1) == b"x"
        assert connection.recv(1) == b""
        connection.close()
    print("done", flush=True)


if sys.argv[1] == "server":
    serve()
elif sys.argv[1] == "client":
    client(sys.argv[2])
elif sys.argv[1] == "bulk":
    exchange(sys.argv[2], CLEAN, int(sys.argv[3]))
elif sys.argv[1] == "hold":
    hold(sys.argv[2], int(sys.argv[3]))
else:
    short(sys.argv[2])
