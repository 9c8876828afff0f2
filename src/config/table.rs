//! The one table of every file the daemon knows: name, kind, default, one sentence.
//!
//! From it come the typed settings, the checks, the manual page qpsmtpd-config(5) and the test of the samples.

use std::fmt::{self, Display, Formatter};

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One line of text.
    Text,
    /// The path of a file or a folder.
    Path,
    /// Any number of lines.
    List,
    /// Keys, in a cdb file or as lines.
    Map,
    /// Lines of plugins and their arguments.
    Plugins,
    /// Addresses and networks in CIDR notation.
    Networks,
    /// An IP address, or `0` for all.
    Address,
    /// A level: a number from 0 to 7 or its LOG name.
    Level,
    /// Permission bits in octal.
    Mode,
    /// True or false.
    Flag,
    /// A whole number.
    Number {
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
    /// A time in seconds.
    Seconds {
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
    /// So many events in so many seconds, `N/SECONDS`; 0 is no limit.
    Rate,
    /// A size in bytes.
    Bytes {
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
}

/// Bounds from here on are there for the machine and are not told.
const UNTOLD: u64 = 1_000_000_000;

/// The kind in the words of the manual and of the samples.
impl Display for Kind {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (word, min, max) = match *self {
            Kind::Text => return f.write_str("text"),
            Kind::Path => return f.write_str("path"),
            Kind::List => return f.write_str("list"),
            Kind::Map => return f.write_str("map"),
            Kind::Plugins => return f.write_str("list of plugins"),
            Kind::Networks => return f.write_str("list of networks"),
            Kind::Address => return f.write_str("IP address"),
            Kind::Level => return f.write_str("log level"),
            Kind::Mode => return f.write_str("mode in octal"),
            Kind::Flag => return f.write_str("0 or 1"),
            Kind::Rate => return f.write_str("events/seconds"),
            Kind::Number { min, max } => ("number", min, max),
            Kind::Seconds { min, max } => ("seconds", min, max),
            Kind::Bytes { min, max } => ("bytes", min, max),
        };
        if max < UNTOLD {
            write!(f, "{word} from {min} to {max}")
        } else {
            f.write_str(word)
        }
    }
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name of the file.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The value when the file is missing or empty, as it would be written; or, in parentheses, in words.
    pub default: &'static str,
    /// An example value.
    pub example: &'static str,
    /// One sentence: what it does.
    pub about: &'static str,
    /// The plugin that reads it; empty for the core.
    pub plugin: &'static str,
    /// The sample that is shipped, whose opening comment is the long explanation; empty for files that only old
    /// configurations have.
    pub sample: &'static str,
}

/// Rows: name, `[old]` if there is no sample, `of` a plugin, kind, default, example; and the sentence.
macro_rules! table {
    ($($name:literal $([$old:ident])? $(of $plugin:literal)?, $kind:expr, $default:literal, $example:literal:
        $about:literal;)*) => {
        &[$(Setting {
            name: $name,
            kind: $kind,
            default: $default,
            example: $example,
            about: $about,
            plugin: concat!("", $($plugin)?),
            sample: table!(@sample $name $($old)?),
        },)*]
    };
    (@sample $name:literal old) => { "" };
    (@sample $name:literal) => { include_str!(concat!("../../config/", $name)) };
}

use Kind::*;

/// A number that switches off at 0.
const COUNT: Kind = Number { min: 0, max: UNTOLD };
/// How long to wait for one thing.
const WAIT: Kind = Seconds { min: 1, max: 86_400 };
/// A size that may be 0.
const SIZE: Kind = Bytes { min: 0, max: 1 << 40 };

/// Every file, in the order of the manual.
pub const TABLE: &[Setting] = table! {
    "plugins", Plugins, "(none)", "badmailfrom reject naughty":
        "The plugins to load and their arguments, in the order in which they are asked.";
    "logging", Plugins, "(the built-in logger)", "logging/warn LOGINFO":
        "The logging plugins; while there is none, the daemon logs to standard error by itself.";
    "loglevel", Level, "4", "6":
        "How much the built-in logger writes: 0 (emergencies) to 7 (debugging).";
    "plugin_dirs", List, "(none)", "/etc/qpsmtpd/plugins":
        "Folders with plugins in other languages; the native plugins are part of the program.";
    "IP", Address, "0", "192.0.2.25":
        "The address to listen on; 0 means all of them.";
    "port", Number { min: 0, max: 65_535 }, "(25 as root, else 2525)", "25":
        "The port to listen on; 0 means any free one.";
    "me", Text, "(the host name)", "mail.example.com":
        "The name of this host in greetings, replies and Received fields.";
    "me-auth-results", List, "(me)", "example.com":
        "The name that signs Authentication-Results fields; none writes no such field.";
    "smtpgreeting", Text, "(me and the product)", "mail.example.com welcomes you":
        "The text of the greeting; ESMTP is appended if the word is missing.";
    "localiphost", Text, "(me)", "example.com":
        "The domain that stands for the address of this host in a recipient such as box@[192.0.2.25].";
    "databytes", SIZE, "0", "10485760":
        "The largest message accepted, in bytes as stored; 0 means no limit.";
    "size_threshold", SIZE, "0", "10000":
        "Messages of at least this many bytes wait on disk, smaller ones in memory.";
    "spool_dir", Path, "~/tmp/", "/var/spool/qpsmtpd":
        "The folder where messages wait while they are received.";
    "spool_perms", Mode, "0700", "0700":
        "The permissions with which spool_dir is made.";
    "timeout", WAIT, "1200", "300":
        "How long to wait for the next line of a message, and for a command where timeoutsmtpd says nothing.";
    "timeoutsmtpd", WAIT, "(timeout)", "300":
        "How long to wait for a command.";
    "tls_before_auth", Flag, "0", "1":
        "Offer and accept AUTH over TLS alone.";
    "max_command_line", Bytes { min: 512, max: 65_536 }, "2048", "4096":
        "The longest command line in bytes, CRLF included.";
    "max_auth_line", Bytes { min: 512, max: 1_048_576 }, "12288", "16384":
        "The longest line of an AUTH exchange in bytes, CRLF included.";
    "max_data_line", SIZE, "0", "1000":
        "The longest line of a message in bytes, CRLF included; 0 means no limit.";
    "max_header_size", SIZE, "262144", "1048576":
        "The largest header of a message in bytes; 0 means no limit.";
    "max_header_count", COUNT, "1000", "2000":
        "The most header fields of a message; 0 means no limit.";
    "maxrcpts", COUNT, "1000", "100":
        "The most recipients of a message; 0 means no limit.";
    "max_errors", COUNT, "20", "50":
        "How many commands may be answered by 5xx, since a message was last accepted, before the session ends with 421; 0 means any number.";
    "max_unknown_commands", COUNT, "10", "4":
        "How many unknown commands of a session are borne before it ends with 421; 0 means any number.";
    "max_idle_commands", COUNT, "100", "1000":
        "How many commands that bring no mail (NOOP, RSET, VRFY, HELP, greetings, empty BDAT) are borne, since a message was last accepted, before the session ends with 421; 0 means any number. So do replies of 4xx count, beyond a thousand.";
    "max_auth_failures", COUNT, "5", "3":
        "How many logins of a session may fail before it ends with 421; 0 means any number.";
    "auth_delay", Seconds { min: 0, max: 60 }, "1", "2":
        "How long a client whose login fails waits for the answer; twice as long after each failure of its network.";
    "auth_delay_max", Seconds { min: 0, max: 300 }, "10", "30":
        "The longest wait after a login that failed.";
    "auth_mechanisms", List, "(all)", "SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN":
        "The mechanisms of AUTH that may be offered; without this file all that plugins serve.";
    "max_transactions", COUNT, "10000", "100":
        "The most transactions of a session; 0 means no limit.";
    "max_session_time", Seconds { min: 0, max: 31_536_000 }, "86400", "3600":
        "How long a session may last; 0 means no limit.";
    "min_data_rate", SIZE, "10", "100":
        "How many bytes per second a message must arrive with, on average and after the first minute; 0 means any number.";
    "max_load", COUNT, "0", "20":
        "The load of the machine, averaged over a minute, from which on new connections get 421; 0 means any.";
    "min_free_memory", COUNT, "0", "256":
        "How many MiB of memory must be available, or new connections get 421; 0 means any number.";
    "stress_level", Number { min: 0, max: 100 }, "90", "75":
        "From which percentage of busy workers on clients are waited for no longer than stress_timeout; 0 means never.";
    "stress_timeout", WAIT, "10", "30":
        "How long to wait for a command or a line of a message while most workers are busy.";
    "connection_rate", Rate, "0", "60/60":
        "How many connections a network may make in so many seconds; more get 421. 0 means any number.";
    "message_rate", Rate, "0", "100/3600":
        "How many messages a network may begin in so many seconds; more get 451. 0 means any number.";
    "recipient_rate", Rate, "0", "500/3600":
        "How many recipients a network may name in so many seconds; more get 450. 0 means any number.";
    "error_rate", Rate, "0", "100/600":
        "How many commands of a network may be answered by 5xx in so many seconds before it gets 421. 0 means any number.";
    "auth_failure_rate", Rate, "20/3600", "10/600":
        "How many logins of a network may fail in so many seconds before it gets 421. 0 means any number.";
    "scram_secret", List, "(this machine's identity)", "3nOR7xJ2mWq0cVfT5yLd8Q":
        "Words that nobody else knows; the salts of users without keys come from them, so that SCRAM does not tell who exists.";
    "rate_networks", List, "32 64", "24 48":
        "The bits by which IPv4 and IPv6 addresses count as one network for the rates.";
    "rate_exempt", Networks, "(none)", "127.0.0.0/8":
        "The clients for whom no rate holds, nor a limit of sessions per address or network. No rate but connection_rate holds for relay clients, who are known only when they are connected.";
    "proxy_networks", Networks, "(none)", "192.0.2.80":
        "The proxies whose connections begin with a PROXY header; no limit of sessions holds for a proxy itself.";
    "proxy_ports", List, "(all)", "2525 10465":
        "The local ports at which connections from proxy_networks begin with a PROXY header.";
    "proxy_timeout", WAIT, "5", "10":
        "How long to wait for the PROXY header of a connection.";
    "xclient_networks", Networks, "(none)", "192.0.2.80":
        "The servers that may speak for other clients by XCLIENT; no rate or limit of sessions holds for them.";
    "xclient_login", Flag, "0", "1":
        "Let a client send to anybody if XCLIENT names its LOGIN.";
    "xforward_networks", Networks, "(none)", "192.0.2.80":
        "The servers that may tell by XFORWARD of the clients whose mail they pass on.";
    "bare_newlines", Networks, "(none)", "192.0.2.0/24":
        "The clients that may send CR or LF alone in a message, which are then made CRLF.";
    "allow_underscore_domains", Flag, "1", "0":
        "Accept underscores in the domains of addresses.";
    "lenient_local_parts", Flag, "0", "1":
        "Accept local parts that RFC 5321 forbids, such as those with blanks or commas outside quotes.";
    "received_version", Flag, "1", "0":
        "Name the version of the program in Received fields.";
    "strict_parameters", Flag, "0", "1":
        "Refuse unknown parameters of MAIL and RCPT with 555, as RFC 5321 asks for.";
    "disabled", List, "(none)", "VRFY HELP":
        "The commands and extensions that are neither offered nor served.";
    "unauthorized_pipelining", Text, "log", "refuse":
        "What becomes of clients that send on before they have heard a reply that they must wait for: allow, log or refuse.";
    "strict_hello", Flag, "0", "1":
        "Refuse a second HELO or EHLO with 503.";
    "hosts_allow" of "hosts_allow", List, "(empty)", "192.0.2.0/24 DENYSOFT come back later":
        "Networks, a verdict for the clients in them, and a text.";
    "relayclients" of "relay", List, "(empty)", "192.0.2.0/24":
        "The clients that may send to any domain.";
    "morerelayclients" of "relay", Map, "(empty)", "192.0.2.25":
        "More clients that may send to any domain.";
    "norelayclients" of "relay", List, "(empty)", "192.0.2.66":
        "The clients that may not relay, whatever else says so.";
    "tls_ciphers" of "tls", Text, "HIGH", "HIGH:!AES128":
        "The ciphers of TLS, in the words of OpenSSL.";
    "tls_protocols" of "tls", Text, "SSLv23:!SSLv2:!SSLv3", "TLSv1_3":
        "The versions of TLS that are spoken.";
    "relay_clientcerts" of "tls", List, "(empty)",
        "9F:86:D0:81:88:4C:7D:65:9A:2F:EA:A0:C5:5A:D0:15:A3:BF:4F:1B:2B:0B:82:2C:D1:5D:6C:15:B0:F0:0A:08":
        "The certificates of clients that may send to any domain.";
    "badmailfrom" of "badmailfrom", List, "(empty)", "@spam.example we do not want your mail":
        "Senders that are refused, each with an optional text for the reply.";
    "badmailfrom_patterns" [old] of "badmailfrom", List, "(empty)", "^offers[0-9]+@":
        "Regular expressions of senders that are refused; today they stand in badmailfrom.";
    "badmailfromto" of "badmailfromto", List, "(empty)", "a@spam.example b@example.com":
        "Pairs of a sender and a recipient that do not belong together.";
    "badrcptto" of "badrcptto", List, "(empty)", "old@example.com this address is closed":
        "Recipients that are refused, each with an optional text for the reply.";
    "badrcptto_patterns" [old] of "badrcptto", List, "(empty)", "^list-[0-9]+@":
        "Regular expressions of recipients that are refused; today they stand in badrcptto.";
    "flat_auth_pw" of "auth/auth_flat_file", List, "(empty)", "joe@example.com:secret":
        "Users who may log in, and their passwords or hashes of them.";
    "ldap" of "auth/auth_ldap_bind", List, "(empty)", "ldap_base ou=people,dc=example,dc=com":
        "The directory whose users may log in: where it is, and how they are found.";
    "vpopmail_mysql_dsn" of "auth/auth_vpopmail_sql", Text, "dbi:mysql:dbname=vpopmail;host=127.0.0.1",
        "dbi:mysql:dbname=vpopmail;host=db.example.com;port=3306":
        "The database of vpopmail's users, as Perl's DBI names it.";
    "vpopmail_mysql_user" of "auth/auth_vpopmail_sql", Text, "vpopmailuser", "qpsmtpd":
        "The user who asks the database of vpopmail.";
    "vpopmail_mysql_pass" of "auth/auth_vpopmail_sql", Text, "vpoppasswd", "secret":
        "The password of that user.";
    "smtpauth-checkpassword" of "auth/auth_checkpassword", Text, "(none)", "/bin/checkpassword /bin/true":
        "The program that checks passwords, and the program that it runs when they are right.";
    "auth_clientcerts" of "auth/auth_external", List, "(empty)", "client.example.net joe@example.com":
        "Whose certificate is whose: a fingerprint or a name, and the users who may log in with it.";
    "rcpthosts" of "rcpt_ok", List, "(empty)", "example.com":
        "The domains mail is accepted for.";
    "morercpthosts" of "rcpt_ok", Map, "(empty)", "example.net":
        "More domains mail is accepted for.";
    "rcpt_regexp" of "rcpt_regexp", List, "(empty)", "/^list-.*@example\\.com$/ OK":
        "Patterns of recipients, a verdict, and an optional text for the reply.";
};

/// The entry of a file.
pub fn setting(name: &str) -> Option<&'static Setting> {
    TABLE.iter().find(|setting| setting.name == name)
}
