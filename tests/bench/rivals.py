"""The rivals: each is set up as it would be for the same task, with nothing that the task does not need.

None logs to a disk (Exim excepted, which cannot do without). But in W7 none looks up the names of clients, as ours does
not (`--no-rdns`), or finds them in a file (OpenSMTPD). For W7 each has as much of place.CHAIN as its settings know: the
client's name by DNS, and lists of a thousand clients, senders and recipients. They run in a room (see there), except
Haraka, which lies in a folder of its own.
"""

import os
import shutil
import subprocess

import network
import place
from servers import Server

BOX = 906  # the user `box`, see room


class Roomer(Server):
    """A server that runs in a room."""

    def command(self):
        return [str(place.HERE / "room"), str(place.RIVALS), str(self.folder), *self.inside()]

    maildir = "mail"

    @classmethod
    def present(cls):
        return os.geteuid() == 0 and super().present()

    def names(self):
        """Shell commands that give it the name server of W7, and no host names beside it."""
        return f"cat {self.resolv} >/etc/resolv.conf; : >/etc/hosts; " if self.resolv else ""

    def lists(self, entry):
        """Writes etc/clients, etc/senders and etc/recipients, of lines that `entry` makes of each."""
        etc = self.folder / "etc"
        etc.mkdir(exist_ok=True)
        for name in ("clients", "senders", "recipients"):
            (etc / name).write_text("".join(entry(one) + "\n" for one in getattr(place, name.upper())))
        return etc

    def mail_folder(self):
        folder = self.folder / "mail"
        folder.mkdir()
        os.chown(folder, BOX, BOX)
        folder.chmod(0o777)
        return folder


class Postfix(Roomer):
    """Postfix: smtpd and cleanup; with the queue manager, the virtual delivery agent and fsync for `maildir`."""

    name = "postfix"
    has_tls = has_checks = True
    maildir = "mail/box"
    needs = (str(place.RIVALS / "usr/sbin/postfix"),)

    def prepare(self):
        config = self.folder / "etc"
        config.mkdir()
        for name in ("spool", "data"):
            (self.folder / name).mkdir()
        self.mail_folder()
        restrictions = {"discard": "check_recipient_access static:DISCARD, reject_unauth_destination",
                        "maildir": "permit_auth_destination, reject"}
        main = {
            "compatibility_level": "3.6", "queue_directory": self.folder / "spool",
            "data_directory": self.folder / "data", "mail_owner": "postfix", "setgid_group": "postdrop",
            "inet_interfaces": "127.0.0.1", "inet_protocols": "ipv4", "myhostname": "mx.example.com",
            "mydestination": "", "mynetworks": "192.0.2.1", "alias_maps": "", "smtpd_peername_lookup": "no",
            "virtual_mailbox_domains": "example.com", "virtual_mailbox_base": self.folder / "mail",
            "virtual_mailbox_maps": "static:box/", "virtual_uid_maps": f"static:{BOX}",
            "virtual_gid_maps": f"static:{BOX}", "virtual_minimum_uid": "1",
            "smtpd_client_connection_count_limit": "0", "in_flow_delay": "0",
            # of a service that says no other; it is the backlog of each socket besides
            "default_process_limit": max(self.sessions, 4096),
            "smtpd_recipient_restrictions": restrictions[self.queue],
        }
        if self.resolv:
            main |= self.checks()
        if self.tls or self.resolv:
            cert, key = place.certificate(self.folder)
            main |= {"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": cert, "smtpd_tls_key_file": key,
                     "smtpd_tls_session_cache_database": f"btree:{self.folder}/data/sessions"}
        (config / "main.cf").write_text("".join(f"{key} = {value}\n" for key, value in main.items()))
        unix = {"pickup": "n - n 60 1", "cleanup": "n - n - 0", "qmgr": "n - n 300 1", "rewrite": "- - n - -",
                "bounce": "- - n - 0", "defer": "- - n - 0", "trace": "- - n - 0", "flush": "n - n 1000? 0",
                "proxymap": "- - n - -", "virtual": "- n n - -", "anvil": "- - n - 1", "error": "- - n - -",
                "retry": "- - n - -", "smtp": "- - n - -", "tlsmgr": "- - n 1000? 1"}
        programs = {"rewrite": "trivial-rewrite", "defer": "bounce", "trace": "bounce", "retry": "error"}
        lines = [f"127.0.0.1:{self.port} inet n - n - {self.sessions} smtpd"]
        lines += [f"{name} unix {fields} {programs.get(name, name)}" for name, fields in unix.items()]
        (config / "master.cf").write_text("\n".join(lines) + "\n")

    def checks(self):
        etc = self.lists(lambda one: f"{one} REJECT")
        return {
            "smtpd_peername_lookup": "yes",
            "smtpd_client_restrictions": f"check_client_access texthash:{etc}/clients",
            "smtpd_sender_restrictions": f"check_sender_access texthash:{etc}/senders",
            "smtpd_relay_restrictions": f"check_recipient_access texthash:{etc}/recipients, reject_unauth_destination",
        }

    def inside(self):
        etc = self.folder / "etc"
        script = (f"{self.names()}cp {etc}/*.cf /usr/share/postfix/dynamicmaps.cf /etc/postfix; postfix check; "
                  "chown postfix data; exec /usr/lib/postfix/sbin/master -d")
        return ["/bin/sh", "-c", script]


