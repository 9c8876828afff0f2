//! What others tell of the client: a proxy in front of us (PROXY protocol), or a server that passes mail on (XFORWARD).

use std::net::IpAddr;

/// What a proxy told of the connection that it passes on.
#[derive(Clone, Debug)]
pub struct Proxied {
    /// The proxy.
    pub by: IpAddr,
    /// The version of the protocol: 1 or 2.
    pub version: u8,
    /// The host name that the client wanted (SNI). Client data.
    pub authority: Option<String>,
    /// The proxy's number for the connection.
    pub unique_id: Option<String>,
    /// TLS between client and proxy.
    pub tls: Option<ProxiedTls>,
}

/// TLS between a client and a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    /// `TLSv1.3`; empty if the proxy does not say.
    pub version: String,
    /// The cipher suite; empty if the proxy does not say.
    pub cipher: String,
    /// The name in the client's certificate.
    pub common_name: Option<String>,
    /// Whether the client has shown a certificate, now or when the session of TLS began.
    pub certificate: bool,
    /// Whether the proxy vouches for it.
    pub verified: bool,
}

/// What a server that passes mail on told of its client (XFORWARD); for the log and for plugins, and nothing is
/// decided by it. It holds for one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// NAME: the client's host name.
    pub name: Option<String>,
    /// ADDR: its address.
    pub addr: Option<IpAddr>,
    /// PORT: its port.
    pub port: Option<u16>,
    /// PROTO: `SMTP` or `ESMTP`.
    pub proto: Option<String>,
    /// HELO: how it greeted.
    pub helo: Option<String>,
    /// IDENT: the other server's name for the message.
    pub ident: Option<String>,
    /// SOURCE: `LOCAL` or `REMOTE`.
    pub source: Option<String>,
}

/// Someone on this machine who has connected to a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The user, as the kernel tells it.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The process; 0 if the kernel does not tell.
    pub pid: i32,
}
