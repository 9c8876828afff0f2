//! Refuses clients that other plugins found naughty, at a moment of the operator's choice (catalogue 13.13).

use crate::plugin::*;

plugin! {
    /// Refuses clients that another plugin has found bad and deferred with `reject naughty`.
    ///
    /// A client that authenticates before that moment is forgiven. Whatever the moment, what is still naughty when
    /// its message has come in is refused then.
    "naughty", Naughty {
        /// When to refuse: connect, mail, rcpt, data or data_post. With rcpt it must stand before rcpt_ok.
        reject: Moment = Moment::Rcpt,
        /// How to refuse where the plugin that found the client bad does not say it.
        reject_type: Verdict = Verdict::DenyDisconnect,
    }
    hooks [connect, mail, rcpt, data, data_post]
}

/// The hook at which naughty clients are refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Connect,
    Mail,
    Rcpt,
    Data,
    DataPost,
}

impl Moment {
    const NAMES: [(&str, Moment); 5] = [
        ("connect", Moment::Connect),
        ("mail", Moment::Mail),
        ("rcpt", Moment::Rcpt),
        ("data", Moment::Data),
        ("data_post", Moment::DataPost),
    ];
}

impl Arg for Moment {
    const WANTS: &'static str = "connect, mail, rcpt, data or data_post";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let found = Moment::NAMES.iter().find(|(name, _)| *name == word);
        *slot = Some(found.map_or(Moment::DataPost, |(_, moment)| *moment));
        let unknown = || format!("'{word}' is not {}; data_post is taken", Self::WANTS);
        Ok(found.is_none().then(unknown))
    }

    fn show(&self) -> String {
        let found = Moment::NAMES.iter().find(|(_, moment)| moment == self);
        found.map_or("", |(name, _)| name).to_owned()
    }
}

impl Naughty {
    fn judge(&self, s: &Session, now: Moment) -> Answer {
        if now != self.reject && now != Moment::DataPost {
            return declined();
        }
        if !s.naughty.is_set() {
            info!(s, "pass");
            return declined();
        }
        info!(s, "disconnecting");
        answer(s.naughty.reject_type().unwrap_or(self.reject_type), s.naughty.text())
    }

    fn connect(&self, s: &mut Session) -> Answer {
        self.judge(s, Moment::Connect)
    }

    fn mail(&self, s: &mut Session, _sender: &Address, _params: &Params) -> Answer {
        self.judge(s, Moment::Mail)
    }

    fn rcpt(&self, s: &mut Session, _recipient: &Address, _params: &Params) -> Answer {
        self.judge(s, Moment::Rcpt)
    }

    fn data(&self, s: &mut Session) -> Answer {
        self.judge(s, Moment::Data)
    }

    fn data_post(&self, s: &mut Session) -> Answer {
        self.judge(s, Moment::DataPost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(t: &mut Kit, moment: &str) -> Outcome {
        match moment {
            "connect" => t.ask(Event::Connect),
            "mail" => t.mail("a@example.org"),
            "rcpt" => t.rcpt("b@example.com"),
            "data" => t.ask(Event::Data),
            _ => t.ask(Event::DataPost),
        }
    }

    #[test]
    fn refuses_at_the_moment_asked_for_and_at_the_end() {
        for (arguments, chosen) in [
            ("", "rcpt"),
            ("reject rcpt", "rcpt"),
            ("reject connect", "connect"),
            ("reject mail", "mail"),
            ("reject data", "data"),
            ("reject data_post", "data_post"),
        ] {
            let mut t = Kit::load(&DECLARATION, arguments);
            t.s.naughty.add("(dnsbl) listed".to_owned(), None);
            for (moment, _) in Moment::NAMES {
                let outcome = at(&mut t, moment);
                if moment == chosen || moment == "data_post" {
                    outcome.is(Verdict::DenyDisconnect).says("(dnsbl) listed");
                    assert_eq!(t.logged(), [format!("({moment}) naughty: disconnecting")]);
                } else {
                    outcome.declined();
                    assert!(t.logged().is_empty(), "{arguments} at {moment}");
                }
            }
        }
    }

    #[test]
    fn good_clients_pass() {
        let mut t = Kit::load(&DECLARATION, "");
        at(&mut t, "rcpt").declined();
        assert_eq!(t.logged(), ["(rcpt) naughty: pass"]);
        t.s.naughty.add("(helo) forged".to_owned(), None);
        assert!(t.s.naughty.clear());
        at(&mut t, "data_post").declined();
    }

    #[test]
    fn the_plugin_that_found_it_says_how() {
        let mut t = Kit::load(&DECLARATION, "reject data reject_type perm");
        t.s.naughty.add("(a) one".to_owned(), None);
        at(&mut t, "data").denied("(a) one");
        t.s.naughty.add("(b) two".to_owned(), Some(Verdict::DenySoft));
        let both = at(&mut t, "data").deferred("(a) one").text;
        assert_eq!(both, "(a) one\n(b) two");
    }

    #[test]
    fn an_unknown_moment_is_the_last_one() {
        let faults = Kit::faults(&DECLARATION, "reject hook_queue_post");
        assert!(faults[0].starts_with("config/plugins:1:16: warning: naughty: 'hook_queue_post' is not connect,"));
        let mut t = Kit::load(&DECLARATION, "reject hook_queue_post");
        t.s.naughty.add("(a) one".to_owned(), None);
        at(&mut t, "rcpt").declined();
        at(&mut t, "data_post").is(Verdict::DenyDisconnect);
    }
}
