//! XCLIENT and XFORWARD: another server tells whose mail it brings (Postfix: XCLIENT_README, XFORWARD_README).
//!
//! With XCLIENT the session goes on as that of the client named, from the greeting on; with XFORWARD it stays as it
//! is, and what was told is only kept for the log and for plugins.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::answers::say;
use super::attributes::{Value, address, host, port, split, word};
use super::command::{Command, Verb};
use super::dialogue::{Dialogue, Flow};
use crate::log::Level;
use crate::plugin::{Event, Hook};
use crate::session::{Forwarded, HelloKind, Karma, Login, Naughty};

const XCLIENT: [&str; 8] = ["NAME", "ADDR", "PORT", "PROTO", "HELO", "LOGIN", "DESTADDR", "DESTPORT"];
const XFORWARD: [&str; 7] = ["NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE"];
const PROTOCOLS: [&str; 2] = ["SMTP", "ESMTP"];

/// What XCLIENT has told so far; the outer `None` is what was not mentioned, the inner one what is not known.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    name: Option<Option<String>>,
    addr: Option<Option<IpAddr>>,
    port: Option<Option<u16>>,
    proto: Option<HelloKind>,
    helo: Option<Option<String>>,
    login: Option<Option<String>>,
    dest_addr: Option<Option<IpAddr>>,
    dest_port: Option<Option<u16>>,
}

/// A value in its form; an error if it does not have it.
fn form<T>(value: Value, parse: impl Fn(String) -> Option<T>) -> Result<Option<T>, ()> {
    match value {
        None => Ok(None),
        Some(text) => parse(text).map(Some).ok_or(()),
    }
}

impl Claims {
    fn take(&mut self, name: &'static str, value: Value) -> Result<(), ()> {
        match name {
            "NAME" => self.name = Some(form(value, host)?),
            "ADDR" => self.addr = Some(form(value, address)?),
            "PORT" => self.port = Some(form(value, port)?),
            "PROTO" => {
                let proto = form(value, |text| word(&text, &PROTOCOLS))?;
                self.proto = proto.map(|word| {
                    if word == "SMTP" {
                        HelloKind::Helo
                    } else {
                        HelloKind::Ehlo
                    }
                });
            }
            "HELO" => self.helo = Some(value),
            "LOGIN" => self.login = Some(value),
            "DESTADDR" => self.dest_addr = Some(form(value, address)?),
            _ => self.dest_port = Some(form(value, port)?),
        }
        Ok(())
    }
}

