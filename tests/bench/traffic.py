"""Clients of every kind for the soak: those that behave, those that do not, and those that go away.

Each kind is a function that has one session (or a few) and says how it ended. What becomes of a message is written
into a ledger: `begun ID` before its end is sent, `yes ID` after 250, `no ID` after a refusal; without one of the last two
nobody can know.
"""

import base64
import collections
import contextlib
import hashlib
import hmac
import json
import os
import random
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

import loads
import place

# The network of all clients, and those of its addresses that mean something to the server's configuration.
NETWORK = "198.18.0.0/24"
# Few enough for each worker to meet them all in its first minutes: what it has learned of them by DNS, it keeps.
NAMED, SHADY = range(1, 61), range(226, 241)
PROXIES, UPSTREAMS, RELAYS = range(241, 245), range(245, 249), range(249, 251)
# Whom proxies and upstream servers speak for.
BEHIND, HIDDEN = "203.0.113", range(1, 41)
# How long a server may be silent: longer than any of its time-outs.
PATIENCE = 90


def address(numbers):
    return f"198.18.0.{random.choice(numbers)}"


class Gone(Exception):
    """The server has closed the connection."""


class Ledger:
    """What was sent and what the server said to it, a line each."""

    def __init__(self, path, name):
        self.file = open(path, "w", buffering=1)
        self.name, self.count, self.lock = name, 0, threading.Lock()

    def note(self, word, subject):
        with self.lock:
            self.file.write(f"{word} {subject}\n")

    def subject(self):
        with self.lock:
            self.count += 1
            return f"{self.name}-{self.count}"


class Client:
    """One connection, and SMTP over it."""

    def __init__(self, site, port="smtp", source=None, tls=None, hello=True):
        self.site, self.ledger = site, site.ledger
        source = source or address(NAMED)
        self.sock = socket.create_connection(("127.0.0.1", site.ports[port]), 20, source_address=(source, 0))
        self.sock.settimeout(PATIENCE)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if tls:
                self.sock = tls.wrap_socket(self.sock)
            self.said = self.sock.makefile("rb")
            if hello:
                self.greeting = self.reply()
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *why):
        self.said.close()
        self.sock.close()

    def reply(self):
        """The code of the next reply."""
        try:
            self.lines = []
            while True:
                line = self.said.readline()
                if not line.endswith(b"\n"):
                    raise Gone
                self.lines.append(line)
                if line[3:4] != b"-":
                    return int(line[:3])
        except (ConnectionError, ssl.SSLError):
            raise Gone from None

    def send(self, data):
        try:
            self.sock.sendall(data if isinstance(data, bytes) else data.encode())
        except (ConnectionError, ssl.SSLError):
            raise Gone from None

    def say(self, line):
        self.send(line + "\r\n")
        return self.reply()

    def starttls(self, context, session=None):
        if (code := self.say("STARTTLS")) != 220:
            return code
        self.said.close()
        try:
            self.sock = context.wrap_socket(self.sock, session=session)
        except (ConnectionError, ssl.SSLError):
            self.said = self.sock.makefile("rb")
            raise Gone from None
        self.said = self.sock.makefile("rb")
        return self.say("EHLO client.example.net")

    def end_of(self, subject, send):
        """Sends the end of a message; what the server says to it."""
        self.ledger.note("begun", subject)
        send()
        code = self.reply()
        self.ledger.note("yes" if code == 250 else "no", subject)
        return code

    def message(self, sender=None, to=("box@example.com",), size=None, parameters="", body=None):
        """A whole transaction; its last reply."""
        code = self.say(f"MAIL FROM:<{sender or some_sender()}>{parameters}")
        if code != 250:
            return code
        codes = [self.say(f"RCPT TO:<{one}>") for one in to]
        if 250 not in codes:
            return codes[0]
        if (code := self.say("DATA")) != 354:
            return code
        subject = self.ledger.subject()
        self.send(text(subject, size or some_size()) if body is None else body(subject))
        return self.end_of(subject, lambda: self.send(b".\r\n"))

    def quit(self):
        if self.say("QUIT") != 221:
            raise Gone


def some_sender():
    return f"sender{random.randrange(10**6)}@example.net"


def some_size():
    return random.choice((200, 1000, 4000, 9000, 20000, 70000))


