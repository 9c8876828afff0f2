//! Refuse recipients that a list names (catalogue 17.2).

use crate::plugin::*;

plugin! {
    /// Refuses the recipients that FILE badrcptto names.
    ///
    /// Lines are written as those of badmailfrom: an address, @domain or a regular expression, then words for the
    /// client. The older FILE badrcptto_patterns has a regular expression in every line.
    "badrcptto", BadRcptTo {}
    files ["badrcptto", "badrcptto_patterns"]
    state { lists: AddressFiles }
    hooks [rcpt]
    with [setup]
}

const FILES: [&str; 2] = ["badrcptto", "badrcptto_patterns"];

impl BadRcptTo {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.lists.load(at, FILES);
        Ok(())
    }

    fn rcpt(&self, s: &mut Session, recipient: &Address, _: &Params) -> Answer {
        if s.is_immune() {
            return declined();
        }
        if recipient.host().is_none() || recipient.user().is_empty() {
            info!(s, "skip, no user or no host");
            return declined();
        }
        if self.lists.is_empty(s, FILES)? {
            info!(s, "skip, empty config");
            return declined();
        }
        let Some(text) = self.lists.find(s, FILES, recipient)? else {
            info!(s, "pass");
            return declined();
        };
        s.adjust_karma(-2);
        info!(s, "fail, {recipient}");
        match &*text {
            "" => dsn::no_such_user(""),
            text => deny(text.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit() -> Kit {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(
            "badrcptto",
            &["Old@Example.com closed", "@gone.example", r"^list-\S+@ no lists"],
        );
        t.config("badrcptto_patterns", &["^test.*@ by pattern"]);
        t.mail("a@b.example");
        t
    }

    #[test]
    fn bad_recipients_are_refused() {
        let mut t = kit();
        t.rcpt("old@example.COM").denied("closed");
        assert_eq!(
            t.logged(),
            [
                "(rcpt) badrcptto: karma -2 (-2)",
                "(rcpt) badrcptto: fail, old@example.COM"
            ]
        );
        t.rcpt("x@Gone.example").denied("no such user").status("5.1.1");
        t.rcpt("List-a@b.example").denied("no lists");
        t.rcpt("TESTER@b.example").denied("by pattern");
        assert_eq!(t.s.karma.score, Some(-8));
        t.logged();
        t.rcpt("new@example.com").declined();
        assert_eq!(t.logged(), ["(rcpt) badrcptto: pass"]);
        t.rcpt("postmaster").declined();
        assert_eq!(t.logged(), ["(rcpt) badrcptto: skip, no user or no host"]);
    }

    #[test]
    fn without_a_line_nothing_is_judged() {
        let mut t = Kit::load(&DECLARATION, "");
        t.mail("a@b.example");
        t.rcpt("old@example.com").declined();
        assert_eq!(t.logged(), ["(rcpt) badrcptto: skip, empty config"]);
    }

    #[test]
    fn the_immune_are_not_asked() {
        let mut t = kit();
        t.s.whitelisted = true;
        t.rcpt("old@example.com").declined();
        assert_eq!(t.logged(), ["(rcpt) badrcptto: skip, whitelisted host"]);
    }

    #[test]
    fn an_endless_pattern_defers() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config("badrcptto", &[r"^(.*)(.*)(.*)(.*)\1y$"]);
        t.mail("a@b.example");
        let long = format!("{}@b.example", "a".repeat(60));
        t.rcpt(&long).is(Verdict::DenySoft);
        let mut t = Kit::load(&DECLARATION, "on_error skip");
        t.config("badrcptto", &[r"^(.*)(.*)(.*)(.*)\1y$"]);
        t.mail("a@b.example");
        t.rcpt(&long).declined();
    }
}