class Exim(Roomer):
    """Exim: a process for each connection, and for `maildir` one more for each delivery."""

    name = "exim"
    has_tls = has_checks = True
    needs = (str(place.RIVALS / "usr/sbin/exim4"),)

    def prepare(self):
        for name in ("spool", "log"):
            (self.folder / name).mkdir()
            (self.folder / name).chmod(0o777)
        tls, lookup, clients, senders, recipients = "tls_advertise_hosts =", "", "", "", ""
        if self.tls or self.resolv:
            cert, key = place.certificate(self.folder)
            key.chmod(0o644)
            tls = f"tls_certificate = {cert}\ntls_privatekey = {key}\ntls_resumption_hosts = *"
        if self.resolv:
            etc = self.lists(lambda one: f"{one}: listed")
            lookup = "*\nhost_lookup_order = bydns"
            clients = f"deny hosts = net-dbm;{etc}/clients.db"
            senders = f"deny senders = dbm;{etc}/senders.db"
            recipients = f"deny recipients = dbm;{etc}/recipients.db"
        verdict = {"discard": "discard", "maildir": "accept"}[self.queue]
        (self.folder / "exim4.conf").write_text(f"""
primary_hostname = mx.example.com
daemon_smtp_ports = {self.port}
local_interfaces = 127.0.0.1
spool_directory = {self.folder}/spool
log_file_path = {self.folder}/log/%slog
log_selector = -all
host_lookup = {lookup}
{tls}
rfc1413_query_timeout = 0s
smtp_accept_max = {self.sessions}
smtp_connect_backlog = 4096
smtp_accept_max_per_connection = 1000000
smtp_accept_queue_per_connection = 0
queue_run_max = 0
acl_smtp_connect = connect
acl_smtp_mail = mail
acl_smtp_rcpt = rcpt
acl_smtp_data = data
begin acl
connect:
  {clients}
  accept
mail:
  {senders}
  accept
rcpt:
  {recipients}
  accept domains = example.com
         control = dkim_disable_verify
  deny
data:
  {verdict}
begin routers
box:
  driver = accept
  domains = example.com
  transport = box
begin transports
box:
  driver = appendfile
  directory = {self.mail_folder()}
  maildir_format
  user = box
""")

    def inside(self):
        lists = "for list in etc/*; do exim_dbmbuild $PWD/$list $PWD/$list.db; done; " if self.resolv else ""
        script = (f"{self.names()}{lists}mkdir -p /etc/exim4 /var/lib/exim4; cp exim4.conf /etc/exim4; "
                  "chown Debian-exim spool log; chmod u+s /usr/sbin/exim4; exec /usr/sbin/exim4 -bdf")
        return ["/bin/sh", "-c", script]