impl Dialogue<'_> {
    /// What the reply to EHLO offers those who may speak for others.
    pub(super) fn offer_upstream(&self, text: &mut String) {
        if self.upstream.xclient {
            text.push_str(&format!("\nXCLIENT {}", XCLIENT.join(" ")));
        }
        if self.upstream.xforward {
            text.push_str(&format!("\nXFORWARD {}", XFORWARD.join(" ")));
        }
    }

    pub(super) fn xclient(&mut self, rest: &str) -> Flow {
        if !self.upstream.xclient {
            let (verb, word) = (Verb::Xclient, Verb::Xclient.name());
            return self.unrecognized(&Command { verb, word, rest });
        }
        if self.s.transaction.is_some() {
            return self.say(say(503, (5, 1), "XCLIENT is not possible within a mail transaction"));
        }
        let mut claims = self.claims.clone();
        let told = split(rest, &XCLIENT).and_then(|all| {
            let mut each = all.into_iter();
            each.try_for_each(|(name, value)| claims.take(name, value).map_err(|()| format!("bad value of {name}")))
        });
        if let Err(why) = told {
            return self.say_text(say(501, (5, 4), ""), why);
        }
        self.claims = claims;
        self.start_anew()
    }

    /// The session begins again, as that of the client named.
    fn start_anew(&mut self) -> Flow {
        let by = self.s.peer.ip;
        self.chain.tell(&mut self.s, Event::Disconnect);
        self.chain.tell(&mut self.s, Event::PostConnection);
        self.forget_client();
        let claims = self.claims.clone();
        let (ip, port) = (claims.addr, claims.port.flatten().unwrap_or(0));
        if let Some(ip) = ip {
            let ip = ip.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            self.upstream.itself = false;
            if !self.stand_for(SocketAddr::new(ip, port), true) {
                return Flow::Close;
            }
        }
        if let Some(ip) = claims.dest_addr {
            self.s.peer.local_ip = ip;
        }
        if let Some(port) = claims.dest_port {
            self.s.peer.local_port = port.unwrap_or(0);
        }
        match claims.name {
            Some(Some(name)) => self.s.peer.set_host(&name),
            Some(None) => self.s.peer.forget_host(),
            None if ip.is_some() && self.entry.reverse_name => self.find_name(),
            None => {}
        }
        if let Some(Some(user)) = &claims.login {
            self.s.login.user = Some((user.clone(), "xclient".to_owned()));
            self.s.relay_client = self.s.settings.xclient_login;
        }
        let (info, ip) = (&self.s.peer.info, self.s.peer.ip);
        let user = claims
            .login
            .flatten()
            .map(|user| format!(", user {user}"))
            .unwrap_or_default();
        self.log(
            Level::Notice,
            format_args!("XCLIENT from {by}: client {info} [{ip}]{user}"),
        );
        if self.entry.pre_connection {
            let decision = self.ask(Event::PreConnection);
            if decision.verdict.denies() {
                return self.answer(Hook::pre_connection, decision, "");
            }
        }
        self.log_connection();
        self.told_hello = claims
            .helo
            .flatten()
            .map(|host| (claims.proto.unwrap_or(HelloKind::Ehlo), host));
        self.connection_over_rate().unwrap_or_else(|| self.greet())
    }

    /// Makes the session as new; what belongs to the connection stays.
    fn forget_client(&mut self) {
        let s = &mut self.s;
        s.hello = None;
        s.login = Login::default();
        (s.relay_client, s.rate_exempt, s.whitelisted) = (false, false, false);
        (s.naughty, s.karma) = (Naughty::default(), Karma::default());
        s.forwarded = None;
        if let Some(tls) = &mut s.tls {
            // the certificate was that of the other server
            tls.client = None;
        }
        // so were its environment and what plugins have found out about it
        s.forget_environment();
        s.results.clear();
        s.capabilities.clear();
        s.notes.clear();
        s.envelope_from.clear();
        s.envelope_rcpt.clear();
        self.auth_offered = false;
        (self.errors, self.unknown, self.auth_failures, self.deferred) = (0, 0, 0, 0);
    }

    pub(super) fn xforward(&mut self, rest: &str) -> Flow {
        if !self.upstream.xforward {
            let (verb, word) = (Verb::Xforward, Verb::Xforward.name());
            return self.unrecognized(&Command { verb, word, rest });
        }
        if self.s.transaction.is_some() {
            return self.say(say(503, (5, 1), "XFORWARD is not possible within a mail transaction"));
        }
        let mut forwarded = self.s.forwarded.clone().unwrap_or_default();
        let told = split(rest, &XFORWARD).and_then(|all| {
            let mut each = all.into_iter();
            each.try_for_each(|(name, value)| {
                keep(&mut forwarded, name, value).map_err(|()| format!("bad value of {name}"))
            })
        });
        if let Err(why) = told {
            return self.say_text(say(501, (5, 4), ""), why);
        }
        self.s.forwarded = Some(forwarded);
        // the values are printable, and the line is what the other server has said
        self.log(Level::Notice, format_args!("XFORWARD from {}: {rest}", self.s.peer.ip));
        self.say(say(250, (0, 0), "OK"))
    }
}

fn keep(forwarded: &mut Forwarded, name: &'static str, value: Value) -> Result<(), ()> {
    let owned = |word: &'static str| word.to_owned();
    match name {
        "NAME" => forwarded.name = form(value, host)?,
        "ADDR" => forwarded.addr = form(value, address)?,
        "PORT" => forwarded.port = form(value, port)?,
        "PROTO" => forwarded.proto = form(value, |text| word(&text, &PROTOCOLS))?.map(owned),
        "HELO" => forwarded.helo = value,
        "IDENT" => forwarded.ident = value,
        _ => forwarded.source = form(value, |text| word(&text, &["LOCAL", "REMOTE"]))?.map(owned),
    }
    Ok(())
}
