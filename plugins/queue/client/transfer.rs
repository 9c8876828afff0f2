//! A message over a connection: the envelope with what the client asked for and the server offers, and the content.

use super::{Offers, Open, Reply, Trouble, expect_yes};
use crate::plugin::*;

/// How many commands are sent before the answers to them are read: what they take fits in the buffers of any system.
const BATCH: usize = 50;

/// Parameters of MAIL that are passed on as they came, with the keyword that offers them.
const PASSED_ON: [(&str, &str); 5] = [
    ("by", "DELIVERBY"),
    ("holdfor", "FUTURERELEASE"),
    ("holduntil", "FUTURERELEASE"),
    ("mt-priority", "MT-PRIORITY"),
    ("requiretls", "REQUIRETLS"),
];

/// A reply to a message that makes sense, or why there is none.
pub type Answered = Result<Reply, String>;

/// What the server takes not.
fn refused(code: u16, words: String) -> Trouble {
    Trouble::Refused(Reply {
        code,
        lines: vec![words],
    })
}

/// MAIL with what the client declared and the server understands. 8-bit data goes out as it is in any case.
///
/// # Errors
/// The message needs what the server does not offer.
pub fn mail_command(transaction: &Transaction, open: &Open) -> Result<String, Trouble> {
    let (offers, options) = (&open.offers, &transaction.options);
    let mut command = format!("MAIL FROM:{}", transaction.sender.path());
    if offers.has("SIZE") {
        command.push_str(&format!(" SIZE={}", transaction.message.size()));
    }
    match options.body {
        BodyKind::Binary if offers.has("BINARYMIME") && offers.has("CHUNKING") => command.push_str(" BODY=BINARYMIME"),
        BodyKind::Binary => {
            let words = "5.6.3 the next mail server does not take binary messages";
            return Err(refused(554, words.to_owned()));
        }
        BodyKind::EightBit if offers.has("8BITMIME") => command.push_str(" BODY=8BITMIME"),
        _ => {}
    }
    if needs_utf8(transaction) && !offers.has("SMTPUTF8") {
        let words = "5.6.7 the next mail server does not take internationalized addresses";
        return Err(refused(550, words.to_owned()));
    }
    if offers.has("SMTPUTF8") && (options.utf8 || needs_utf8(transaction)) {
        command.push_str(" SMTPUTF8");
    }
    if offers.has("DSN") {
        if let Some(ret) = options.ret {
            command.push_str(&format!(" RET={ret}"));
        }
        if let Some(envid) = &options.envid {
            command.push_str(&format!(" ENVID={}", xtext(envid)));
        }
    }
    if open.logged_in {
        let submitter = options.auth.as_deref().filter(|named| *named != "<>");
        let named = submitter.map_or_else(|| "<>".to_owned(), xtext);
        command.push_str(&format!(" AUTH={named}"));
    }
    for (key, value) in transaction.params.iter() {
        let Some((_, keyword)) = PASSED_ON.iter().find(|(known, _)| *known == key) else {
            continue;
        };
        let tls = *keyword == "REQUIRETLS";
        if tls && !(open.verified && offers.has(keyword)) {
            let words = "5.7.30 the next mail server cannot be trusted to keep REQUIRETLS";
            return Err(refused(550, words.to_owned()));
        }
        if !offers.has(keyword) {
            return Err(refused(
                550,
                format!("5.5.4 the next mail server does not know {keyword}"),
            ));
        }
        command.push(' ');
        command.push_str(&key.to_ascii_uppercase());
        if let Some(value) = value {
            command.push('=');
            command.push_str(value);
        }
    }
    Ok(command)
}

/// Whether the server must take UTF-8: an address that is not ASCII, or a header that may be so since the client said
/// SMTPUTF8.
fn needs_utf8(transaction: &Transaction) -> bool {
    let recipients = transaction.recipients.iter().map(|one| &one.address);
    let mut addresses = std::iter::once(&transaction.sender).chain(recipients);
    let fields = || transaction.message.header.iter().any(|field| !field.raw().is_ascii());
    addresses.any(Address::needs_utf8) || (transaction.options.utf8 && fields())
}

