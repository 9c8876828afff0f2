//! Reports to the sender (RFC 3464): what became of the message for some of its recipients, who wants to be told
//! (RFC 3461), and how much of it comes back.

use std::fmt::Write as _;

use super::{Open, Trouble, expect_yes};
use crate::plugin::*;

/// The most of a message that comes back when the sender wants all of it, in bytes.
const MOST_RETURNED: u64 = 1024 * 1024;

/// What became of the message for a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It could not be delivered.
    Failed,
    /// It was delivered.
    Delivered,
    /// It was passed on to a server that does not tell more.
    Relayed,
}

/// One recipient, and what to tell of it.
pub struct Told<'a> {
    /// Who.
    pub recipient: &'a Recipient,
    /// What.
    pub action: Action,
    /// Why, by RFC 3463.
    pub status: Status,
    /// What the server has said.
    pub reply: String,
}

/// Whether the sender wants to be told this: failures unless he has said otherwise, successes only if he has asked
/// for them.
pub fn is_wanted(recipient: &Recipient, action: Action) -> bool {
    match (recipient.options.notify, action) {
        (None, action) => action == Action::Failed,
        (Some(notify), Action::Failed) => notify.failure,
        (Some(notify), _) => notify.success,
    }
}

/// The report as a message; `server` has said what is told.
///
/// # Errors
/// The message cannot be read again, or the report cannot be spooled.
pub fn report(s: &Session, transaction: &Transaction, told: &[Told<'_>], server: &str) -> std::io::Result<Message> {
    let me = &s.settings.me;
    let sender = transaction.sender.path();
    let failed = told.iter().any(|one| one.action == Action::Failed);
    let (subject, first) = match failed {
        true => ("Undelivered mail", "Your message could not be delivered to everybody:"),
        false => ("Delivered mail", "As you have asked to be told:"),
    };
    let number = random_number();
    let boundary = format!("report-{number:016x}");
    let mut text = String::new();
    let _ = write!(
        text,
        "From: Mail Delivery System <MAILER-DAEMON@{me}>\nTo: {sender}\nSubject: {subject}\nDate: {}\nMessage-ID: \
         <{number:016x}.report@{me}>\nAuto-Submitted: auto-replied\nMIME-Version: 1.0\nContent-Type: \
         multipart/report; report-type=delivery-status;\n boundary=\"{boundary}\"\n\n--{boundary}\nContent-Type: \
         text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n{first}\n\n",
        mail_date()
    );
    for one in told {
        let what = match one.action {
            Action::Failed => "failed",
            Action::Delivered => "delivered",
            Action::Relayed => "passed on to a server that tells no more",
        };
        let _ = writeln!(
            text,
            "{}: {what}\n    {}",
            one.recipient.address.path(),
            plain(&one.reply)
        );
    }
    let _ = write!(
        text,
        "\n--{boundary}\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; {me}\n"
    );
    if let Some(envid) = &transaction.options.envid {
        let _ = writeln!(text, "Original-Envelope-Id: {envid}");
    }
    for one in told {
        fields(&mut text, one, server);
    }
    let mut text = text.into_bytes();
    returned(&mut text, transaction, failed, &boundary)?;
    Message::parse(&s.services().spool, &text)
}

/// The fields of one recipient (RFC 3464 2.3).
fn fields(text: &mut String, one: &Told<'_>, server: &str) {
    let address = &one.recipient.address;
    let kind = if address.needs_utf8() { "utf-8" } else { "rfc822" };
    let last = Orcpt {
        kind: kind.to_owned(),
        address: address.address(),
    };
    text.push('\n');
    if let Some(orcpt) = &one.recipient.options.orcpt {
        let _ = writeln!(text, "Original-Recipient: {}", shown(orcpt));
    }
    let action = match one.action {
        Action::Failed => "failed",
        Action::Delivered => "delivered",
        Action::Relayed => "relayed",
    };
    let _ = writeln!(
        text,
        "Final-Recipient: {}\nAction: {action}\nStatus: {}\nRemote-MTA: dns; {server}",
        shown(&last),
        one.status
    );
    let reply = plain(&one.reply);
    if reply.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        let _ = writeln!(
            text,
            "Diagnostic-Code: smtp; {}",
            reply.replace(|c: char| !c.is_ascii(), "?")
        );
    }
}

/// An address with its kind, as the fields want it: only one of kind utf-8 is encoded.
fn shown(orcpt: &Orcpt) -> String {
    match orcpt.kind.eq_ignore_ascii_case("utf-8") {
        true => orcpt.encoded(false).replacen(';', "; ", 1),
        false => format!("{}; {}", orcpt.kind, plain(&orcpt.address)),
    }
}

/// One line without controls, of bounded length.
fn plain(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line[..line.floor_char_boundary(800)].to_owned()
}

/// What comes back: the header, or all of the message where it failed and the sender wants it.
fn returned(text: &mut Vec<u8>, transaction: &Transaction, failed: bool, boundary: &str) -> std::io::Result<()> {
    let message = &transaction.message;
    let lines = transaction.options.body != BodyKind::Binary;
    let whole = failed && lines && transaction.options.ret == Some(Ret::Full) && message.size() <= MOST_RETURNED;
    let kind = if whole { "message/rfc822" } else { "text/rfc822-headers" };
    let head = format!("\n--{boundary}\nContent-Type: {kind}\nContent-Transfer-Encoding: 8bit\n\n");
    text.extend_from_slice(head.as_bytes());
    match whole {
        true => message.write_to(text)?,
        false => message.header.write_to(text)?,
    }
    text.extend_from_slice(format!("\n--{boundary}--\n").as_bytes());
    Ok(())
}

/// Sends a report to the sender of a transaction, from nobody, so that nobody is told if it fails in its turn.
///
/// # Errors
/// The server does not take it.
pub fn send(open: &mut Open, report: &Message, to: &Address) -> Result<(), Trouble> {
    let mut mail = "MAIL FROM:<>".to_owned();
    if open.offers.has("8BITMIME") {
        mail.push_str(" BODY=8BITMIME");
    }
    if to.needs_utf8() && open.offers.has("SMTPUTF8") {
        mail.push_str(" SMTPUTF8");
    }
    for reply in open.envelope(mail, vec![format!("RCPT TO:{}", to.path())])? {
        expect_yes(reply)?;
    }
    open.content_for_all(report, BodyKind::EightBit).map(|_| ())
}
