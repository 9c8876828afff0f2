"""Clients of the soak that behave, each a function that has one session and says how it ended."""

import base64
import hashlib
import hmac
import os
import random
import socket
import struct
import subprocess
import urllib.error
import urllib.request

import loads
import place
from client import (BEHIND, HIDDEN, PROXIES, RELAYS, UPSTREAMS, Client, Kinds, address, some_sender, some_size, text, verdict)

kind = Kinds()


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
