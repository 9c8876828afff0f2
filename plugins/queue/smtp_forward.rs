//! Pass messages on to another SMTP server, each over a connection of its own (catalogue 20.5).
//!
//! The client hears 250 only after that server has said 250 to the message; what it refuses is refused, for now or for
//! good, in its words. All recipients or none: if it refuses one, nothing is sent. A link that breaks, or a server that
//! does not make sense, is a temporary failure. If it breaks between the end of the message and the reply, nobody can
//! know whether the server has taken the message; the client will send it again, so it may then arrive twice.

mod link;
mod xclient;

use std::time::{Duration, Instant};

use crate::plugin::*;
use link::{Link, Reply, Waits};

plugin! {
    /// Passes messages on to another SMTP server and answers what that server answers. If the connection breaks
    /// between the end of the message and the answer, the client is asked to try again; should that server have taken
    /// the message all the same, it arrives twice. It never is lost.
    "queue/smtp-forward", SmtpForward {
        /// The server: a name or an address, IPv6 with or without brackets.
        @1 host: String,
        /// Its port.
        @2 port: u16 = 25,
        /// Tell the server, by XCLIENT, who the client is. It must allow that, else nothing is sent.
        @flag xclient: bool,
        /// How many seconds to wait for a connection or an answer.
        timeout: u32 = 60,
        /// How many seconds to wait for the answer to the message. All in all it never takes more than 540, since
        /// clients do not wait longer than 600.
        final_timeout: u32 = 300,
    }
    hooks [queue]
    with [takes]
}

/// The longest time for everything.
const WHOLE: Duration = Duration::from_secs(540);

/// Why a message was not passed on.
enum Trouble {
    /// The server said so.
    Refused(Reply),
    /// Nothing has been passed on.
    Nothing(String),
    /// The whole message was sent, but there was no answer.
    Unknown(String),
}

impl From<Lost> for Trouble {
    fn from(why: Lost) -> Trouble {
        Trouble::Nothing(why.to_string())
    }
}

/// What the server's reply to EHLO offers, a keyword with its parameters each.
struct Offers(Vec<String>);

impl Offers {
    /// The parameters of a keyword, if it is offered.
    fn get(&self, keyword: &str) -> Option<&str> {
        self.0.iter().find_map(|line| {
            let (word, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            word.eq_ignore_ascii_case(keyword).then_some(rest)
        })
    }
}

impl SmtpForward {
    /// A message that the server behind cannot take is refused.
    fn takes(&self) -> Extensions {
        Extensions {
            utf8: true,
            ..Extensions::default()
        }
    }

    fn queue(&self, s: &mut Session) -> Answer {
        let Some(transaction) = &s.transaction else {
            return declined();
        };
        let host = &self.host;
        match self.pass_on(s, transaction) {
            Ok(reply) => {
                let text = reply.parts().1;
                let id = text.split_whitespace().next_back().unwrap_or("unknown");
                ok_with(format!("queued as {id}"))
            }
            Err(Trouble::Refused(reply)) => {
                info!(s, "fail, {host} said: {reply}");
                let verdict = if reply.code / 100 == 5 {
                    Verdict::Deny
                } else {
                    Verdict::DenySoft
                };
                let (status, text) = reply.parts();
                let status = status.unwrap_or(Status((reply.code / 100) as u8, 0, 0));
                answer_with(verdict, status, text)
            }
            // another queue plugin may do better
            Err(Trouble::Nothing(why)) => {
                error!(s, "error, {host}: {why}");
                answer(
                    Verdict::Declined,
                    "the next mail server does not take messages now, try again later",
                )
            }
            Err(Trouble::Unknown(why)) => {
                error!(s, "error, {host} has not confirmed the message: {why}");
                answer_with(
                    Verdict::DenySoft,
                    Status(4, 4, 2),
                    "the next mail server has not confirmed the message",
                )
            }
        }
    }

    /// Passes the message on; the reply is a positive one to the whole of it.
    fn pass_on(&self, s: &Session, transaction: &Transaction) -> Result<Reply, Trouble> {
        let seconds = |number: u32| Duration::from_secs(number.max(1).into());
        let waits = Waits {
            each: seconds(self.timeout),
            last: seconds(self.final_timeout),
            end: Instant::now() + WHOLE,
        };
        let target = Target::parse(&self.host, self.port).map_err(Trouble::Nothing)?;
        let mut link = Link::connect(s, &target, waits)?;
        let outcome = self.converse(&mut link, s, transaction);
        if !matches!(outcome, Err(Trouble::Nothing(_) | Trouble::Unknown(_))) {
            link.quit();
        }
        outcome
    }