def text(subject, size):
    """A message of about `size` bytes whose last line tells whether it is whole."""
    head = f"From: <a@example.net>\r\nSubject: {subject}\r\nMessage-ID: <{subject}@example.net>\r\n\r\n".encode()
    return head + b"." + place.message(max(2, size)) + f"end {subject}\r\n".encode()


KINDS = []


def kind(weight, slow=False):
    """A kind of client; how often it comes, and whether it takes its time."""
    def add(function):
        KINDS.append((function, weight, slow))
        return function
    return add


def verdict(code):
    return "accepted" if code == 250 else "refused"


@kind(12)
def plain(site):
    with Client(site) as client:
        client.say("EHLO client.example.net")
        to = [f"user{random.randrange(10**5)}@example.com" for _ in range(random.randrange(1, 6))]
        code = client.message(to=to)
        client.quit()
        return verdict(code)


@kind(4)
def several(site):
    """A session with many messages, and commands between them."""
    with Client(site) as client:
        client.say("HELO client.example.net")
        codes = []
        for _ in range(random.randrange(2, 12)):
            codes.append(client.message())
            for command in random.sample(("NOOP", "RSET", "VRFY box", "HELP", "HELP mail", "EXPN x"), 2):
                client.say(command)
            client.say("MAIL FROM:<>")
            client.say("RSET")
        client.quit()
        return verdict(max(codes))


@kind(6)
def pipelined(site):
    with Client(site) as client:
        client.say("EHLO client.example.net")
        codes = []
        for _ in range(random.randrange(1, 6)):
            to = [f"RCPT TO:<p{n}@example.com>\r\n" for n in range(random.randrange(1, 30))]
            client.send(f"MAIL FROM:<{some_sender()}> SIZE=2000 BODY=8BITMIME\r\n{''.join(to)}DATA\r\n")
            replies = [client.reply() for _ in range(len(to) + 2)]
            if replies[-1] != 354:
                return "refused"
            subject = site.ledger.subject()
            codes.append(client.end_of(subject, lambda: client.send(text(subject, 2000) + b".\r\n")))
        client.quit()
        return verdict(max(codes))


@kind(6)
def tls(site):
    """STARTTLS, now and then with a session that was had before."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        session = site.session if random.random() < 0.5 else None
        if client.starttls(site.context, session) != 250:
            return "refused"
        code = client.message()
        client.quit()
        site.session = client.sock.session
        return verdict(code)


@kind(2)
def smtps(site):
    with Client(site, "smtps", tls=site.context) as client:
        client.say("EHLO client.example.net")
        code = client.message(size=9000)
        client.quit()
        return verdict(code)


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


def login(client, user, password):
    """AUTH by any of the mechanisms; the last reply."""
    coded = lambda data: base64.b64encode(data.encode()).decode()
    how = random.choice(("PLAIN", "LOGIN", "CRAM-MD5", "cancel"))
    if how == "PLAIN":
        return client.say("AUTH PLAIN " + coded(f"\0{user}\0{password}"))
    if how == "cancel":
        client.say("AUTH LOGIN")
        client.say("*")
        return client.say("AUTH PLAIN " + coded(f"\0{user}\0{password}"))
    code = client.say("AUTH " + how)
    if code != 334:
        return code
    if how == "LOGIN":
        client.say(coded(user))
        return client.say(coded(password))
    challenge = base64.b64decode(client.lines[-1][4:])
    digest = hmac.new(password.encode(), challenge, hashlib.md5).hexdigest()
    return client.say(coded(f"{user} {digest}"))


@kind(6)
def auth(site):
    """Logs in and sends to somewhere else."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        if random.random() < 0.3:
            client.starttls(site.context)
        number = random.randrange(1000)
        if login(client, f"user{number}@example.com", f"secret{number}") != 235:
            return "refused"
        code = client.message(to=["far@elsewhere.example.org"])
        client.quit()
        return verdict(code)


@kind(1, slow=True)
def auth_wrong(site):
    with Client(site, source=address(SHADY)) as client:
        client.say("EHLO client.example.net")
        for _ in range(random.randrange(1, 7)):
            if login(client, f"user{random.randrange(2000)}@example.com", "wrong") == 235:
                return "let in"
        client.message(to=["far@elsewhere.example.org"])
        return "refused"