class OpenSmtpd(Roomer):
    """OpenSMTPD, which has no way to throw mail away but to deliver it.

    Debian's 6.8 cannot make a handshake of TLS 1.3 with OpenSSL 3, neither with an ECDSA nor an RSA key.
    """

    name = "opensmtpd"
    queues = ("maildir",)
    has_checks = True
    needs = (str(place.RIVALS / "usr/sbin/smtpd"),)

    def prepare(self):
        (self.folder / "spool").mkdir()
        listen, first = f"listen on 127.0.0.1 port {self.port} hostname mx.example.com", ""
        if self.resolv:
            cert, key = place.certificate(self.folder)
            first = f'pki mx.example.com cert "{cert}"\npki mx.example.com key "{key}"\n'
            listen += " tls pki mx.example.com"
            etc = self.lists(str)
            first += f"""
table bad_clients file:{etc}/clients
table bad_senders file:{etc}/senders
table bad_recipients file:{etc}/recipients
filter by_client phase connect match src <bad_clients> disconnect "550 go away"
filter by_sender phase mail-from match mail-from <bad_senders> reject "550 go away"
filter by_recipient phase rcpt-to match rcpt-to <bad_recipients> reject "550 gone"
filter checks chain {{ by_client, by_sender, by_recipient }}
"""
            listen += " filter checks"
        (self.folder / "smtpd.conf").write_text(f"""
smtp limit max-mails 1000000
table boxes {{ "@" = "box" }}
{first}
{listen}
action box maildir "{self.mail_folder()}" virtual <boxes>
match from any for domain "example.com" action box
""")

    def inside(self):
        # it always asks for the name of the client
        names = self.names() or f"echo {network.CLIENT} client.example.net >>/etc/hosts; "
        script = (f"{names}mkdir -p /var/spool/smtpd /var/empty /run /nonexistent; "
                  "mount --bind spool /var/spool/smtpd; chmod 711 /var/spool/smtpd; echo mx.example.com >/etc/mailname; "
                  "exec /usr/sbin/smtpd -d -f smtpd.conf")
        return ["/bin/sh", "-c", script]


QUEUE_FILE = """
// One file for each message, written to tmp and renamed to new; no fsync.
const fs = require('fs');
let count = 0;
exports.hook_queue = (next, connection) => {
    const name = `${Date.now()}.${process.pid}.${count++}`;
    const file = fs.createWriteStream(`mail/tmp/${name}`);
    file.on('close', () => fs.rename(`mail/tmp/${name}`, `mail/new/${name}`, (why) => next(why ? DENYSOFT : OK)));
    connection.transaction.message_stream.pipe(file);
};
"""


NO_RDNS = """
// Else it asks for the name of each client.
exports.hook_lookup_rdns = (next) => next(OK, 'Unknown');
"""


class Haraka(Server):
    """Haraka: one process, JavaScript; `maildir` is a plugin of a few lines, as Haraka has none."""

    name = "haraka"
    has_tls = has_checks = True
    maildir = "mail"
    warm = 1
    needs = (str(place.RIVALS.parent / "haraka/node_modules/Haraka/bin/haraka"),)

    def prepare(self):
        config = self.folder / "config"
        for name in (config, self.folder / "plugins", self.folder / "mail/tmp", self.folder / "mail/new"):
            name.mkdir(parents=True)
        plugins = ["rcpt_to.in_host_list", {"discard": "queue/discard", "maildir": "queue_file"}[self.queue]]
        files = {"smtp.ini": f"listen=127.0.0.1:{self.port}\nnodes=0\n", "host_list": "example.com\n",
                 "me": "mx.example.com\n", "loglevel": "LOGWARN\n"}
        if self.tls or self.resolv:
            plugins.insert(0, "tls")
            cert, key = place.certificate(config)
            files["tls.ini"] = f"key={key.name}\ncert={cert.name}\ndhparam=dhparams.pem\n"
            # else it makes some, for half a minute
            subprocess.run(["openssl", "genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048",
                            "-out", config / "dhparams.pem"], check=True, capture_output=True)
        if self.resolv:
            plugins.insert(0, "access")
            files["access.ini"] = "[check]\nany=false\nconn=true\nmail=true\nrcpt=true\n"
            lists = {"connect.rdns_access": place.CLIENTS, "mail_from.access": place.SENDERS,
                     "rcpt_to.access": place.RECIPIENTS}
            for name, entries in lists.items():
                files[f"{name}.blacklist"] = "\n".join(entries) + "\n"
        else:
            plugins.insert(0, "no_rdns")
        files["plugins"] = "\n".join(plugins) + "\n"
        for name, text in files.items():
            (config / name).write_text(text)
        shutil.copy(self.needs[0].replace("bin/haraka", "config/connection.ini"), config)
        (self.folder / "plugins" / "queue_file.js").write_text(QUEUE_FILE)
        (self.folder / "plugins" / "no_rdns.js").write_text(NO_RDNS)
        self.environment["YES_REALLY_DO_DISCARD"] = "1"

    def command(self):
        return [*self.outside(), shutil.which("node") or "node", self.needs[0], "-c", str(self.folder)]


ALL = [Postfix, Exim, OpenSmtpd, Haraka]
