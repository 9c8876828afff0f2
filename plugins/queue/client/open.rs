//! A connection that is ready for messages: greeted, encrypted, logged in.

use super::secure::Wish;
use super::{Client, Link, Offers, Trouble, Waits, expect_yes};
use crate::plugin::*;

/// It.
pub struct Open {
    /// The connection.
    pub link: Link,
    /// What the server offers, after TLS.
    pub offers: Offers,
    /// The number of the host.
    pub host: usize,
    /// Whether it is known, by TLS, who the server is.
    pub verified: bool,
    /// Whether the server knows who we are, and so wants to hear who has submitted a message (RFC 4954 5).
    pub logged_in: bool,
    /// How many messages it has served.
    pub messages: u32,
    /// Whether LMTP is spoken.
    pub lmtp: bool,
}

/// Why there is none.
enum Failed {
    /// TLS came to nothing; in clear it might do.
    Tls(String),
    Other(Trouble),
}

impl<T: Into<Trouble>> From<T> for Failed {
    fn from(why: T) -> Failed {
        Failed::Other(why.into())
    }
}

impl Open {
    /// Connects to a host. What it refuses says nothing about a message.
    pub fn new(client: &Client, s: &Session, host: usize, waits: Waits) -> Result<Open, Trouble> {
        let target = &client.hosts.all[host];
        let wish = client.secure.wish(s, host, target, waits.left())?;
        let fallback = wish.as_ref().is_some_and(|wish| !wish.must);
        match Open::with(client, s, host, wish, waits) {
            Ok(open) => Ok(open),
            Err(Failed::Other(why)) => Err(why),
            Err(Failed::Tls(why)) if fallback => {
                notice!(s, "{target}: {why}; without TLS then");
                Open::with(client, s, host, None, waits).map_err(|why| match why {
                    Failed::Tls(why) => Trouble::Nothing(why),
                    Failed::Other(why) => why,
                })
            }
            Err(Failed::Tls(why)) => Err(Trouble::Nothing(why)),
        }
    }

    fn with(client: &Client, s: &Session, host: usize, wish: Option<Wish>, waits: Waits) -> Result<Open, Failed> {
        let target = &client.hosts.all[host];
        let mut open = Open {
            link: Link::connect(s, target, waits)?,
            offers: Offers::default(),
            host,
            verified: false,
            logged_in: false,
            messages: 0,
            lmtp: client.lmtp,
        };
        let at_once = wish.as_ref().filter(|_| client.secure.at_once);
        if let Some(wish) = at_once {
            open.encrypt(wish)?;
        }
        expect_yes(open.link.reply(waits.each)?)?;
        open.hello(&s.settings.me)?;
        if let Some(wish) = wish.filter(|_| !client.secure.at_once) {
            open.start_tls(&wish, &s.settings.me)?;
        }
        if let Some(tls) = open.link.tls() {
            debug!(s, "{target}: {tls}");
        }
        if let Some(login) = &client.login {
            open.log_in(login, client.login_in_clear)?;
            open.logged_in = true;
        }
        Ok(open)
    }

    fn encrypt(&mut self, wish: &Wish) -> Result<(), Failed> {
        self.link
            .encrypt(&wish.how)
            .map_err(|why| Failed::Tls(why.to_string()))?;
        self.verified = wish.verified;
        Ok(())
    }

    fn start_tls(&mut self, wish: &Wish, me: &str) -> Result<(), Failed> {
        let without = |why: String| match wish.must {
            true => Err(Trouble::Nothing(why).into()),
            false => Ok(()),
        };
        if !self.offers.has("STARTTLS") {
            return without("it does not offer STARTTLS, and TLS is required".to_owned());
        }
        let reply = self.link.command("STARTTLS")?;
        if !reply.is_positive() {
            return without(format!("it said to STARTTLS: {reply}"));
        }
        self.encrypt(wish)?;
        // what it said in clear anybody may have said
        self.hello(me)?;
        Ok(())
    }

    /// EHLO, or HELO where that is not known; LHLO towards a server of LMTP.
    pub fn hello(&mut self, name: &str) -> Result<(), Trouble> {
        let verb = if self.lmtp { "LHLO" } else { "EHLO" };
        let reply = self.link.command(&format!("{verb} {name}"))?;
        if reply.is_positive() {
            self.offers = Offers(reply.lines.into_iter().skip(1).collect());
            return Ok(());
        }
        if reply.code / 100 == 5 && !self.lmtp && reply.code != 554 {
            expect_yes(self.link.command(&format!("HELO {name}"))?)?;
            self.offers = Offers::default();
            return Ok(());
        }
        expect_yes(reply).map(|_| ())
    }

    /// AUTH (RFC 4954). The password is only sent where nobody can listen, unless that is wanted.
    fn log_in(&mut self, login: &Login, in_clear: bool) -> Result<(), Trouble> {
        let encrypted = self.link.tls().is_some();
        if !encrypted && !in_clear {
            return Err(Trouble::Nothing("the login is not sent without TLS".to_owned()));
        }
        let offered = self.offers.mechanisms();
        let liked = match encrypted {
            true => ["PLAIN", "LOGIN", "CRAM-MD5"],
            // the one that does not show the password
            false => ["CRAM-MD5", "PLAIN", "LOGIN"],
        };
        let mechanism = liked.into_iter().find(|one| offered.iter().any(|offer| offer == one));
        let reply = match mechanism {
            Some("PLAIN") => self.link.command(&format!("AUTH PLAIN {}", login.plain()))?,
            Some("LOGIN") => {
                self.challenge("AUTH LOGIN")?;
                self.challenge(&login.user())?;
                self.link.command(&login.password())?
            }
            Some(_) => {
                let challenge = self.challenge("AUTH CRAM-MD5")?;
                let strange = || Trouble::Nothing("its challenge of CRAM-MD5 is none".to_owned());
                let answer = login.cram_md5(&challenge).ok_or_else(strange)?;
                self.link.command(&answer)?
            }
            None => {
                return Err(Trouble::Nothing(
                    "it offers none of AUTH PLAIN, LOGIN, CRAM-MD5".to_owned(),
                ));
            }
        };
        let refused = |why| match why {
            Trouble::Refused(reply) => Trouble::Nothing(format!("the login was refused: {reply}")),
            other => other,
        };
        expect_yes(reply).map(|_| ()).map_err(refused)
    }

    /// Sends a line of AUTH and expects to be asked for the next.
    fn challenge(&mut self, line: &str) -> Result<String, Trouble> {
        let reply = self.link.command(line)?;
        match reply.code {
            334 => Ok(reply.lines.into_iter().next().unwrap_or_default()),
            _ => Err(Trouble::Nothing(format!("the login was refused: {reply}"))),
        }
    }

    /// Makes a connection that was kept forget the message before.
    pub fn reset(&mut self) -> Result<(), Trouble> {
        expect_yes(self.link.command("RSET")?)
            .map(|_| ())
            .map_err(Trouble::not_of_message)
    }
}
