//! Deliver messages to a server of LMTP (RFC 2033), such as Dovecot.
//!
//! That server answers for each recipient, and the client hears one answer (unless it speaks LMTP itself). It hears
//! 250 only if each recipient has the message, or the sender has been told, in a report that another server has taken,
//! who has not. It is asked to try again only as long as nobody has the message, so that nobody gets it twice, but for
//! two cases where it might be lost otherwise. Behind an answer that makes no sense, and when there are more answers
//! than recipients, nobody can know whose they are: they count as none. And the null sender must not be told (RFC 5321
//! 6.1): such a message is asked for again if that may help those who have not got it; else the client hears 554.

mod fates;

use std::path::PathBuf;
use std::time::Instant;

use super::client::report::{Action, Told, is_wanted, report, send};
use super::client::{
    Answered, Client, Hosts, Mode, Open, Reply, Secure, SecureArguments, Trouble, latest, mail_command, rcpt_command,
    words,
};
use crate::plugin::*;
use fates::{Fates, delivered, has_it, nobody, outcomes, partly};

plugin! {
    /// Delivers messages to a server of LMTP. If it refuses a recipient before the message is sent, and no server for
    /// reports is named, the message is refused as a whole. If some have the message and others not, the sender gets
    /// a report, through the server for reports or else through the same one; if no report can be sent, the client
    /// hears 554 with the names of those who do not have the message. Of a message from the null sender, a report
    /// itself, there is none: the client hears 4xx with the names if another try may help, so that the others get it
    /// twice, and 554 otherwise.
    "queue/lmtp", Lmtp {
        /// The server: the path of a unix socket, or a host, HOST or HOST:PORT.
        @1 server: String,
        /// The port of a host that is named without one.
        @2 port: u16 = 24,
        /// An SMTP server that takes reports to senders and sends them on, HOST or HOST:PORT.
        bounces: Option<String>,
        /// How many seconds to wait for a connection or an answer.
        timeout: u32 = 60,
        /// How many seconds to wait for the answers to the message. All in all it never takes more than 540, since
        /// clients do not wait longer than 600.
        final_timeout: u32 = 300,
        /// For how many seconds a connection is kept for a further message of the same worker; 0 ends it at once.
        keep: u32 = 30,
        /// After how many messages a connection is ended in any case.
        messages: u32 = 100,
        /// Encryption towards a host, as with queue/smtp-forward; a unix socket needs none.
        tls: Mode = Mode::Opportunistic,
        /// The file of the CAs for 'tls verified', in place of those that the system trusts.
        tls_ca: Option<PathBuf>,
        /// SHA-256 of a certificate for 'tls fingerprint'; may be given several times.
        tls_fingerprint: Vec<String>,
        /// The name that the server's certificate must have, if it is not that of the host.
        tls_name: Option<String>,
    }
    state { client: Client, reports: Option<Client> }
    hooks [queue]
    with [setup, takes]
}

