"""The original: qpsmtpd in Perl, from Debian's package or, with QPSMTPD_PERL=FOLDER, from a checkout.

It has the same plugins as ours; there is no plugin to throw mail away, so the few lines that do it are written here.
"""

import os
import pathlib
import pwd
import shutil

import measure
import place
from servers import MOST, Server

PROGRAM, PLUGINS = place.RIVALS / "usr/bin/qpsmtpd-prefork", place.RIVALS / "usr/share/qpsmtpd/plugins"
# Where Perl looks for modules first.
MODULES = [place.RIVALS / "usr/share/perl5", *place.RIVALS.glob("usr/lib/*/perl5/5.*")]
if "QPSMTPD_PERL" in os.environ:
    checkout = pathlib.Path(os.environ["QPSMTPD_PERL"]).resolve()
    PROGRAM, PLUGINS = checkout / "qpsmtpd-prefork", checkout / "plugins"
    MODULES.insert(0, checkout / "lib")
    if not PROGRAM.exists():
        raise measure.Failed(f"bench: QPSMTPD_PERL: there is no {PROGRAM}")

DISCARD = """
sub hook_queue { return (OK, 'Discarded') }
"""
# The forkserver has an option for this, prefork has none.
NO_RDNS = """
sub register {
    no warnings 'redefine';
    my $tcpenv = \\&Qpsmtpd::TcpServer::tcpenv;
    *Qpsmtpd::TcpServer::tcpenv = sub { local $ENV{TCPREMOTEIP} = $_[1]; $tcpenv->(@_[0, 1], 1) };
}
"""


class Original(Server):
    """The Perl original's qpsmtpd-prefork; its maildir is without fsync."""

    name = "qpsmtpd-perl"
    has_tls = has_checks = True
    makes_session = True
    needs = (str(PROGRAM), shutil.which("perl") or "perl")

    def prepare(self):
        cert, key = self.folder / "cert.pem", self.folder / "key.pem"
        first = [f"tls {cert} {key} {cert}"] if self.tls or self.resolv else []
        first += [] if self.resolv else ["no_rdns"]
        place.qpsmtpd_folder(self.queue, first + (place.CHAIN if self.resolv else place.CORE), self.folder.name)
        place.certificate(self.folder)
        config, plugins = self.folder / "config", self.folder / "plugins"
        if self.resolv:
            place.fill_lists(config)
        # small messages stay in memory, as upstream's sample has it; warnings only
        more = {"size_threshold": "10000", "loglevel": "4", "plugin_dirs": f"{plugins}\n{PLUGINS}"}
        for name, text in more.items():
            (config / name).write_text(text + "\n")
        (plugins / "queue").mkdir(parents=True)
        (plugins / "queue" / "discard").write_text(DISCARD)
        (plugins / "no_rdns").write_text(NO_RDNS)
        # it reads the key as nobody
        key.chmod(0o644)
        self.folder.chmod(0o777)
        self.environment["QPSMTPD_CONFIG"] = str(config)

    def command(self):
        root = os.geteuid() == 0
        user = "nobody" if root else pwd.getpwuid(os.geteuid()).pw_name
        # its shared memory goes with the namespace, however it ends
        apart = ["unshare", "--ipc"] if root else []
        modules = [word for folder in MODULES for word in ("-I", str(folder))]
        # it looks only every 15 seconds whether it has enough: as many as W1 to W3 have clients, or all that W4 holds
        idle = 20 if self.sessions <= MOST else self.sessions
        return [*self.outside(), *apart, self.needs[1], "-Tw", *modules, self.needs[0], "--user", user,
                "--listen-address", f"127.0.0.1:{self.port}", "--port", str(self.port), "--max-from-ip", "0",
                "--children", str(self.sessions), "--idle-children", str(idle)]
