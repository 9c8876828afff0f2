//! Decide about recipients by patterns (catalogue 17.4).

use crate::plugin::*;

plugin! {
    /// Decides about recipients by FILE rcpt_regexp.
    ///
    /// A line is a pattern, the name of a verdict, and words for the client: `/^list-.*@example\.com$/ OK`. A
    /// pattern between slashes is a regular expression, any other is a whole address; case never matters. The first
    /// line that fits counts. An address without a domain (postmaster) is left to other plugins.
    "rcpt_regexp", RcptRegexp {}
    files ["rcpt_regexp"]
    state { rules: Cached<Addresses<Ruling>> }
    hooks [rcpt]
    with [setup]
}

const FILE: &str = "rcpt_regexp";

impl RcptRegexp {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.rules.load(at, FILE, read);
        Ok(())
    }

    fn rcpt(&self, s: &mut Session, recipient: &Address, _: &Params) -> Answer {
        if recipient.host().is_none() {
            debug!(s, "skip, no domain");
            return declined();
        }
        let rules = self.rules.of(s, FILE, read)?;
        let Some(ruling) = rules.find(recipient).map_err(Failure::new)? else {
            debug!(s, "skip, no match");
            return declined();
        };
        match ruling.verdict.denies() {
            true => info!(s, "fail, {recipient}: {} {}", ruling.verdict, ruling.text),
            false => info!(s, "pass, {recipient}: {} {}", ruling.verdict, ruling.text),
        }
        ruling.answer()
    }
}

fn read(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> Addresses<Ruling> {
    let mut rules = Addresses::default();
    for line in lines {
        let (pattern, rest) = entry(line);
        let ruling = match Ruling::parse_reply(rest) {
            Ok(ruling) => ruling,
            Err(why) => {
                complain(line, why);
                continue;
            }
        };
        match pattern.strip_prefix('/').and_then(|inner| inner.strip_suffix('/')) {
            Some(inner) => {
                if let Err(why) = rules.add_pattern(inner, ruling) {
                    complain(line, why);
                }
            }
            None => rules.add_exact(pattern, ruling),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_that_fits_decides() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(
            FILE,
            &[
                r"/^list-.*\@EXAMPLE\.com$/ OK",
                "Joe@Example.com DENYSOFT not now",
                "postmaster OK",
                "/^joe@/ DENY go away",
                "/(/ DENY",
                "/x/ PERHAPS",
                "/y/ DONE",
                "/@example.com$/ DECLINED",
                "/e/ DENY",
            ],
        );
        t.mail("a@b.example");
        t.rcpt("List-a@example.com").ok();
        let logged = t.logged();
        assert!(
            logged[0].contains("config/rcpt_regexp:5: broken regular expression '(': unclosed group"),
            "{logged:?}"
        );
        assert!(
            logged[1].contains("config/rcpt_regexp:6: 'PERHAPS' is no verdict"),
            "{logged:?}"
        );
        assert!(logged[2].contains("config/rcpt_regexp:7: DONE"), "{logged:?}");
        t.rcpt("JOE@EXAMPLE.COM").deferred("not now");
        t.rcpt("joe@example.org").denied("go away");
        t.rcpt("postmaster").declined();
        t.rcpt("xy@example.com").declined();
        t.rcpt("xy@example.org").denied("");
        t.logged();
        t.rcpt("a@b.c").declined();
        assert_eq!(t.logged(), ["(rcpt) rcpt_regexp: skip, no match"]);
    }

    #[test]
    fn an_at_sign_alone_does_not_stand_for_a_domain() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(FILE, &["joe@example.com OK"]);
        t.mail("a@b.example");
        t.rcpt("jim@example.com").declined();
        assert!(Kit::faults(&DECLARATION, "extra")[0].contains("unknown argument 'extra'"));
    }
}