/// RCPT with what the client wants to be told, if the server can tell it.
pub fn rcpt_command(recipient: &Recipient, offers: &Offers) -> String {
    let mut command = format!("RCPT TO:{}", recipient.address.path());
    if offers.has("DSN") {
        if let Some(notify) = recipient.options.notify {
            command.push_str(&format!(" NOTIFY={notify}"));
        }
        if let Some(orcpt) = &recipient.options.orcpt {
            // in ASCII, for MAIL may not have said SMTPUTF8 even if the server offers it (RFC 6533 3)
            command.push_str(&format!(" ORCPT={}", orcpt.encoded(false)));
        }
    }
    command
}

impl Open {
    /// Sends the envelope; gives the reply to each recipient.
    ///
    /// # Errors
    /// The sender is refused, or the connection is lost.
    pub fn envelope(&mut self, mail: String, recipients: Vec<String>) -> Result<Vec<Reply>, Trouble> {
        let mut commands = vec![mail];
        commands.extend(recipients);
        let size = if self.offers.has("PIPELINING") { BATCH } else { 1 };
        let mut replies = Vec::with_capacity(commands.len());
        for batch in commands.chunks(size) {
            let (some, lost) = self.link.batch(batch)?;
            replies.extend(some);
            expect_yes(replies[0].clone())?;
            if let Some(why) = lost {
                let refusal = replies.into_iter().find(Reply::is_refusal);
                return Err(refusal.map_or_else(|| why.into(), Trouble::Refused));
            }
        }
        replies.remove(0);
        // an answer that is neither yes nor no makes no sense of the others
        match replies.iter().find(|reply| !reply.is_positive() && !reply.is_refusal()) {
            Some(strange) => Err(Trouble::Nothing(format!("strange answer {strange}"))),
            None => Ok(replies),
        }
    }

    /// Sends the content, and reads `answers` replies to it: one with SMTP, one for each accepted recipient with
    /// LMTP. What is no yes and no refusal, or does not come, is given as words, and so is all behind it: it could be
    /// anybody's. With LMTP a reply too many makes all of them so.
    ///
    /// # Errors
    /// The content was not sent to its end.
    pub fn content(&mut self, message: &Message, kind: BodyKind, answers: usize) -> Result<Vec<Answered>, Trouble> {
        match kind {
            BodyKind::Binary => self.link.binary(message).map_err(|(why, begun)| match begun {
                true => Trouble::Unknown(why.to_string()),
                false => Trouble::Nothing(why.to_string()),
            })?,
            _ => self.data(message)?,
        }
        let reply = |_| self.link.last_reply().map_err(|why| why.to_string());
        let mut replies: Vec<Answered> = (0..answers).map(reply).collect();
        if self.lmtp && replies.iter().all(Result::is_ok) && self.link.has_said_more() {
            replies.fill(Err("there are more answers than recipients".to_owned()));
        }
        Ok(replies)
    }

    /// Sends the content where there is one reply to it; gives that, a yes.
    ///
    /// # Errors
    /// It was not sent to its end, or there is no yes.
    pub fn content_for_all(&mut self, message: &Message, kind: BodyKind) -> Result<Reply, Trouble> {
        match self.content(message, kind, 1)?.pop() {
            Some(Ok(reply)) => expect_yes(reply),
            Some(Err(why)) => Err(Trouble::Unknown(why)),
            None => Err(Trouble::Unknown("no answer".to_owned())),
        }
    }

    fn data(&mut self, message: &Message) -> Result<(), Trouble> {
        let reply = self.link.command("DATA")?;
        if reply.code != 354 {
            return Err(expect_yes(reply).map_or_else(|e| e, |_| Trouble::Nothing("no go-ahead for DATA".into())));
        }
        let dots = self.link.message(message);
        let dots = dots.map_err(|(why, refusal)| refusal.map_or_else(|| why.into(), Trouble::Refused))?;
        // from here on the server may have the message
        dots.finish()
            .map_err(|why| Trouble::Unknown(Lost::from(why).to_string()))
    }
}
