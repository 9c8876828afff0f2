"""The workloads W1 to W7: each loads one running server and returns what it measured as a dictionary."""

import os
import select
import socket
import ssl
import subprocess
import time

import measure
import place

SOURCE = place.RIVALS / "usr/sbin/smtp-source"


def source(server, *options):
    """Runs smtp-source against the server; CPU time of the server and wall time in seconds."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(place.RIVALS / "usr/lib/postfix"))
    command = [SOURCE, *options, "-f", "sender@example.net", "-t", "box@example.com", f"127.0.0.1:{server.port}"]
    before, began = server.cpu(), time.monotonic()
    subprocess.run(command, env=environment, check=True, timeout=900)
    return server.cpu() - before, time.monotonic() - began


def messages(server, count, *options):
    drops, had = measure.listen_drops(), server.delivered()
    cpu, wall = source(server, "-m", str(count), *options)
    result = {"cpu_ms": cpu / count * 1e3, "per_s": count / wall, "pss_mib": server.pss() / 1024,
              "drops": measure.listen_drops() - drops}
    if had is not None and server.delivered() - had != count:
        raise SystemExit(f"bench: {server.name} has {server.delivered() - had} of {count} messages")
    return result


def w1(server, scale):
    """A connection for each message: 20 at a time, 4 KiB each."""
    return messages(server, int(2000 * scale), "-s", "20", "-l", "4096")


def w2(server, scale):
    """20 sessions that are kept open, 4 KiB a message."""
    return messages(server, int(10000 * scale), "-s", "20", "-d", "-l", "4096")


def w3(server, scale):
    """Messages of 1 MB, 4 connections at a time."""
    return messages(server, max(4, int(100 * scale)), "-s", "4", "-l", "1000000")


def greet_all(port, count, within):
    """Opens `count` connections at once; those that are greeted in time, still open, and the seconds it took."""
    poll = select.epoll()
    open_ones, greeted = {}, []
    began = time.monotonic()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", port))
        open_ones[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN | select.EPOLLET)
    last = began
    while len(greeted) < count and time.monotonic() < began + within:
        for fileno, _ in poll.poll(0.2):
            sock = open_ones.pop(fileno, None)
            try:
                text = sock.recv(1000) if sock else b""
            except OSError:
                text = b""
            if text.startswith(b"220"):
                greeted.append(sock)
                last = time.monotonic()
            elif sock:
                sock.close()
    for sock in open_ones.values():
        sock.close()
    poll.close()
    return greeted, last - began


def w4(server, scale):
    """Idle clients, as many as the server was set up for: greeted within 10 s, memory while they are held."""
    drops = measure.listen_drops()
    idle = server.pss()
    held, wall = greet_all(server.port, server.sessions, 10)
    result = {"clients": server.sessions, "greeted": len(held), "greeted_s": wall, "pss_mib": server.pss() / 1024,
              "idle_pss_mib": idle / 1024, "drops": measure.listen_drops() - drops}
    for sock in held:
        sock.close()
    return result


def w5(server, scale):
    """A stampede: 2,000 clients connect at the same moment, hear the greeting and quit."""
    count = int(2000 * scale)
    drops, before = measure.listen_drops(), server.cpu()
    poll, socks, done = select.epoll(), {}, 0
    began = time.monotonic()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
        socks[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN)
    while socks and time.monotonic() < began + 60:
        for fileno, _ in poll.poll(0.2):
            sock = socks[fileno]
            try:
                text = sock.recv(1000)
                if text.startswith(b"220"):
                    sock.send(b"QUIT\r\n")
                    continue
                done += text.startswith(b"221")
            except OSError:
                pass
            poll.unregister(fileno)
            socks.pop(fileno).close()
    wall = time.monotonic() - began
    for sock in socks.values():
        sock.close()
    return {"cpu_ms": (server.cpu() - before) / count * 1e3, "per_s": done / wall, "served": done, "of": count,
            "drops": measure.listen_drops() - drops, "pss_mib": server.pss() / 1024}


def handshake(server, context, session=None):
    """One client that says EHLO, STARTTLS, EHLO again and QUIT; its TLS session and whether it was resumed."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        said = plain.makefile("rb")
        reply(said)
        for command in (b"EHLO client.example.net\r\n", b"STARTTLS\r\n"):
            plain.sendall(command)
            if not reply(said).startswith(b"2"):
                raise SystemExit(f"bench: {server.name} does not offer TLS")
        with context.wrap_socket(plain, session=session) as sock:
            said = sock.makefile("rb")
            # the tickets come with what is read
            for command in (b"EHLO client.example.net\r\n", b"QUIT\r\n"):
                sock.sendall(command)
                reply(said)
            return sock.session, sock.session_reused


def reply(said):
    """The last line of a reply."""
    while (line := said.readline())[3:4] == b"-":
        pass
    return line


def w6(server, scale):
    """TLS 1.3 by STARTTLS, one client after the other: full handshakes, then resumed ones."""
    count = max(1, int(300 * scale))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    before, began = server.cpu(), time.monotonic()
    for _ in range(count):
        handshake(server, context)
    middle, full = server.cpu(), time.monotonic() - began
    session, resumed = handshake(server, context)[0], 0
    for _ in range(count):
        session, reused = handshake(server, context, session)
        resumed += reused
    return {"cpu_ms": (middle - before) / count * 1e3, "resumed_ms": (server.cpu() - middle) / count * 1e3,
            "per_s": count / full, "served": resumed, "of": count, "pss_mib": server.pss() / 1024}


def w7(server, scale):
    """As W1, against the checks of a public server with a name server beside it."""
    return w1(server, scale)


ALL = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7}