    fn converse(&self, link: &mut Link, s: &Session, transaction: &Transaction) -> Result<Reply, Trouble> {
        let offers = self.greet(link, s)?;
        expect_yes(link.command(&mail_command(transaction, &offers)?)?)?;
        for recipient in &transaction.recipients {
            expect_yes(link.command(&format!("RCPT TO:{}", recipient.address.path()))?)?;
        }
        let reply = link.command("DATA")?;
        if reply.code != 354 {
            return Err(expect_yes(reply).map_or_else(|e| e, |_| Trouble::Nothing("no go-ahead for DATA".into())));
        }
        let message = link.message(&transaction.message);
        let message = message.map_err(|(why, refusal)| refusal.map_or_else(|| why.into(), Trouble::Refused))?;
        // from here on the server may have the message
        let unknown = |why: Lost| Trouble::Unknown(why.to_string());
        message.finish().map_err(|e| unknown(e.into()))?;
        let reply = link.last_reply().map_err(unknown)?;
        match reply.is_positive() || reply.is_refusal() {
            true => expect_yes(reply),
            false => Err(Trouble::Unknown(format!("strange answer {reply}"))),
        }
    }

    /// From the server's greeting to what it offers. What it refuses here says nothing about the message, until it
    /// knows who our client is.
    fn greet(&self, link: &mut Link, s: &Session) -> Result<Offers, Trouble> {
        let not_now = |trouble| match trouble {
            Trouble::Refused(reply) => Trouble::Nothing(format!("it said: {reply}")),
            other => other,
        };
        let each = Duration::from_secs(self.timeout.max(1).into());
        expect_yes(link.reply(each)?).map_err(not_now)?;
        let offers = hello(link, &s.settings.me).map_err(not_now)?;
        if !self.xclient {
            return Ok(offers);
        }
        let Some(wanted) = offers.get("XCLIENT") else {
            return Err(Trouble::Nothing("it does not offer XCLIENT".into()));
        };
        for command in xclient::commands(s, wanted) {
            expect_yes(link.command(&command)?).map_err(not_now)?;
        }
        hello(link, xclient::hello_name(s))
    }
}

/// EHLO, or HELO where that is not known.
fn hello(link: &mut Link, name: &str) -> Result<Offers, Trouble> {
    let reply = link.command(&format!("EHLO {name}"))?;
    if reply.is_positive() {
        return Ok(Offers(reply.lines.into_iter().skip(1).collect()));
    }
    if reply.code / 100 == 5 {
        expect_yes(link.command(&format!("HELO {name}"))?)?;
        return Ok(Offers(Vec::new()));
    }
    Err(Trouble::Refused(reply))
}

fn expect_yes(reply: Reply) -> Result<Reply, Trouble> {
    match reply {
        reply if reply.is_positive() => Ok(reply),
        reply if reply.is_refusal() => Err(Trouble::Refused(reply)),
        reply => Err(Trouble::Nothing(format!("strange answer {reply}"))),
    }
}

/// MAIL with what the client declared and the server understands. 8-bit data goes out as it is in any case.
fn mail_command(transaction: &Transaction, offers: &Offers) -> Result<String, Trouble> {
    let mut command = format!("MAIL FROM:{}", transaction.sender.path());
    if offers.get("SIZE").is_some() {
        command.push_str(&format!(" SIZE={}", transaction.message.size()));
    }
    let body = transaction.params.get("body");
    if body.is_some_and(|body| body.eq_ignore_ascii_case("8bitmime")) && offers.get("8BITMIME").is_some() {
        command.push_str(" BODY=8BITMIME");
    }
    let mut addresses =
        std::iter::once(&transaction.sender).chain(transaction.recipients.iter().map(|one| &one.address));
    let needs_utf8 = addresses.any(Address::needs_utf8);
    match offers.get("SMTPUTF8") {
        Some(_) if needs_utf8 || transaction.params.has("smtputf8") => command.push_str(" SMTPUTF8"),
        None if needs_utf8 => {
            let lines = vec!["5.6.7 the next mail server does not take internationalized addresses".to_owned()];
            return Err(Trouble::Refused(Reply { code: 550, lines }));
        }
        _ => {}
    }
    Ok(command)
}

#[cfg(test)]
mod tests;
