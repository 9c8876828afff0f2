//! What plugins ask outside, and the ways in which that can be broken; see `fail_open`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

use super::spoilt::{SOUND, Spoil};

/// What a plugin asks that is neither the session nor a setting.
pub enum Outside {
    /// Nothing: it decides by what it is told, or decides nothing. These are its arguments.
    Nothing(&'static str),
    /// Its configuration files alone: `spoilt` breaks those of every plugin.
    Settings,
    /// These, broken in these ways.
    Broken(&'static [Break]),
}
use Outside::{Broken, Nothing, Settings};

/// Something outside that is broken.
#[derive(Clone, Copy)]
pub struct Break {
    /// In which way.
    pub how: &'static str,
    /// The plugin's arguments; `DIR` is a folder of its own, `PORT` a port; a socket is in the folder.
    pub arguments: &'static str,
    /// Files in that folder; the first line of a program is `#!`.
    pub files: &'static [(&'static str, &'static [u8])],
    /// Settings.
    pub config: &'static [(&'static str, &'static str)],
    /// Who is at the port.
    pub server: Server,
    /// What becomes of files when the plugin has been loaded.
    pub spoils: &'static [(&'static str, Spoil)],
    /// What must not happen then.
    pub never: Never,
    /// Whether the client is told to try again, and not that it is wrong.
    pub soft: bool,
}

/// Who answers at the port and at the socket.
#[derive(Clone, Copy)]
pub enum Server {
    Nobody,
    /// Says this at once, and at everything it hears.
    Says(&'static [u8]),
    /// Says this and closes.
    Once(&'static [u8]),
    /// Takes connections and says nothing.
    Silent,
    /// Closes connections.
    Closes,
}

/// What must not happen.
#[derive(Clone, Copy, Debug)]
pub enum Never {
    Loaded,
    Queued,
    LoggedIn,
    Recipient,
}

impl Outside {
    /// What the plugin can be loaded with.
    pub fn set_up(&self) -> Break {
        match self {
            Nothing(arguments) => broken("", arguments, Never::Queued),
            Settings => broken("", "", Never::Queued).config(&SOUND),
            Broken(breaks) => *breaks
                .iter()
                .find(|one| !matches!(one.never, Never::Loaded))
                .expect("one that can be loaded"),
        }
    }
}

const fn broken(how: &'static str, arguments: &'static str, never: Never) -> Break {
    Break {
        how,
        arguments,
        files: &[],
        config: &[],
        server: Server::Nobody,
        spoils: &[],
        never,
        soft: true,
    }
}

impl Break {
    const fn files(mut self, files: &'static [(&'static str, &'static [u8])]) -> Break {
        self.files = files;
        self
    }

    const fn config(mut self, config: &'static [(&'static str, &'static str)]) -> Break {
        self.config = config;
        self
    }

    const fn spoils(mut self, spoils: &'static [(&'static str, Spoil)]) -> Break {
        self.spoils = spoils;
        self
    }

    const fn hard(mut self) -> Break {
        self.soft = false;
        self
    }

    const fn server(mut self, server: Server) -> Break {
        self.server = server;
        self
    }
}

const CHECKPW: &str = "checkpw DIR/program true /bin/true sudo 0";
const CVM: &str = "cvm_socket DIR/socket enable_smtp yes timeout 1";
const CVM_NONE: &str = "cvm_socket DIR/none enable_smtp yes timeout 1";
const LDAP: &str = "ldap_host 127.0.0.1 ldap_port PORT ldap_base dc=example ldap_timeout 1";
const VPOPMAILD: &str = "host 127.0.0.1 port PORT timeout 1";
const LMTP: &str = "127.0.0.1 PORT timeout 1 final_timeout 1";
const FORWARD: &str = "127.0.0.1 PORT timeout 1 final_timeout 1";

const OAUTH: &str = "DIR/keys issuer https://issuer.example audience mx.example.org";
const KEYS: &[(&str, &[u8])] = &[("keys", b"{\"keys\": []}")];
const MAP: &str = "domain example.com file DIR/map";
const LISTED: &[(&str, &[u8])] = &[("map", b"y@example.com OK\n")];

