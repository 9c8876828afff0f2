"""Clients of the soak that are refused, break off, take their time or send rubbish."""

import contextlib
import os
import random
import socket
import struct
import time

from client import NAMED, PROXIES, SHADY, Client, Gone, Kinds, address, text, verdict
from visitors import login

kind = Kinds()


@kind(2)
def tls_rubbish(site):
    """Breaks the handshake, or goes away in it."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        if client.say("STARTTLS") != 220:
            return "refused"
        client.send(random.choice((os.urandom(400), b"\x16\x03\x01\x02\x00\x01\x00", b"EHLO again\r\n")))
        if random.random() < 0.5:
            client.sock.shutdown(socket.SHUT_WR)
            client.said.read()
        return "done"


@kind(1, slow=True)
def auth_wrong(site):
    with Client(site, source=address(SHADY)) as client:
        client.say("EHLO client.example.net")
        for _ in range(random.randrange(1, 7)):
            if login(client, f"user{random.randrange(2000)}@example.com", "wrong") == 235:
                return "let in"
        client.message(to=["far@elsewhere.example.org"])
        return "refused"


@kind(1)
def too_large(site):
    """More than databytes: as announced, or unannounced."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        if random.random() < 0.7:
            code = client.say("MAIL FROM:<a@example.net> SIZE=99999999")
        else:
            code = client.message(size=3_500_000)
        client.quit()
        return "accepted" if code == 250 else "refused"


@kind(3)
def odd_header(site):
    """Long headers, many fields, bare line ends, loops: refused."""
    bodies = (
        lambda subject: f"Subject: {subject}\r\n".encode() + b"X-Long: " + b"x" * 300_000 + b"\r\n\r\nhi\r\n",
        lambda subject: f"Subject: {subject}\r\n".encode() + b"X-Many: x\r\n" * 1500 + b"\r\nhi\r\n",
        lambda subject: f"Subject: {subject}\r\n".encode() + b"Received: by x\r\n" * 101 + b"\r\nhi\r\n",
        lambda subject: f"Subject: {subject}\n\nhi\nthere\r\n".encode(),
    )
    with Client(site) as client:
        client.say("EHLO client.example.net")
        code = client.message(body=random.choice(bodies))
        return "accepted" if code == 250 else "refused"


@kind(5)
def refused(site):
    """Senders and recipients that the lists name, and relaying."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        number = random.randrange(1000)
        code = random.choice((
            lambda: client.message(sender=f"spammer{number}@bad{number}.example.org"),
            lambda: client.message(to=[f"gone{number}@example.com"]),
            lambda: client.message(sender=f"ex{number}@example.org", to=[f"box{number}@example.com"]),
            lambda: client.message(to=["far@elsewhere.example.org"]),
            lambda: client.message(to=[f"nobody{number}@map.example.com"]),
        ))()
        client.quit()
        return "accepted" if code == 250 else "refused"


@kind(3)
def rubbish(site):
    """Bytes, long lines, unknown commands, commands out of order."""
    lines = (b"\xff\xfe\x00" * 20, b"X" * 5000, b"FOO bar", b"RCPT TO:<a@b>", b"DATA", b"MAIL FROM:<<>>", b"BDAT x",
             b"AUTH NONE", b"MAIL FROM:<a@b> X=Y SIZE=abc", b"EHLO", b"HELO " + b"a" * 600, b"PROXY TCP4 1 2 3 4",
             b"BDAT 10\r\n0123456789", b"GET / HTTP/1.1", b"STARTTLS now", b"XCLIENT ADDR=1.2.3.4", b"RSET x", b"\r\n")
    with Client(site, source=address(SHADY)) as client:
        client.say("EHLO client.example.net")
        for _ in range(random.randrange(1, 30)):
            client.send(random.choice(lines) + b"\r\n")
        client.send("QUIT\r\n")
        try:
            client.said.read()
        except ConnectionError:
            pass
        return "done"


@kind(6)
def hangs_up(site):
    """Goes away at any stage, with or without a reset."""
    subject = site.ledger.subject()
    whole = text(subject, random.choice((500, 70000)))
    stages = ["EHLO client.example.net\r\n", "MAIL FROM:<a@example.net>\r\n", "RCPT TO:<box@example.com>\r\n",
              "DATA\r\n", whole[:len(whole) // 2], whole[len(whole) // 2:], b".\r\n"]
    with Client(site, hello=random.random() < 0.9) as client:
        for stage in stages[:random.randrange(len(stages) + 1)]:
            if stage == b".\r\n":
                site.ledger.note("begun", subject)
            client.send(stage)
            if isinstance(stage, str) and random.random() < 0.9:
                client.reply()
        if random.random() < 0.5:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return "gone"


@kind(2, slow=True)
def idle(site):
    """Says nothing more at some stage until the server has had enough."""
    stages = ("EHLO client.example.net", "MAIL FROM:<a@example.net>", "RCPT TO:<box@example.com>", "DATA")
    with Client(site) as client:
        for stage in stages[:random.randrange(len(stages) + 1)]:
            client.say(stage)
        if client.reply() in (421, 451):
            return "timed out"
        return "served"


@kind(2, slow=True)
def slow(site):
    """Types: a byte at a time."""
    with Client(site) as client:
        for byte in b"EHLO client.example.net\r\n":
            client.send(bytes([byte]))
            time.sleep(0.1)
        client.reply()
        code = client.message(size=1000)
        client.quit()
        return verdict(code)


@kind(1, slow=True)
def dribbles(site):
    """A message at a byte or two per second, until min_data_rate ends it."""
    with Client(site) as client:
        for command in ("EHLO client.example.net", "MAIL FROM:<a@example.net>", "RCPT TO:<box@example.com>", "DATA"):
            client.say(command)
        try:
            for _ in range(80):
                client.send(b"x\r\n")
                time.sleep(1)
                if not site.go.is_set():
                    return "gone"
        except Gone:
            return "timed out"
        return "served"


@kind(0.5, slow=True)
def deaf(site):
    """Asks on and on and reads nothing."""
    with Client(site) as client:
        client.sock.settimeout(20)
        try:
            for _ in range(40000):
                client.send(b"EHLO client.example.net\r\n" * 20)
        except TimeoutError:
            return "blocked"
        except Gone:
            return "timed out"
        return "served"


@kind(2)
def early(site):
    with Client(site, hello=False) as client:
        client.send("EHLO client.example.net\r\n")
        try:
            client.said.read(100)
        except ConnectionError:
            pass
        return "done"


@kind(1)
def crowd(site):
    """More connections of one address than it may have."""
    source, clients = address(NAMED), []
    try:
        for _ in range(14):
            clients.append(Client(site, source=source, hello=False))
        codes = []
        for client in clients:
            # some may have to wait until others have gone
            client.sock.settimeout(2)
            with contextlib.suppress(TimeoutError, Gone):
                codes.append(client.reply())
        return "some refused" if any(code != 220 for code in codes) else "served"
    finally:
        for client in clients:
            client.__exit__()


@kind(1)
def proxied_badly(site):
    with Client(site, "proxy", source=address(PROXIES), hello=False) as client:
        client.send(random.choice((b"PROXY TCP4 x\r\n", b"EHLO a\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", b"")))
        client.sock.shutdown(socket.SHUT_WR)
        try:
            return "served" if client.said.read() else "closed"
        except ConnectionError:
            return "closed"
