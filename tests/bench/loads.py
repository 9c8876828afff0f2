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
# Seconds after which a run goes on or is given up.
SENT_WITHIN, DELIVERED_WITHIN, GREETED_WITHIN, SERVED_WITHIN, HANDSHAKES_WITHIN = 600, 120, 10, 30, 60


def source(server, *options):
    """Runs smtp-source against the server: it ends with a fault unless each message is accepted."""
    environment = dict(os.environ, LD_LIBRARY_PATH=str(place.RIVALS / "usr/lib/postfix"))
    command = [SOURCE, *options, "-f", "sender@example.net", "-t", "box@example.com", f"127.0.0.1:{server.port}"]
    try:
        subprocess.run(command, env=environment, check=True, timeout=SENT_WITHIN)
    except subprocess.SubprocessError as why:
        raise measure.Failed(f"bench: {server.name}: {why}") from None


def messages(server, count, *options):
    """Sends so many; what the server does with them after its answers, until all are in the maildir, is counted too."""
    drops, had = measure.listen_drops(), server.delivered()
    before, began = server.cpu(), time.monotonic()
    source(server, "-m", str(count), *options)
    if had is not None:
        until = time.monotonic() + DELIVERED_WITHIN
        while (new := server.delivered() - had) < count and time.monotonic() < until:
            time.sleep(0.02)
        if new != count:
            raise measure.Failed(f"bench: {server.name} has {new} of {count} messages in its maildir")
    wall = time.monotonic() - began
    return {"cpu_ms": (at_rest(server) - before) / count * 1e3, "per_s": count / wall, "pss_mib": server.pss() / 1024,
            "drops": measure.listen_drops() - drops}


def at_rest(server, within=2):
    """The server's CPU time when it has done its work: it no longer grows, or so many seconds have passed."""
    now, until = server.cpu(), time.monotonic() + within
    while time.monotonic() < until:
        before = now
        time.sleep(0.1)
        now = server.cpu()
        if now - before < 0.001:
            break
    return now


def w1(server, scale):
    """A connection for each message: 20 at a time, 4 KiB each."""
    return messages(server, int(2000 * scale), "-s", "20", "-l", "4096")


def w2(server, scale):
    """20 sessions that are kept open, 4 KiB a message."""
    return messages(server, int(10000 * scale), "-s", "20", "-d", "-l", "4096")


def w3(server, scale):
    """Messages of 1 MB, 4 connections at a time."""
    return messages(server, max(4, int(100 * scale)), "-s", "4", "-l", "1000000")


def greet_all(server, count, within):
    """Opens `count` connections at once; those that are greeted in time, still open, and the seconds it took.

    It ends when the server has no memory left, too: what follows would be a machine that does nothing else.
    """
    poll = select.epoll()
    open_ones, greeted = {}, []
    began = time.monotonic()
    for _ in range(count):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", server.port))
        open_ones[sock.fileno()] = sock
        poll.register(sock, select.EPOLLIN | select.EPOLLET)
    last = looked = began
    while open_ones and (now := time.monotonic()) < began + within:
        if now > looked + 0.1:
            if server.cgroup.full():
                break
            looked = now
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
    """Idle clients, as many as the server was set up for: greeted within 10 seconds, memory while they are held."""
    drops, idle = measure.listen_drops(), server.pss()
    held, wall = greet_all(server, server.sessions, GREETED_WITHIN)
    result = {"clients": server.sessions, "greeted": len(held), "greeted_s": wall, "idle_pss_mib": idle / 1024,
              "drops": measure.listen_drops() - drops, "full": int(server.cgroup.full())}
    if not result["full"]:
        result["pss_mib"] = server.pss() / 1024
    for sock in held:
        sock.close()
    return result


def w5(server, scale):
    """A stampede: 2,000 clients connect at the same moment, hear the greeting and quit; how many in half a minute."""
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
    while socks and time.monotonic() < began + SERVED_WITHIN:
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
    if not done:
        raise measure.Failed(f"bench: {server.name} serves none of {count} clients")
    return {"cpu_ms": (at_rest(server) - before) / done * 1e3, "per_s": done / wall, "served": done, "of": count,
            "drops": measure.listen_drops() - drops, "pss_mib": server.pss() / 1024}


def handshake(server, context, session=None):
    """One client that says EHLO, STARTTLS, EHLO again and QUIT; its TLS session and whether it was resumed."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        said = plain.makefile("rb")
        reply(said)
        for command in (b"EHLO client.example.net\r\n", b"STARTTLS\r\n"):
            plain.sendall(command)
            if not reply(said).startswith(b"2"):
                raise measure.Failed(f"bench: {server.name} does not offer TLS")
        with context.wrap_socket(plain, session=session) as sock:
            said = sock.makefile("rb")
            # the tickets come with what is read
            for command in (b"EHLO client.example.net\r\n", b"QUIT\r\n"):
                sock.sendall(command)
                if not reply(said).startswith(b"2"):
                    raise measure.Failed(f"bench: {server.name} does not go on with TLS")
            return sock.session, sock.session_reused


def reply(said):
    """The last line of a reply."""
    while (line := said.readline())[3:4] == b"-":
        pass
    return line


def handshakes(server, context, count, session=None):
    """So many clients, one after the other: CPU ms and seconds of each, and how many sessions were resumed."""
    before, began, done, resumed = server.cpu(), time.monotonic(), 0, 0
    while done < count and time.monotonic() < began + HANDSHAKES_WITHIN:
        try:
            made, reused = handshake(server, context, session)
        except OSError as why:
            raise measure.Failed(f"bench: {server.name}: handshake {done + 1}: {why}") from None
        session = session and made
        done, resumed = done + 1, resumed + reused
    wall = time.monotonic() - began
    return (at_rest(server) - before) / done * 1e3, wall / done, resumed


def w6(server, scale):
    """TLS 1.3 by STARTTLS, one client after the other: full handshakes, then resumed ones if the server does that."""
    count = max(1, int(300 * scale))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    full_ms, seconds, _ = handshakes(server, context, count)
    result = {"cpu_ms": full_ms, "per_s": 1 / seconds, "pss_mib": server.pss() / 1024}
    resumed_ms, _, resumed = handshakes(server, context, count, handshake(server, context)[0])
    if resumed:
        result["resumed_ms"] = resumed_ms
    return result | {"resumed": resumed, "of": count}


def accepted(server, sender, recipient):
    """Whether a message of that envelope is accepted."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        said = sock.makefile("rb")
        commands = (None, "HELO elsewhere.example.net", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA",
                    "Subject: one\r\n\r\none\r\n.")
        for command in commands:
            if command:
                sock.sendall(command.encode() + b"\r\n")
            if not reply(said).startswith((b"2", b"3")):
                return False
    return True


def w7(server, scale):
    """As W1, against the checks of a public server with a name server beside it; that it checks is looked at first."""
    good = ("sender@example.net", "box@example.com")
    verdicts = [accepted(server, *good), accepted(server, place.SENDERS[500], good[1]),
                accepted(server, good[0], place.RECIPIENTS[500])]
    if verdicts != [True, False, False]:
        raise measure.Failed(f"bench: {server.name} does not refuse who is listed: {verdicts}")
    if server.queue == "maildir":
        at_rest(server)
        new = server.folder / server.maildir / "new"
        if not all(b"client.example.net" in file.read_bytes() for file in new.iterdir()):
            raise measure.Failed(f"bench: {server.name} does not know the client's name")
    return w1(server, scale)


ALL = {"W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7}
