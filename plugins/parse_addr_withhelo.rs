//! Parses addresses strictly for clients that said HELO (catalogue 14.9).

use crate::plugin::*;

plugin! {
    /// Refuses parameters of MAIL and RCPT from clients that said HELO, as only EHLO offers any.
    ///
    /// Clients that said EHLO are left to the parser of the core.
    "parse_addr_withhelo", ParseAddrWithhelo {
    }
    hooks [mail_parse, rcpt_parse]
}

impl ParseAddrWithhelo {
    fn mail_parse(&self, s: &mut Session, line: &str) -> Answer {
        parse(s, PathVerb::Mail, line)
    }

    fn rcpt_parse(&self, s: &mut Session, line: &str) -> Answer {
        parse(s, PathVerb::Rcpt, line)
    }
}

fn parse(s: &Session, verb: PathVerb, line: &str) -> Answer {
    if s.hello.as_ref().is_none_or(|hello| hello.kind != HelloKind::Helo) {
        return declined();
    }
    match strict_line(verb, line) {
        Ok(path) => parsed(path),
        Err(why) => {
            info!(s, "fail, {why}");
            deny(why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(t: &mut Kit, line: &str) -> Outcome {
        t.ask(Event::MailParse { line })
    }

    fn rcpt(t: &mut Kit, line: &str) -> Outcome {
        t.ask(Event::RcptParse { line })
    }

    #[track_caller]
    fn gives(outcome: Outcome, address: &str) {
        let path = outcome.ok().path;
        assert_eq!(path.as_ref().map(|path| path.address.as_str()), Some(address));
        assert!(path.is_some_and(|path| path.params.is_empty()));
    }

    #[test]
    fn after_helo_there_are_no_parameters() {
        let mut t = Kit::load(&DECLARATION, "");
        t.helo("a.example").declined();
        gives(mail(&mut t, "FROM:<a@example.org>"), "<a@example.org>");
        gives(mail(&mut t, "from: a@example.org"), "a@example.org");
        gives(mail(&mut t, "FROM:"), "<>");
        gives(rcpt(&mut t, "TO:<b@example.com>"), "<b@example.com>");
        gives(rcpt(&mut t, "TO:Postmaster"), "Postmaster");
        gives(rcpt(&mut t, "TO:abuse"), "abuse");
        t.logged();
        mail(&mut t, "FROM:<a@example.org> SIZE=10").denied("no parameters allowed");
        assert_eq!(
            t.logged(),
            ["(mail_parse) parse_addr_withhelo: fail, no parameters allowed"]
        );
        mail(&mut t, "FROM:a@example.org SIZE=10").denied("no parameters allowed");
        mail(&mut t, "FROM:joe").denied("syntax error");
        mail(&mut t, "<a@example.org>").denied("syntax error");
        rcpt(&mut t, "TO:<b@example.com> NOTIFY=NEVER").denied("no parameters allowed");
        rcpt(&mut t, "TO:joe").denied("syntax error");
    }

    #[test]
    fn after_ehlo_the_core_parses() {
        let mut t = Kit::load(&DECLARATION, "");
        mail(&mut t, "FROM:<a@example.org> SIZE=10").declined();
        t.ehlo("a.example").declined();
        mail(&mut t, "FROM:<a@example.org> SIZE=10").declined();
        rcpt(&mut t, "TO:<b@example.com> NOTIFY=NEVER").declined();
    }
}
