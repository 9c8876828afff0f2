//! Refuse senders that a list names (catalogue 16.1).

use crate::plugin::*;

plugin! {
    /// Refuses the senders that FILE badmailfrom names.
    ///
    /// A line is an entry and words for the client: `@spam.example we do not want your mail`. An entry is an
    /// address, a domain with an @ before it, or a regular expression; case never matters. What has one of
    /// / ^ $ * ! % ? \ in it is a regular expression, and compared as an address too. A plus sign makes a
    /// regular expression only behind a dot or a closing bracket: `user+tag@example.com` is an address.
    /// The older FILE badmailfrom_patterns has a regular expression in every line.
    "badmailfrom", BadMailFrom {
        /// What becomes of such a sender: 0, 1 or naughty; and reject_type.
        reject: Reject = Reject::on(),
        /// When to refuse: mail; rcpt, as releases before 0.90; qmail, as qmail-smtpd, with 553 at each RCPT.
        at: Moment = Moment::Mail,
    }
    files ["badmailfrom", "badmailfrom_patterns"]
    state { lists: AddressFiles }
    hooks [mail, rcpt]
    with [setup]
}

const FILES: [&str; 2] = ["badmailfrom", "badmailfrom_patterns"];

/// When a bad sender is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At RCPT, with qmail's reply code.
    Qmail,
}

impl Moment {
    const NAMES: [(&str, Moment); 3] = [("mail", Moment::Mail), ("rcpt", Moment::Rcpt), ("qmail", Moment::Qmail)];
}

impl Arg for Moment {
    const WANTS: &'static str = "mail, rcpt or qmail";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let found = Moment::NAMES.iter().find(|(name, _)| *name == word);
        let (_, moment) = found.ok_or_else(|| format!("'{word}' is not {}", Self::WANTS))?;
        *slot = Some(*moment);
        Ok(None)
    }

    fn show(&self) -> String {
        let found = Moment::NAMES.iter().find(|(_, moment)| moment == self);
        found.map_or("", |(name, _)| name).to_owned()
    }
}

/// Note on a transaction: its sender is to be refused at RCPT, with these words.
struct BadSender(String);

impl BadMailFrom {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.lists.load(at, FILES);
        Ok(())
    }

    fn mail(&self, s: &mut Session, sender: &Address, _: &Params) -> Answer {
        if s.is_immune() {
            return declined();
        }
        if self.lists.is_empty(s, FILES)? {
            debug!(s, "skip, empty list");
            return declined();
        }
        if sender.host().is_none() {
            debug!(s, "skip, null sender");
            return declined();
        }
        let Some(text) = self.lists.find(s, FILES, sender)? else {
            info!(s, "pass");
            return declined();
        };
        s.adjust_karma(-1);
        let text = match &*text {
            "" => "your address is on our list of bad senders".to_owned(),
            text => text.to_owned(),
        };
        if self.at == Moment::Mail || self.reject.mode() != Mode::Refuse {
            return self.reject.refuse(s, text, &sender.address());
        }
        if let Some(transaction) = &mut s.transaction {
            transaction.notes.put(BadSender(text));
        }
        declined()
    }

    fn rcpt(&self, s: &mut Session, _: &Address, _: &Params) -> Answer {
        let notes = s.transaction.as_ref().map(|transaction| &transaction.notes);
        let Some(BadSender(text)) = notes.and_then(|notes| notes.get()) else {
            return declined();
        };
        let (text, sender) = (text.clone(), s.sender().address());
        let answer = self.reject.refuse(s, text, &sender);
        match self.at {
            Moment::Qmail => with_code(553, answer),
            _ => answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(arguments: &str) -> Kit {
        let mut t = Kit::load(&DECLARATION, arguments);
        t.config(
            "badmailfrom",
            &["Bad@Example.com", "@spam.example no spam", "^offers[0-9]+@ no offers"],
        );
        t.config("badmailfrom_patterns", &["b.d2 by pattern"]);
        t
    }

    #[test]
    fn bad_senders_are_refused() {
        let mut t = kit("");
        t.mail("bad@EXAMPLE.com").denied("list of bad senders");
        let logged = t.logged();
        assert!(
            logged.contains(&"(mail) badmailfrom: karma -1 (-1)".to_owned()),
            "{logged:?}"
        );
        assert!(
            logged.contains(&"(mail) badmailfrom: fail, bad@EXAMPLE.com".to_owned()),
            "{logged:?}"
        );
        t.mail("x@Spam.example").denied("no spam");
        t.mail("Offers7@a.example").denied("no offers");
        t.mail("bad2@a.example").denied("by pattern");
        assert_eq!(t.s.karma.score, Some(-4));
        t.logged();
        t.mail("good@example.com").declined();
        assert_eq!(t.logged(), ["(mail) badmailfrom: pass"]);
        t.mail("").declined();
        assert_eq!(t.logged(), ["(mail) badmailfrom: skip, null sender"]);
    }

    #[test]
    fn without_a_line_nothing_is_judged() {
        let mut t = Kit::load(&DECLARATION, "");
        t.mail("a@b.example").declined();
        assert_eq!(t.logged(), ["(mail) badmailfrom: skip, empty list"]);
    }

    #[test]
    fn the_immune_are_not_asked() {
        let mut t = kit("");
        t.s.relay_client = true;
        t.mail("bad@example.com").declined();
        assert_eq!(t.logged(), ["(mail) badmailfrom: skip, relay client"]);
    }

    #[test]
    fn reject_and_its_type() {
        let mut t = kit("reject 0");
        t.mail("bad@example.com").declined();
        assert!(t.logged()[1].ends_with("fail, tolerated, bad@example.com"));
        let mut t = kit("reject naughty reject_type disconnect at rcpt");
        t.mail("x@spam.example").declined();
        assert_eq!(t.s.naughty.text(), "(badmailfrom) no spam");
        assert_eq!(t.s.naughty.reject_type(), Some(Verdict::DenyDisconnect));
        t.rcpt("a@b.example").declined();
        kit("reject_type temp").mail("bad@example.com").deferred("");
    }

    #[test]
    fn refusal_can_wait_for_the_recipients() {
        let mut t = kit("at rcpt");
        t.mail("x@spam.example").declined();
        assert_eq!(t.rcpt("a@b.example").denied("no spam").code, None);
        t.rcpt("c@b.example").denied("no spam");
        t.mail("good@example.com").declined();
        t.rcpt("a@b.example").declined();
        let mut t = kit("at qmail");
        t.mail("x@spam.example").declined();
        assert_eq!(t.rcpt("a@b.example").denied("no spam").code, Some(553));
    }

    #[test]
    fn faults_are_found() {
        assert!(Kit::faults(&DECLARATION, "at data")[0].contains("'data' is not mail, rcpt or qmail"));
        let files: &[(&str, &[&str])] = &[("badmailfrom", &["^(broken", "bad@example.com"])];
        let mut t = Kit::load_with(&DECLARATION, "", files);
        t.mail("bad@example.com").denied("");
        t.config("badmailfrom", &["nonsense", "@spam.example"]);
        t.mail("x@spam.example").denied("");
        t.mail("x@spam.example").denied("");
        let told = t.logged().join("\n");
        assert_eq!(
            told.matches("config/badmailfrom:1: 'nonsense' is no address").count(),
            1,
            "{told}"
        );
    }
}