/// Every plugin of the register has a line here.
pub static OUTSIDE: &[(&str, Outside)] = &[
    (
        "auth/auth_checkpassword",
        Broken(&[
            broken("cannot check", CHECKPW, Never::LoggedIn).files(&[("program", b"#!/bin/sh\nexit 111\n")]),
            broken("killed", CHECKPW, Never::LoggedIn).files(&[("program", b"#!/bin/sh\nkill -9 $$\n")]),
            broken("hangs", CHECKPW, Never::LoggedIn).files(&[("program", b"#!/bin/sh\nexec sleep 1000\n")]),
            broken("garbage", CHECKPW, Never::LoggedIn)
                .files(&[("program", b"#!/bin/sh\necho yes\nexit 200\n")])
                .hard(),
            broken("no program", CHECKPW, Never::LoggedIn).files(&[("program", b"\x7fELF, and nothing else")]),
        ]),
    ),
    (
        "auth/auth_cvm_unix_local",
        Broken(&[
            broken("nobody there", CVM_NONE, Never::LoggedIn),
            broken("garbage", CVM, Never::LoggedIn).server(Server::Says(b"\xff\xfe")),
            broken("silent", CVM, Never::LoggedIn).server(Server::Silent),
            broken("closes", CVM, Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    (
        "auth/auth_dovecot",
        Broken(&[
            broken("nobody there", "DIR/none timeout 1", Never::LoggedIn),
            broken("garbage", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Says(b"\xff\xfe\t\n")),
            broken("yes, but to whom", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Says(b"OK\n")),
            broken("yes to another", "DIR/socket timeout 1", Never::LoggedIn)
                .server(Server::Says(b"VERSION\t1\t2\nMECH\tPLAIN\nDONE\nOK\t99\tuser=x\n")),
            broken("silent", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Silent),
            broken("closes", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    (
        "auth/auth_imap",
        Broken(&[
            broken("nobody there", "127.0.0.1 PORT timeout 1", Never::LoggedIn),
            broken("garbage", "127.0.0.1 PORT timeout 1", Never::LoggedIn).server(Server::Says(b"\xff\xfe\r\n")),
            broken("yes, but to what", "127.0.0.1 PORT timeout 1", Never::LoggedIn).server(Server::Says(b"* OK\r\n")),
            broken("silent", "127.0.0.1 PORT timeout 1", Never::LoggedIn).server(Server::Silent),
            broken("closes", "127.0.0.1 PORT timeout 1", Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    (
        "auth/auth_ldap_bind",
        Broken(&[
            broken("nobody there", LDAP, Never::LoggedIn),
            broken("garbage", LDAP, Never::LoggedIn).server(Server::Says(b"\x30\x84\xff\xff\xff\xff")),
            broken("no BER", LDAP, Never::LoggedIn).server(Server::Says(b"220 hello\r\n")),
            broken("silent", LDAP, Never::LoggedIn).server(Server::Silent),
            broken("closes", LDAP, Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    // besides a client's certificate, which the TLS of the session has checked
    ("auth/auth_external", Settings),
    (
        "auth/auth_flat_file",
        // nobody has such a password; a file that cannot be read: spoilt
        Broken(&[
            broken("garbage", "", Never::LoggedIn)
                .config(&[("flat_auth_pw", "x@example.com:$6$broken")])
                .hard(),
            broken("no hash", "", Never::LoggedIn)
                .config(&[("flat_auth_pw", "x@example.com")])
                .hard(),
            broken("empty password", "", Never::LoggedIn)
                .config(&[("flat_auth_pw", "x@example.com:")])
                .hard(),
        ]),
    ),
    // a file of keys; tokens that are not good: tests beside the plugin
    (
        "auth/auth_oauth",
        Broken(&[
            broken("no keys", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Gone)]),
            broken("a folder", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Folder)]),
            broken("hangs", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Pipe)]),
            broken("unreadable", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Loop)]),
            broken("too big", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Huge)]),
            broken("garbage", OAUTH, Never::LoggedIn)
                .files(KEYS)
                .spoils(&[("keys", Spoil::Damaged)]),
        ]),
    ),
    (
        "auth/auth_saslauthd",
        Broken(&[
            broken("nobody there", "DIR/none timeout 1", Never::LoggedIn),
            broken("garbage", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Says(b"\xff\xffOK")),
            broken("empty", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Says(b"\0\0")),
            broken("cut off", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Once(b"\0\x02O")),
            broken("silent", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Silent),
            broken("closes", "DIR/socket timeout 1", Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    (
        "auth/auth_vpopmail",
        Broken(&[
            broken("nothing there", "users DIR/none domains DIR", Never::Loaded),
            broken("garbage", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("cdb", &[0xff; 4000]), ("assign", b"+x@example.com:\0:\n+:::\n")]),
            broken("no domain", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("assign", b"+example.com-:example.com:89:89:DIR/gone:-::\n.\n")]),
            broken("no file", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("assign", b".\n")])
                .spoils(&[("assign", Spoil::Gone)]),
            broken("hangs", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("assign", b".\n")])
                .spoils(&[("assign", Spoil::Pipe)]),
            broken("unreadable", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("assign", b".\n")])
                .spoils(&[("assign", Spoil::Loop)]),
            broken("damaged", "users DIR domains DIR", Never::LoggedIn)
                .files(&[("assign", b".\n")])
                .spoils(&[("cdb", Spoil::Damaged)]),
            broken("program cannot check", "vchkpw DIR/program sudo 0", Never::LoggedIn)
                .files(&[("program", b"#!/bin/sh\nexit 111\n")]),
            broken("program killed", "vchkpw DIR/program sudo 0", Never::LoggedIn)
                .files(&[("program", b"#!/bin/sh\nkill -9 $$\n")]),
        ]),
    ),
    (
        "auth/auth_vpopmail_sql",
        Broken(&[
            broken("nobody there", "timeout 1", Never::LoggedIn).config(DSN),
            broken("garbage", "timeout 1", Never::LoggedIn)
                .config(DSN)
                .server(Server::Says(b"\x05\0\0\0\x0agarbage")),
            broken("silent", "timeout 1", Never::LoggedIn)
                .config(DSN)
                .server(Server::Silent),
            broken("closes", "timeout 1", Never::LoggedIn)
                .config(DSN)
                .server(Server::Closes),
        ]),
    ),
    (
        "auth/auth_vpopmaild",
        Broken(&[
            broken("nobody there", VPOPMAILD, Never::LoggedIn),
            broken("garbage", VPOPMAILD, Never::LoggedIn).server(Server::Says(b"\xff\xfe\r\n")),
            broken("silent", VPOPMAILD, Never::LoggedIn).server(Server::Silent),
            broken("closes", VPOPMAILD, Never::LoggedIn).server(Server::Closes),
        ]),
    ),
    ("auth/authdeny", Nothing("")),
    ("badmailfrom", Settings),
    ("badmailfromto", Settings),
    ("badrcptto", Settings),
    ("connection_time", Nothing("")),
    ("count_unrecognized_commands", Nothing("100")),
    ("dont_require_anglebrackets", Nothing("")),
    ("earlytalker", Nothing("reject 0")),
    ("help", Nothing("")),
    ("hosts_allow", Settings),
    ("logging/devnull", Nothing("")),
    // where the log goes to: tests/crash/logs.rs
    ("logging/file", Nothing("DIR/log")),
    ("logging/warn", Nothing("")),
    ("loop", Nothing("")),
    ("naughty", Nothing("")),
    ("noop_counter", Nothing("")),
    ("parse_addr_withhelo", Nothing("")),
    ("queue/discard", Nothing("")),
    (
        "queue/lmtp",
        Broken(&[
            broken("nobody there", LMTP, Never::Queued),
            broken("no socket", "DIR/none timeout 1", Never::Queued),
            broken("garbage", LMTP, Never::Queued).server(Server::Says(b"\xff\xfe\r\n250\r\n")),
            broken("always ready", LMTP, Never::Queued).server(Server::Says(b"220 ok\r\n")),
            broken("silent", LMTP, Never::Queued).server(Server::Silent),
            broken("closes", LMTP, Never::Queued).server(Server::Closes),
        ]),
    ),
    (
        "queue/maildir",
        Broken(&[
            broken("no directory", "/dev/null/maildir", Never::Queued),
            broken("a file", "DIR/file", Never::Queued).files(&[("file", b"x")]),
            broken("no new", "DIR/maildir", Never::Queued)
                .files(&[("maildir/tmp/x", b"x"), ("maildir/new", b"a file")]),
        ]),
    ),
    (
        "queue/qmail-queue",
        Broken(&[
            broken("missing", "DIR/program", Never::Queued),
            broken("killed", "DIR/program", Never::Queued).files(&[("program", b"#!/bin/sh\ncat >&2\nkill -9 $$\n")]),
            broken("reads nothing", "DIR/program", Never::Queued).files(&[("program", b"#!/bin/sh\nexit 51\n")]),
            broken("garbage", "DIR/program", Never::Queued)
                .files(&[("program", b"#!/bin/sh\ncat >/dev/null\nprintf 'K\\377' >&6\nexit 88\n")]),
            broken("hangs", "DIR/program timeout 1", Never::Queued)
                .files(&[("program", b"#!/bin/sh\nexec sleep 1000\n")]),
            broken("no program", "DIR/program", Never::Queued).files(&[("program", b"\x7fELF, and nothing else")]),
        ]),
    ),
    (
        "queue/smtp-forward",
        Broken(&[
            broken("nobody there", FORWARD, Never::Queued),
            broken("garbage", FORWARD, Never::Queued).server(Server::Says(b"\xff\xfe\r\n250\r\n")),
            broken("always ready", FORWARD, Never::Queued).server(Server::Says(b"220 ok\r\n")),
            broken("silent", FORWARD, Never::Queued).server(Server::Silent),
            broken("closes", FORWARD, Never::Queued).server(Server::Closes),
        ]),
    ),
    ("quit_fortune", Nothing("")),
    ("random_error", Nothing("-1")),
    // what the file said before holds: x is not in it
    (
        "rcpt_map",
        Broken(&[
            broken("no file", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Gone)])
                .hard(),
            broken("a folder", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Folder)])
                .hard(),
            broken("hangs", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Pipe)])
                .hard(),
            broken("unreadable", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Loop)])
                .hard(),
            broken("too big", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Huge)])
                .hard(),
            broken("garbage", MAP, Never::Recipient)
                .files(LISTED)
                .spoils(&[("map", Spoil::Damaged)])
                .hard(),
        ]),
    ),
    (
        "rcpt_ok",
        Broken(&[
            broken("garbage", "", Never::Recipient).files(&[("morercpthosts.cdb", &[0xff; 4000])]),
            broken("cut off", "", Never::Recipient).files(&[("morercpthosts.cdb", &[0; 100])]),
        ]),
    ),
    ("rcpt_regexp", Settings),
    ("relay", Settings),
    // what a proxy tells before the session: properties, tests/crash/holders.rs
    ("stunnel", Nothing("")),
    // besides handshakes: tests/tls
    ("tls", Settings),
    // folders of users, of which nobody asks yet: tests beside the plugin
    ("user_config", Nothing("DIR/%a")),
];

const DSN: &[(&str, &str)] = &[
    (
        "vpopmail_mysql_dsn",
        "dbi:mysql:database=vpopmail;host=127.0.0.1;port=PORT",
    ),
    ("vpopmail_mysql_user", "x"),
    ("vpopmail_mysql_pass", "y"),
];

impl Server {
    /// Begins to answer, and tells the port; it ends with the test.
    pub fn start(self, socket: &Path) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        if matches!(self, Server::Nobody) {
            return port;
        }
        let local = UnixListener::bind(socket).expect("bind");
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| self.answer(stream)));
        std::thread::spawn(move || local.incoming().flatten().for_each(|stream| self.answer(stream)));
        port
    }

    fn answer(self, mut stream: impl Read + Write) {
        match self {
            Server::Nobody | Server::Closes => {}
            Server::Silent => {
                let _ = stream.read_to_end(&mut Vec::new());
            }
            Server::Once(words) => {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(words);
            }
            Server::Says(words) => {
                let mut buffer = [0; 4096];
                while stream.write_all(words).is_ok() && stream.read(&mut buffer).is_ok_and(|count| count > 0) {}
            }
        }
    }
}
