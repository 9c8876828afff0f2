//! The single facts about a client that many plugins share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Local, Verdict};

/// Who is at the other end (catalogue 1.6).
#[derive(Clone, Debug)]
pub struct Peer {
    /// The client's address; an IPv4-mapped IPv6 address is given as IPv4.
    pub ip: IpAddr,
    /// The client's port; 0 where unknown.
    pub port: u16,
    /// The address it connected to, if known.
    pub local_ip: Option<IpAddr>,
    /// The port it connected to; 0 where unknown.
    pub local_port: u16,
    /// The name of that address, where a super-server told it.
    pub local_host: Option<String>,
    /// Who it is, if it came by a unix socket of this machine; its address is then 127.0.0.1.
    pub local: Option<Local>,
    /// remote_host: the reverse name, `Unknown` or `[ip]` without one.
    pub host: String,
    /// remote_info: `ident@host`, or the host.
    pub info: String,
    /// Sessions of the same address (IPv6: network) now, this one included.
    pub sessions: u32,
    /// max_conn_ip: how many of them are allowed; 0 is no limit.
    pub max_sessions: u32,
    /// Sessions of all clients now, this one included.
    pub all_sessions: u32,
    /// How many sessions there may be in all; 0 where unknown.
    pub max_all_sessions: u32,
}

impl Peer {
    /// A peer of whom only the address is known.
    pub fn new(ip: IpAddr) -> Peer {
        let ip = ip.to_canonical();
        Peer {
            ip,
            port: 0,
            local_ip: None,
            local_port: 0,
            local_host: None,
            local: None,
            host: "Unknown".to_owned(),
            info: "Unknown".to_owned(),
            sessions: 1,
            max_sessions: 0,
            all_sessions: 1,
            max_all_sessions: 0,
        }
    }

    /// Somebody who has connected to a unix socket.
    pub fn at_socket(local: Local) -> Peer {
        Peer {
            local: Some(local),
            host: "unix".to_owned(),
            info: format!("uid{}@unix", local.uid),
            ..Peer::new(Ipv4Addr::LOCALHOST.into())
        }
    }

    /// It is at this address, as someone we trust has told.
    pub fn turn_into(&mut self, client: SocketAddr) {
        (self.ip, self.port, self.local) = (client.ip().to_canonical(), client.port(), None);
        self.forget_host();
    }

    /// Its name is not known any more. Where nobody looks for names, the address stands for them.
    pub fn forget_host(&mut self) {
        self.host = match self.host.starts_with('[') {
            true => format!("[{}]", self.ip),
            false => "Unknown".to_owned(),
        };
        self.info.clone_from(&self.host);
    }

    /// Takes a reverse name, reduced to the characters of host names (catalogue 1.6).
    pub fn set_host(&mut self, name: &str) {
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '[' | ']');
        let name: String = name.trim_end_matches('.').chars().filter(allowed).collect();
        if !name.is_empty() {
            self.info.clone_from(&name);
            self.host = name;
        }
    }
}

/// Which greeting a client used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloKind {
    /// `HELO`
    Helo,
    /// `EHLO`
    Ehlo,
}

impl HelloKind {
    /// As the original's notes have it.
    pub fn word(self) -> &'static str {
        match self {
            HelloKind::Helo => "helo",
            HelloKind::Ehlo => "ehlo",
        }
    }
}

/// How a client greeted.
#[derive(Clone, Debug)]
pub struct Hello {
    /// HELO or EHLO.
    pub kind: HelloKind,
    /// The name it gave: client data, not to be trusted.
    pub host: String,
}

/// What came of AUTH.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user and the mechanism of a login that succeeded.
    pub user: Option<(String, String)>,
    /// The user and the mechanism of the last one that failed.
    pub failed: Option<(String, String)>,
}

/// As many reasons to refuse a client are kept; each goes into every refusal.
const MOST_REASONS: usize = 16;

/// Reasons to refuse a client, kept until plugin naughty acts on them (catalogue 6).
#[derive(Clone, Debug, Default)]
pub struct Naughty {
    reasons: Vec<String>,
    reject_type: Option<Verdict>,
}

impl Naughty {
    /// Whether there is a reason.
    pub fn is_set(&self) -> bool {
        !self.reasons.is_empty()
    }

    /// Adds a reason, unless it is there already, or there are very many; the first reject type given stays.
    pub fn add(&mut self, reason: String, reject_type: Option<Verdict>) {
        if self.reasons.len() < MOST_REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
        self.reject_type = self.reject_type.or(reject_type);
    }

    /// All reasons, a line each.
    pub fn text(&self) -> String {
        self.reasons.join("\n")
    }

    /// How to refuse, if a plugin said it.
    pub fn reject_type(&self) -> Option<Verdict> {
        self.reject_type
    }

    /// Forgives; true if there was something to forgive.
    pub fn clear(&mut self) -> bool {
        let was = self.is_set();
        *self = Naughty::default();
        was
    }
}

/// The standing of a client (catalogue 13.3).
#[derive(Clone, Copy, Debug, Default)]
pub struct Karma {
    /// What this connection has earned; none if nobody has given or taken any.
    pub score: Option<i32>,
    /// Good minus bad of earlier connections; none without a record.
    pub history: Option<i32>,
}
