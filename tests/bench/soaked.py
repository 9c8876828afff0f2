"""The servers of the soak: our daemon with nearly all of its plugins, in three shapes, and what is read of each."""

import collections
import os
import pathlib
import re
import shutil
import subprocess

import client
import place
import servers

PLUGINS = [
    "hosts_allow", "connection_time", "quit_fortune", "earlytalker wait 0", "tls {folder}/cert.pem {folder}/key.pem",
    "count_unrecognized_commands 4", "noop_counter 10", "help", "relay", "user_config {folder}/users/%u",
    "auth/auth_flat_file", "auth/authdeny", "dont_require_anglebrackets", "badmailfrom reject naughty", "badmailfromto",
    "badrcptto", "rcpt_map domain map.example.com file {folder}/config/map", "rcpt_regexp", "rcpt_ok", "loop",
    "naughty reject data",
]
SETTINGS = {
    "rcpthosts": "example.com\nmap.example.com",
    "relayclients": "\n".join(f"198.18.0.{n}" for n in client.RELAYS),
    "proxy_networks": "\n".join(f"198.18.0.{n}" for n in client.PROXIES),
    "xclient_networks": "\n".join(f"198.18.0.{n}" for n in client.UPSTREAMS),
    "xforward_networks": "\n".join(f"198.18.0.{n}" for n in client.UPSTREAMS),
    # smtp-source gives up when it is put off
    "rate_exempt": "192.0.2.7",
    "map": "\n".join(f"joe{n}@map.example.com OK" for n in range(100)),
    "rcpt_regexp": "/^list-.*@example\\.com$/ OK\n/^closed-/ DENY closed",
    "connection_rate": "600/60", "message_rate": "600/60", "recipient_rate": "6000/60", "error_rate": "100/60",
    "auth_failure_rate": "30/60", "auth_delay": "1", "auth_delay_max": "2",
    "timeoutsmtpd": "8", "timeout": "8", "min_data_rate": "50", "size_threshold": "10000", "databytes": "3000000",
    "max_errors": "15", "logging": "logging/file loglevel LOGINFO reopen prefix {folder}/log/mail",
}
# Lines of the log that somebody should read.
TROUBLE = re.compile(r"error|panic|fail(ed|ure)\b", re.I)


def zones():
    """What the name server knows of the clients: some have names, some have none, some have names that are not theirs."""
    reverse = {n: f"{n} PTR c{n}.clients.example.net." for n in client.NAMED if n % 7}
    forward = {n: f"c{n} A 198.18.0.{n if n % 10 else 255}" for n in client.NAMED}
    return {
        "0.18.198.in-addr.arpa": "\n".join(reverse.values()) + "\n",
        "clients.example.net": "@ A 127.0.0.1\n" + "\n".join([*forward.values(), *(
            f"b{n} A {client.BEHIND}.{n}" for n in client.HIDDEN if n % 3)]) + "\n",
        "113.0.203.in-addr.arpa": "\n".join(f"{n} PTR b{n}.clients.example.net." for n in client.HIDDEN if n % 3) + "\n",
    }


