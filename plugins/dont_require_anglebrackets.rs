//! Accepts addresses without angle brackets (catalogue 14.8).

use crate::plugin::*;

plugin! {
    /// Accepts addresses in MAIL and RCPT that stand without the angle brackets of RFC 5321.
    "dont_require_anglebrackets", DontRequireAnglebrackets {
    }
    hooks [mail_pre, rcpt_pre]
}

impl DontRequireAnglebrackets {
    fn mail_pre(&self, s: &mut Session, address: &str, _params: &Params) -> Answer {
        bracketed(s, address, "MAIL")
    }

    fn rcpt_pre(&self, s: &mut Session, address: &str, _params: &Params) -> Answer {
        bracketed(s, address, "RCPT")
    }
}

/// The address with brackets. One that has only one of them stays broken, so that the parser names the fault.
fn bracketed(s: &mut Session, address: &str, verb: &str) -> Answer {
    if address.starts_with('<') || address.ends_with('>') {
        return ok_with(address.to_owned());
    }
    s.adjust_karma(-2);
    info!(s, "fail, added {verb} angle brackets");
    ok_with(format!("<{address}>"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(t: &mut Kit, address: &str) -> [String; 2] {
        let params = &Params::new();
        [
            t.ask(Event::MailPre { address, params }).ok().text,
            t.ask(Event::RcptPre { address, params }).ok().text,
        ]
    }

    #[test]
    fn brackets_are_added_where_there_are_none() {
        let mut t = Kit::load(&DECLARATION, "");
        assert_eq!(both(&mut t, "a@example.com"), ["<a@example.com>", "<a@example.com>"]);
        assert_eq!(
            t.logged(),
            [
                "(mail_pre) dont_require_anglebrackets: karma -2 (-2)",
                "(mail_pre) dont_require_anglebrackets: fail, added MAIL angle brackets",
                "(rcpt_pre) dont_require_anglebrackets: karma -2 (-4)",
                "(rcpt_pre) dont_require_anglebrackets: fail, added RCPT angle brackets",
            ]
        );
    }

    #[test]
    fn what_has_brackets_stays() {
        let mut t = Kit::load(&DECLARATION, "");
        for address in ["<a@example.com>", "<>", "<a@example.com", "a@example.com>"] {
            assert_eq!(both(&mut t, address), [address, address]);
        }
        assert!(t.logged().is_empty());
        assert_eq!(t.s.karma.score, None);
    }
}
