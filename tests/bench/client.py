"""A client of the soak: one connection, what is said over it, and the ledger of what became of messages.

Into the ledger goes `begun ID` before the end of a message is sent, `yes ID` after 250 and `no ID` after a refusal;
without one of the last two nobody can know.
"""

import random
import socket
import ssl
import threading

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


class Kinds(list):
    """Kinds of clients: functions, how often each comes, and whether it takes its time."""

    def __call__(self, weight, slow=False):
        """The decorator of a function that is a kind of client."""
        def add(function):
            self.append((function, weight, slow))
            return function
        return add


def verdict(code):
    return "accepted" if code == 250 else "refused"