@kind(5)
def bdat(site):
    """A message in chunks, each with its reply or all at once."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        client.say(f"MAIL FROM:<{some_sender()}>")
        client.say("RCPT TO:<box@example.com>")
        subject = site.ledger.subject()
        whole = text(subject, some_size())
        cuts = sorted({0, len(whole), *(random.randrange(len(whole)) for _ in range(random.randrange(8)))})
        chunks = [whole[a:b] for a, b in zip(cuts, cuts[1:])]
        at_once = random.random() < 0.5
        data = b""
        for chunk in chunks[:-1]:
            data = f"BDAT {len(chunk)}\r\n".encode() + chunk
            if at_once:
                client.send(data)
            else:
                client.send(data)
                if client.reply() != 250:
                    return "refused"
        last = f"BDAT {len(chunks[-1])} LAST\r\n".encode() + chunks[-1]
        if not at_once:
            code = client.end_of(subject, lambda: client.send(last))
        else:
            site.ledger.note("begun", subject)
            client.send(last)
            code = [client.reply() for _ in chunks][-1]
            site.ledger.note("yes" if code == 250 else "no", subject)
        client.quit()
        return verdict(code)


@kind(3)
def utf8(site):
    with Client(site) as client:
        client.say("EHLO client.example.net")
        code = client.message(sender=f"jos\u00e9{random.randrange(10**5)}@b\u00fccher.example.net",
                              to=["m\u00fcller@example.com"], parameters=" SMTPUTF8 BODY=8BITMIME")
        client.quit()
        return verdict(code)


@kind(1)
def large(site):
    """1 MB, by DATA or over TLS."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        if random.random() < 0.3:
            client.starttls(site.context)
        code = client.message(size=1_000_000)
        client.quit()
        return verdict(code)


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


@kind(4)
def some_refused(site):
    """Good recipients among refused ones."""
    with Client(site) as client:
        client.say("EHLO client.example.net")
        code = client.message(to=["gone7@example.com", "box@example.com", "far@elsewhere.example.org",
                                  "joe3@map.example.com"])
        client.quit()
        return verdict(code)


@kind(3)
def relay(site):
    with Client(site, source=address(RELAYS)) as client:
        client.say("EHLO client.example.net")
        code = client.message(to=[f"u{n}@d{random.randrange(10**5)}.example.org" for n in range(3)])
        client.quit()
        return verdict(code)


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


@kind(3)
def proxied(site):
    with Client(site, "proxy", source=address(PROXIES), hello=False) as client:
        mine, port = f"{BEHIND}.{random.choice(HIDDEN)}", random.randrange(1024, 65535)
        header = random.choice((
            f"PROXY TCP4 {mine} 192.0.2.25 {port} 25\r\n".encode(),
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + socket.inet_aton(mine) + b"\xc0\0\2\x19" + struct.pack(">HH", port, 25),
            f"PROXY TCP6 2001:db8::{random.randrange(1, 10)} 2001:db8::19 {port} 25\r\n".encode(),
        ))
        client.send(header)
        if client.reply() != 220:
            return "refused"
        client.say("EHLO client.example.net")
        code = client.message()
        client.quit()
        return verdict(code)


@kind(1)
def proxied_badly(site):
    with Client(site, "proxy", source=address(PROXIES), hello=False) as client:
        client.send(random.choice((b"PROXY TCP4 x\r\n", b"EHLO a\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", b"")))
        client.sock.shutdown(socket.SHUT_WR)
        try:
            return "served" if client.said.read() else "closed"
        except ConnectionError:
            return "closed"


@kind(3)
def xclient(site):
    """An upstream server that brings mail for others."""
    with Client(site, source=address(UPSTREAMS)) as client:
        code = 0
        for _ in range(random.randrange(1, 4)):
            client.say("EHLO upstream.example.net")
            number = random.choice(HIDDEN)
            code = client.say(f"XCLIENT ADDR={BEHIND}.{number} NAME=c{number}.example.net PORT=1234 PROTO=ESMTP")
            if code != 220:
                return "refused"
            client.say("EHLO client.example.net")
            code = client.message()
        client.quit()
        return verdict(code)