class Soaked(servers.Qpsmtpd):
    """Our daemon as the soak wants it; `shape` are its options about processes."""

    def __init__(self, name, shape, resolv, certificate):
        self.name, self.shape, self.certificate = f"soak-{name}", shape, certificate
        super().__init__("maildir", resolv=resolv)
        self.ports = {door: servers.free_port() for door in ("smtps", "lmtp", "proxy", "status")} | {"smtp": self.port}
        self.seen, self.broken, self.remarks, self.lines = collections.Counter(), [], collections.Counter(), 0

    def prepare(self):
        plugins = [line.format(folder=place.WORK / self.name) for line in PLUGINS]
        self.folder = place.qpsmtpd_folder("maildir", plugins, self.name)
        config = self.folder / "config"
        place.fill_lists(config)
        for file, text in SETTINGS.items():
            (config / file).write_text(text.format(folder=self.folder) + "\n")
        (config / "proxy_ports").write_text(f"{self.ports['proxy']}\n")
        shutil.copytree(place.TOP / "config" / "help", config / "help")
        for made in ("users", "log", "users/user7"):
            (self.folder / made).mkdir()
        (self.folder / "log").chmod(0o777)
        for made in self.certificate:
            shutil.copy(made, self.folder)
            (self.folder / made.name).chmod(0o644)
        self.folder.chmod(0o777)

    def command(self):
        at = [f"127.0.0.1:{self.port}", f"smtps://127.0.0.1:{self.ports['smtps']}", f"lmtp://127.0.0.1:{self.ports['lmtp']}",
              f"127.0.0.1:{self.ports['proxy']}"]
        listen = [word for one in at for word in ("--listen-address", one)]
        return [*self.outside(), place.program("qpsmtpd-prefork"), *listen, "--pretty-child", "--status-listen",
                f"127.0.0.1:{self.ports['status']}", *self.shape]

    def control(self, *words):
        """qpsmtpctl: its exit code and what it says."""
        done = subprocess.run([place.program("qpsmtpctl"), "--control", self.folder / "spool" / "control", *words],
                              env=self.environment, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout + done.stderr

    def look(self):
        """Memory (KiB), descriptors and threads of each process, and the files that lie about."""
        processes = []
        for pid in self.counted.pids():
            try:
                rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
                found = dict(line.split(":", 1) for line in rollup.splitlines()[1:])
                kib = lambda key: int(found[key].split()[0])
                processes.append({
                    "pid": pid, "kind": self.kind(pid, title), "pss": kib("Pss"), "anon": kib("Pss_Anon"),
                    "fds": len(os.listdir(f"/proc/{pid}/fd")), "threads": len(os.listdir(f"/proc/{pid}/task"))})
            except (OSError, KeyError):
                # it has ended meanwhile
                continue
        return {"processes": processes, "spool": len(os.listdir(self.folder / "spool")),
                "tmp": len(os.listdir(self.folder / "Maildir" / "tmp"))}

    def kind(self, pid, title):
        if pid == self.process.pid:
            return "master"
        return "worker" if b"worker" in title else "other"

    def harvest(self):
        """Takes the messages out of the maildir: each is counted by its subject, and must be whole."""
        new = self.folder / "Maildir" / "new"
        for name in os.listdir(new):
            data = (new / name).read_bytes()
            subject = re.search(rb"^Subject: (\S+)", data, re.M)
            subject = subject[1].decode() if subject else f"no subject in {name}"
            self.seen[subject] += 1
            if b"\nMessage-ID: <soak-" in data and not data.endswith(f"end {subject}\n".encode()):
                self.broken.append(subject)
            (new / name).unlink()

    def rotate(self):
        """Moves the log away as log rotation does, and reads what was moved away the time before."""
        log, old = self.folder / "log" / "mail", self.folder / "log" / "mail.old"
        if old.exists():
            self.read_log(old)
            old.unlink()
        if log.exists():
            log.rename(old)

    def read_log(self, path):
        with open(path, errors="replace") as lines:
            for line in lines:
                self.lines += 1
                if TROUBLE.search(line):
                    self.remarks[re.sub(r"\d+", "N", line.strip().replace(str(place.TOP), ""))[:200]] += 1

    def account(self):
        """The ledger of the clients against the maildir: counts, and what is wrong."""
        said = {}
        with open(self.folder / "ledger") as lines:
            for line in lines:
                word, subject = line.split()
                said[subject] = word
        wrong = []
        for subject, word in said.items():
            word, _, count = word.partition(":")
            count, there = int(count or 1), self.seen[subject]
            good = {"yes": there == count, "begun": there <= count, "no": there == 0}[word]
            if not good:
                wrong.append(f"{subject}: {word} of {count}, {there} in the maildir")
        wrong += [f"{subject}: nobody has sent it" for subject in self.seen.keys() - said.keys()]
        wrong += [f"{subject}: not whole" for subject in self.broken]
        words = collections.Counter(word.partition(":")[0] for word in said.values())
        return {"accepted": words["yes"], "refused": words["no"], "not known": words["begun"],
                "in the maildir": sum(self.seen.values())}, wrong

