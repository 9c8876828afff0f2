//! Pass messages on to another SMTP server (catalogue 20.5).
//!
//! The client hears 250 only after that server has said 250 to the message; what it refuses is refused, for now or for
//! good, in its words. All recipients or none: if it refuses one, nothing is sent. A link that breaks, or a server that
//! does not make sense, is a temporary failure. If it breaks between the end of the message and the reply, nobody can
//! know whether the server has taken the message; the client will send it again, so it may then arrive twice.

mod xclient;

use std::path::PathBuf;

use super::client::report::{Action, Told, is_wanted, report, send};
use super::client::{
    Client, Hosts, Mode, Open, Reply, Secure, SecureArguments, Trouble, expect_yes, latest, mail_command, rcpt_command,
    targets, words,
};
use crate::plugin::*;

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
        /// A further server, HOST or HOST:PORT, for when those before it do not answer; may be given several times.
        fallback: Vec<String>,
        /// For how many seconds a server that has not answered is only tried after the others.
        rest: u32 = 60,
        /// How many seconds to wait for a connection or an answer.
        timeout: u32 = 60,
        /// How many seconds to wait for the answer to the message. All in all it never takes more than 540, since
        /// clients do not wait longer than 600.
        final_timeout: u32 = 300,
        /// For how many seconds a connection is kept for a further message of the same worker; 0 ends it at once.
        keep: u32 = 30,
        /// After how many messages a connection is ended in any case.
        messages: u32 = 100,
        /// Encryption: off; opportunistic, if the server offers it, and in clear if that fails; required, whoever the
        /// server is; verified, by a CA; fingerprint, of the server's certificate; dane, by TLSA records under
        /// DNSSEC, and opportunistic where there are none.
        tls: Mode = Mode::Opportunistic,
        /// The file of the CAs for 'tls verified', in place of those that the system trusts.
        tls_ca: Option<PathBuf>,
        /// SHA-256 of a certificate for 'tls fingerprint'; may be given several times.
        tls_fingerprint: Vec<String>,
        /// The name that the server's certificate must have, if it is not that of the host.
        tls_name: Option<String>,
        /// TLS begins with the connection, as usual on port 465, where this goes without saying.
        @flag smtps: bool,
        /// A file with one line 'user:password', to log in with AUTH PLAIN, LOGIN or CRAM-MD5. The server is then told
        /// who has submitted the message, if a trusted client has named somebody (AUTH= of MAIL); else AUTH=<>.
        login: Option<PathBuf>,
        /// Log in without TLS, too. Whoever listens learns the password.
        @flag login_in_clear: bool,
        /// The server takes BINARYMIME, so that clients are offered it. What it does not take then is refused.
        @flag binarymime: bool,
    }
    state { client: Client }
    hooks [queue]
    with [setup, takes]
}

impl SmtpForward {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        let hosts = targets(&self.host, self.port, &self.fallback)?;
        let secure = SecureArguments {
            mode: self.tls,
            ca: self.tls_ca.clone(),
            fingerprints: &self.tls_fingerprint,
            name: self.tls_name.clone(),
            at_once: self.smtps || (self.port == 465 && self.tls != Mode::Off),
        };
        let login = self.login.as_deref().map(Login::read).transpose()?;
        let login = login.map(|(login, remark)| {
            remark.into_iter().for_each(|why| at.warn(why));
            login
        });
        self.client = Client {
            secure: Secure::new(secure, hosts.len())?,
            hosts: Hosts::new(hosts, self.rest),
            login,
            login_in_clear: self.login_in_clear,
            timeout: self.timeout,
            final_timeout: self.final_timeout,
            // what XCLIENT has said of one client is not true of the next
            keep: if self.xclient { 0 } else { self.keep },
            most: self.messages,
            ..Client::default()
        };
        Ok(())
    }

    /// What the server behind cannot keep of it is refused, or told to the sender.
    fn takes(&self) -> Extensions {
        Extensions {
            binary: self.binarymime,
            requiretls: self.client.secure.knows_the_server(),
            ..Extensions::ALL
        }
    }

    fn queue(&self, s: &mut Session) -> Answer {
        let Some(transaction) = &s.transaction else {
            return declined();
        };
        let introduce = |open: &mut Open| self.introduce(open, s);
        let outcome = self
            .client
            .over(s, latest(), &introduce, &mut |open| self.deliver(open, s, transaction));
        match outcome {
            Ok(reply) => {
                let text = reply.parts().1;
                let id = text.split_whitespace().next_back().unwrap_or("unknown");
                ok_with(format!("queued as {id}"))
            }
            Err(why) => why.answer(s, &self.host, "the next mail server"),
        }
    }

    /// Tells the server who the client is.
    fn introduce(&self, open: &mut Open, s: &Session) -> Result<(), Trouble> {
        if !self.xclient {
            return Ok(());
        }
        let Some(wanted) = open.offers.get("XCLIENT") else {
            return Err(Trouble::Nothing("it does not offer XCLIENT".into()));
        };
        for command in xclient::commands(s, wanted) {
            expect_yes(open.link.command(&command)?)?;
        }
        // who we were is forgotten
        open.logged_in = false;
        Ok(())
    }

    /// Passes the message on; the reply is a positive one to the whole of it.
    fn deliver(&self, open: &mut Open, s: &Session, transaction: &Transaction) -> Result<Reply, Trouble> {
        if self.xclient {
            // now it speaks to our client, whom it may refuse for good
            open.hello(xclient::hello_name(s))?;
        }
        let mail = mail_command(transaction, open)?;
        let recipients = transaction.recipients.iter();
        let recipients = recipients.map(|one| rcpt_command(one, &open.offers)).collect();
        for reply in open.envelope(mail, recipients)? {
            expect_yes(reply)?;
        }
        let reply = open.content_for_all(&transaction.message, transaction.options.body)?;
        if !open.offers.has("DSN") {
            self.tell(open, s, transaction, &reply);
        }
        Ok(reply)
    }

    /// Tells a sender who wants to hear of success that nobody will tell him more (RFC 3461 5.2.2).
    fn tell(&self, open: &mut Open, s: &Session, transaction: &Transaction, reply: &Reply) {
        let told: Vec<Told<'_>> = transaction
            .recipients
            .iter()
            .filter(|one| is_wanted(one, Action::Relayed) && !transaction.sender.is_null())
            .map(|recipient| Told {
                recipient,
                action: Action::Relayed,
                status: Status(2, 0, 0),
                reply: reply.to_string(),
            })
            .collect();
        if told.is_empty() {
            return;
        }
        let made = report(s, transaction, &told, &self.host).map_err(|why| why.to_string());
        let sent = made.and_then(|made| send(open, &made, &transaction.sender).map_err(|why| words(&why)));
        if let Err(why) = sent {
            warning!(
                s,
                "{} is not told that the message was passed on: {why}",
                transaction.sender.path()
            );
        }
    }
}

#[cfg(test)]
mod tests;