impl Lmtp {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        let secure = SecureArguments {
            mode: self.tls,
            ca: self.tls_ca.clone(),
            fingerprints: &self.tls_fingerprint,
            name: self.tls_name.clone(),
            at_once: false,
        };
        let client = |to: &str, port, lmtp, secure| {
            Ok::<_, String>(Client {
                lmtp,
                hosts: Hosts::new(vec![Target::parse(to, port)?], 0),
                secure,
                timeout: self.timeout,
                final_timeout: self.final_timeout,
                keep: if lmtp { self.keep } else { 0 },
                most: self.messages,
                ..Client::default()
            })
        };
        let reports = match &self.bounces {
            Some(to) => Some(client(to, 25, false, Secure::new(SecureArguments::default(), 1)?)?),
            None => None,
        };
        self.client = client(&self.server, self.port, true, Secure::new(secure, 1)?)?;
        self.reports = reports;
        Ok(())
    }

    fn takes(&self) -> Extensions {
        Extensions {
            dsn: true,
            utf8: true,
            ..Extensions::default()
        }
    }

    fn queue(&self, s: &mut Session) -> Answer {
        let Some(transaction) = &s.transaction else {
            return declined();
        };
        let end = latest();
        let mut tells = false;
        let outcome = self.client.over(s, end, &|_| Ok(()), &mut |open| {
            tells = open.offers.has("DSN");
            self.deliver(open, s, transaction)
        });
        match outcome {
            Ok(fates) => {
                let answer = self.fold(s, transaction, &fates, tells, end);
                let each = if s.lmtp { outcomes(&fates) } else { Vec::new() };
                if let Some(transaction) = &mut s.transaction {
                    each.into_iter()
                        .for_each(|(number, one)| transaction.settle(number, one));
                }
                answer
            }
            Err(why) => why.answer(s, &self.server, "the server of the mailboxes"),
        }
    }

    /// Delivers the message. If nobody has it in the end, that is an error: the one that lets the client try again, if
    /// there is such a one.
    fn deliver<'a>(&self, open: &mut Open, s: &Session, transaction: &'a Transaction) -> Result<Fates<'a>, Trouble> {
        let recipients = &transaction.recipients;
        let mail = mail_command(transaction, open)?;
        let commands = recipients.iter().map(|one| rcpt_command(one, &open.offers)).collect();
        let replies = open.envelope(mail, commands)?;
        let accepted = replies.iter().filter(|reply| reply.is_positive()).count();
        if s.lmtp && accepted == 0 {
            return Ok(recipients.iter().zip(replies.into_iter().map(Ok)).collect());
        }
        let refusals = || replies.iter().filter(|reply| reply.is_refusal() && !s.lmtp);
        let soft = refusals().find(|reply| reply.code / 100 == 4);
        // nobody has the message yet, so that it can still be refused, for now or for good
        let partly = self.reports.is_some() && accepted > 0 && !transaction.sender.is_null();
        if let Some(reply) = soft.or(refusals().next().filter(|_| !partly)) {
            let at = replies.iter().position(|other| std::ptr::eq(other, reply));
            let who = at.map_or_else(String::new, |at| recipients[at].address.path());
            info!(s, "fail, {who}: {reply}");
            return Err(Trouble::Refused(reply.clone()));
        }
        let mut answers = open
            .content(&transaction.message, transaction.options.body, accepted)?
            .into_iter();
        let fates = recipients.iter().zip(replies).map(|(recipient, reply)| {
            let fate = match reply.is_positive() {
                true => answers.next().unwrap_or_else(|| Err("no answer".to_owned())),
                false => Ok(reply),
            };
            (recipient, fate)
        });
        let fates: Fates<'a> = fates.collect();
        match s.lmtp || fates.iter().any(|(_, fate)| has_it(fate)) {
            true => Ok(fates),
            false => Err(nobody(&fates)),
        }
    }

    /// One answer to the client, where at least one recipient has the message. A client of LMTP hears of the others,
    /// and tells the sender by itself.
    fn fold(&self, s: &Session, transaction: &Transaction, fates: &Fates<'_>, tells: bool, end: Instant) -> Answer {
        let said = |fate: &Answered| match fate {
            Ok(reply) => reply.to_string(),
            Err(why) => format!("not confirmed: {why}"),
        };
        let mut told = Vec::new();
        let mut failed = Vec::new();
        for (recipient, fate) in fates {
            let action = if has_it(fate) {
                Action::Delivered
            } else {
                Action::Failed
            };
            let reply = said(fate);
            let status = match (action, fate) {
                (Action::Delivered, _) => Status(2, 0, 0),
                (_, Ok(reply)) => reply.parts().0.unwrap_or(Status((reply.code / 100) as u8, 0, 0)),
                (_, Err(_)) => Status(4, 4, 2),
            };
            if action == Action::Failed {
                notice!(s, "fail, {}: {reply}", recipient.address.path());
                failed.push(recipient.address.path());
            }
            let by_others = match action {
                Action::Failed => s.lmtp,
                _ => tells,
            };
            if is_wanted(recipient, action) && !by_others {
                told.push(Told {
                    recipient,
                    action,
                    status,
                    reply,
                });
            }
        }
        if transaction.sender.is_null() && !failed.is_empty() && !s.lmtp {
            let names = failed.join(", ");
            error!(s, "error, nobody is told that a report has not reached {names}");
            return partly(fates, &failed, true);
        }
        if told.is_empty() || transaction.sender.is_null() {
            return delivered(fates);
        }
        match self.tell(s, transaction, &told, end) {
            Ok(()) => info!(s, "{} is told what became of the message", transaction.sender.path()),
            Err(why) if failed.is_empty() => {
                warning!(s, "{} is not told of the delivery: {why}", transaction.sender.path());
            }
            // the client's server tells the sender then
            Err(why) => {
                error!(s, "error, no report to {}: {why}", transaction.sender.path());
                return partly(fates, &failed, false);
            }
        }
        delivered(fates)
    }

    /// Sends a report, in the time that is left; the error is why it came to nothing.
    fn tell(&self, s: &Session, transaction: &Transaction, told: &[Told<'_>], end: Instant) -> Result<(), String> {
        let made = report(s, transaction, told, &self.server).map_err(|why| why.to_string())?;
        let client = self.reports.as_ref().unwrap_or(&self.client);
        let sent = client.over(s, end, &|_| Ok(()), &mut |open| send(open, &made, &transaction.sender));
        sent.map_err(|why| words(&why))
    }
}

#[cfg(test)]
mod tests;
