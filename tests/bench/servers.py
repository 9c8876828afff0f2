"""The servers that are measured: how each is set up with a queue, started, found ready, and ended."""

import os
import signal
import socket
import subprocess
import time

import measure
import place

# How many sessions a server may have at a time, where it has a limit.
MOST = 100


class Server:
    """A running server. Subclasses say how it is set up (`prepare`) and what is run (`command`)."""

    queues = ("discard", "maildir")
    #: Whether it is set up for TLS when asked.
    has_tls = False
    #: Whether it is set up with the checks of a public server when asked.
    has_checks = False
    #: What a server of this kind needs beside itself.
    needs = ()
    #: Where its maildir is in its folder.
    maildir = "Maildir"
    #: The least size of the run that warms it up: what is compiled while it runs needs more.
    warm = 0
    #: Whether it makes a session of processes itself, which one that leads a session already cannot.
    makes_session = False

    def __init__(self, queue, sessions=MOST, tls=False, resolv=None, memory=None):
        """`resolv`: with the checks of a public server, and this as its /etc/resolv.conf; `memory`: at most, in bytes."""
        self.queue, self.sessions, self.tls, self.resolv, self.memory = queue, sessions, tls, resolv, memory
        self.port = free_port()
        self.folder = place.fresh(f"{self.name}-{queue}")
        self.environment = place.our_environment()

    @classmethod
    def present(cls):
        return all(os.path.exists(path) for path in cls.needs)

    def start(self):
        self.prepare()
        self.cgroup = measure.Cgroup(self.name, self.memory)
        self.log = open(self.folder / "output", "wb")
        self.process = subprocess.Popen(
            self.command(), cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=self.log, stderr=self.log, preexec_fn=self.before, start_new_session=not self.makes_session)
        self.counted = self.cgroup if self.cgroup.folder else measure.Tree(self.process.pid)
        try:
            self.wait()
        except BaseException:
            self.stop()
            raise

    def before(self):
        self.cgroup.enter()

    def wait(self):
        """Until it greets."""
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as sock:
                    sock.settimeout(5)
                    if sock.recv(1000).startswith(b"220"):
                        sock.sendall(b"QUIT\r\n")
                        while sock.recv(1000):
                            pass
                        return
            except OSError:
                pass
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise measure.Failed(f"bench: {self.name} does not start, see {self.folder.relative_to(place.TOP)}/output")

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.cgroup.remove()
        self.log.close()

    def prepare(self):
        pass

    def cpu(self):
        return self.counted.cpu()

    def pss(self):
        return measure.pss(self.counted.pids())

    def outside(self):
        """What gives it the name server, whose place only that one file can tell; and no host names beside it."""
        if not self.resolv:
            return []
        script = 'mount --bind "$0" /etc/resolv.conf && mount --bind /dev/null /etc/hosts && exec "$@"'
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, str(self.resolv)]

    def delivered(self):
        """Messages in the maildir; None where nothing is kept."""
        if self.queue != "maildir":
            return None
        new = self.folder / self.maildir / "new"
        return len(os.listdir(new)) if new.exists() else 0


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Qpsmtpd(Server):
    """This daemon with the core plugins."""

    name = "qpsmtpd"
    has_tls = has_checks = True
    needs = (place.program("qpsmtpd-prefork"),)

    def prepare(self):
        cert, key = place.certificate(place.WORK) if self.tls or self.resolv else (None, None)
        tls = [f"tls {cert} {key}"] if cert else []
        self.folder = place.qpsmtpd_folder(self.queue, tls + (place.CHAIN if self.resolv else place.CORE))
        if self.resolv:
            place.fill_lists(self.folder / "config")
        # as root it serves as nobody, who must find the folder
        os.chmod(self.folder, 0o777)
        # a configuration that was changed within the last second or two is looked at more closely
        time.sleep(2.1)

    def command(self):
        listen = ["--listen-address", f"127.0.0.1:{self.port}", "--max-from-ip", "0"]
        names = [] if self.resolv else ["--no-rdns"]
        return [*self.outside(), place.program("qpsmtpd-prefork"), *listen, *names, *self.processes()]

    def processes(self):
        return ["--children", str(self.sessions)]


class Threaded(Qpsmtpd):
    """This daemon with many sessions in a process, which is how it holds thousands of idle clients."""

    name = "qpsmtpd-threads"
    has_checks = False

    def processes(self):
        each = 1000
        return ["--children", str(max(2, self.sessions // each + 1)), "--sessions", str(each), "--idle-children", "1"]


class Sink(Server):
    """Postfix's smtp-sink: one process that parses next to nothing and keeps nothing; the floor."""

    name = "smtp-sink"
    queues = ("discard",)
    needs = (str(place.RIVALS / "usr/sbin/smtp-sink"),)

    def prepare(self):
        self.environment["LD_LIBRARY_PATH"] = str(place.RIVALS / "usr/lib/postfix")

    def command(self):
        return [self.needs[0], "-u", "nobody", "-m", "20000", f"127.0.0.1:{self.port}", "4096"]


def all_servers():
    import original
    import rivals
    return [Qpsmtpd, Threaded, original.Original, Sink, *rivals.ALL]