@kind(3)
def lmtp(site):
    """LMTP has a reply for each recipient."""
    with Client(site, "lmtp") as client:
        client.say("LHLO client.example.net")
        client.say(f"MAIL FROM:<{some_sender()}>")
        to = [f"l{n}@example.com" for n in range(random.randrange(1, 9))]
        good = [client.say(f"RCPT TO:<{one}>") for one in to].count(250)
        if not good or client.say("DATA") != 354:
            return "refused"
        subject = site.ledger.subject()
        site.ledger.note("begun", subject)
        client.send(text(subject, some_size()) + b".\r\n")
        codes = {client.reply() for _ in range(good)}
        site.ledger.note("yes" if codes == {250} else "no", subject)
        client.quit()
        return verdict(max(codes))


@kind(2)
def pages(site):
    """A look at the status page, or what else is asked there."""
    path = random.choice(("/", "/metrics", "/healthz", "/readyz", "/status.json", "/none"))
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.ports['status']}{path}", timeout=20) as answer:
            return "served" if answer.read() else "empty"
    except urllib.error.HTTPError as e:
        e.close()
        return f"HTTP {e.code}"


@kind(0.3)
def sources(site):
    """smtp-source: a number of messages with one subject, in all its ways."""
    count, how = random.choice((
        (100, ("-l", "4096", "-s", "6")), (200, ("-l", "2000", "-s", "4", "-d")), (20, ("-l", "100000", "-s", "3")),
        (50, ("-l", "4096", "-s", "4", "-r", "10")), (4, ("-l", "1000000", "-s", "2")), (30, ("-N", "-s", "3")),
    ))
    subject = site.ledger.subject()
    environment = dict(os.environ, LD_LIBRARY_PATH=str(place.RIVALS / "usr/lib/postfix"))
    command = [loads.SOURCE, "-4", *how, "-m", str(count), "-S", subject, "-f", "sender@example.net", "-t", "box@example.com",
               f"127.0.0.1:{site.ports['smtp']}"]
    site.ledger.note(f"begun:{count}", subject)
    done = subprocess.run(command, env=environment, capture_output=True, timeout=300)
    if done.returncode == 0:
        site.ledger.note(f"yes:{count}", subject)
        return "accepted"
    with site.lock:
        site.remarks[done.stderr.decode(errors="replace").strip().rpartition("/")[2][:200]] += 1
    return "refused"


class Site:
    """What the clients of one server share."""

    def __init__(self, folder, name, ports, go):
        self.ports, self.session, self.go = ports, None, go
        self.ledger = Ledger(folder / "ledger", name)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname, self.context.verify_mode = False, ssl.CERT_NONE
        self.lock = threading.Lock()
        self.outcomes, self.remarks = collections.Counter(), collections.Counter()

    def one(self, function):
        """One client; how it ended is counted."""
        try:
            outcome = function(self)
        except Gone:
            outcome = "closed on"
        except TimeoutError:
            outcome = "no answer"
        except (OSError, ssl.SSLError) as e:
            outcome = type(e).__name__
            with self.lock:
                self.remarks[f"{function.__name__}: {e}"[:200]] += 1
        except Exception as e:
            outcome = "fault"
            with self.lock:
                self.remarks[f"{function.__name__}: {type(e).__name__}: {e}"[:200]] += 1
        with self.lock:
            self.outcomes[f"{function.__name__}: {outcome}"] += 1


def crowd_of(site, slow, rate, threads, over):
    """Threads that are clients of the quick or of the slow kinds, so many sessions per second."""
    functions = [function for function, _, is_slow in KINDS if is_slow == slow]
    weights = [weight for _, weight, is_slow in KINDS if is_slow == slow]

    def be():
        while not over.is_set():
            if not site.go.is_set():
                time.sleep(0.1)
                continue
            time.sleep(random.expovariate(rate / threads))
            site.one(random.choices(functions, weights)[0])
    return [threading.Thread(target=be, daemon=True) for _ in range(threads)]


def run(folder, name, ports, rate, go, over):
    """The process of all clients of one server, until `over`; leaves `outcomes` in the folder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    site = Site(folder, name, ports, go)
    threads = crowd_of(site, False, rate, 10, over) + crowd_of(site, True, 2, 6, over)
    for thread in threads:
        thread.start()
    over.wait()
    until = time.monotonic() + 2 * PATIENCE
    for thread in threads:
        # a client that waits for ever would be a finding, too
        thread.join(max(0, until - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    report = {"outcomes": site.outcomes, "remarks": site.remarks, "stuck": stuck}
    (folder / "outcomes").write_text(json.dumps(report))
