//! Those in front of us who speak for others: a proxy, whose connections begin with a header (PROXY protocol), and
//! servers that may use XCLIENT. What they say of the client holds as if the client had come itself.

use std::net::SocketAddr;
use std::time::Instant;

use super::dialogue::Dialogue;
use super::proxy::{self, Header, Look};
use crate::log::Level;
use crate::session::wire::Heard;
use crate::session::{ClientCertificate, Proxied, Tls};

/// What the client may do because of where it comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Upstream {
    /// Say who the client is.
    pub(super) xclient: bool,
    /// Tell of another client.
    pub(super) xforward: bool,
    /// It has not said yet for whom it speaks: no limit of clients holds for it.
    pub(super) itself: bool,
}

impl Dialogue<'_> {
    /// Whether the connection comes from a proxy and has to begin with a header.
    fn is_proxied(&self) -> bool {
        let (peer, proxies) = (&self.s.peer, &self.s.settings.proxies);
        proxies.is_one(peer.ip, peer.local_port) || self.chain.is_proxy(peer.ip)
    }

    /// Finds out who speaks for whom; false if the connection has to be closed. Words for the client only if it can
    /// understand them.
    pub(super) fn introduce(&mut self, words: bool) -> bool {
        if self.is_proxied() {
            let by = self.s.peer.ip;
            match self.header() {
                Ok(Some(header)) => {
                    if !self.take_header(header, words) {
                        return false;
                    }
                }
                Ok(None) => {
                    self.log(
                        Level::Debug,
                        format_args!("proxy {by} has closed without a PROXY header"),
                    );
                    return false;
                }
                Err(why) => {
                    let text = format_args!("bad PROXY header from {by}: {why}; closing the connection");
                    self.log(Level::Notice, text);
                    return false;
                }
            }
        }
        let ip = self.s.peer.ip;
        self.upstream.xclient = self.s.settings.xclient_networks.contains(ip);
        self.upstream.xforward = self.s.settings.xforward_networks.contains(ip);
        self.upstream.itself |= self.upstream.xclient;
        true
    }

    /// Reads the header; none if the connection has been closed before its first byte.
    fn header(&mut self) -> Result<Option<Header>, String> {
        let deadline = Instant::now() + self.s.settings.proxies.wait;
        loop {
            let there = self.s.channel.buffered();
            if let Look::Header(header, used) = proxy::look(there)? {
                self.s.channel.consume(used);
                return Ok(Some(*header));
            }
            let came = there.len();
            match self.s.channel.fill_before(deadline) {
                Heard::Bytes(_) => {}
                Heard::End if came == 0 => return Ok(None),
                Heard::End => return Err(format!("the connection was closed after {came} bytes")),
                Heard::TimedOut => return Err(format!("not there in time, {came} bytes came")),
                Heard::Leaving => return Err("the daemon is ending".to_owned()),
            }
        }
    }

    fn take_header(&mut self, header: Header, words: bool) -> bool {
        let (by, version) = (self.s.peer.ip, header.version);
        let tls = header.tls;
        self.s.proxied = Some(Box::new(Proxied {
            by,
            version,
            authority: header.authority.clone(),
            unique_id: header.unique_id,
            tls: tls.clone(),
        }));
        let Some((client, local)) = header.client else {
            let word = header.word;
            self.log(Level::Info, format_args!("PROXY v{version} from {by}: {word}"));
            self.upstream.itself = true;
            return true;
        };
        self.log(
            Level::Info,
            format_args!("PROXY v{version} from {by}: client {client}, connected to {local}"),
        );
        if let Some(told) = tls {
            let known = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
            let certificate = ClientCertificate {
                subject: format!("CN={}", told.common_name.unwrap_or_default()),
                names: Vec::new(),
                fingerprint: String::new(),
                verified: told.verified,
            };
            let tls = Tls {
                version: known(told.version).into(),
                cipher: known(told.cipher).into(),
                group: None,
                sni: header.authority,
                client: told.certificate.then_some(certificate),
                binding: None,
            };
            self.log(
                Level::Info,
                format_args!("{} (by the proxy)", super::trace::tls_facts(&tls)),
            );
            self.s.tls = Some(Box::new(tls));
        }
        (self.s.peer.local_ip, self.s.peer.local_port) = (Some(local.ip()), local.port());
        self.stand_for(client, words)
    }

    /// The client is this one from now on; false if it has too many sessions, which it is told if `words` says so.
    pub(super) fn stand_for(&mut self, client: SocketAddr, words: bool) -> bool {
        self.s.peer.turn_into(client);
        self.s.forget_environment();
        let settings = &self.s.settings;
        let known = !client.ip().is_unspecified();
        let networks = [&settings.rates.exempt, &settings.xclient_networks];
        let exempt = !known || networks.iter().any(|networks| networks.contains(client.ip()));
        let Some(watch) = &self.s.watch else { return true };
        match watch.moved(client, exempt) {
            Ok(company) => {
                let peer = &mut self.s.peer;
                (peer.sessions, peer.all_sessions) = (company.same, company.all);
                peer.max_sessions = if exempt { 0 } else { company.limit };
                true
            }
            Err(refused) => {
                self.log(Level::Info, format_args!("{}", refused.why));
                if words {
                    self.s.respond_raw(&refused.reply);
                    self.send();
                }
                false
            }
        }
    }
}
