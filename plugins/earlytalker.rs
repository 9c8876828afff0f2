//! Detects clients that talk before it is their turn (catalogue 13.7).

use std::time::Duration;

use crate::plugin::*;

plugin! {
    /// Detects clients that talk before it is their turn, as programs do that only send and never listen.
    ///
    /// The server waits a moment before it greets, or before it asks for the message, and so costs each client that
    /// time; those with a good record, relay clients and whitelisted hosts are not kept waiting.
    "earlytalker", Earlytalker {
        /// How many seconds to wait; fractions count.
        wait: f64 = 1.0,
        /// What to do about a client that talks: 1 refuses, 0 tolerates, naughty leaves it to that plugin. By
        /// default it refuses for good (550 at connect, 554 at DATA).
        reject: Option<Reject>,
        /// Refuse at MAIL what was noticed at connect, so that the client can log in before.
        defer_reject: bool = false,
        /// When to look: CONNECT, DATA; give it twice for both. By default CONNECT.
        check_at: Vec<Point>,
        /// The old form of reject and reject_type: deny, denysoft or log.
        action: Option<Action>,
    }
    state { manner: Reject }
    hooks [connect, mail, data]
    with [setup]
}

/// A note under this name on the connection, in seconds, takes the place of `wait`.
const WAIT_NOTE: &str = "earlytalker_wait";

/// The port on which clients begin with TLS at once.
const TLS_PORT: u16 = 465;

/// When to look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Point {
    Connect,
    Data,
}

impl Arg for Point {
    const WANTS: &'static str = "CONNECT or DATA";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(match word.to_ascii_uppercase().as_str() {
            "CONNECT" => Point::Connect,
            "DATA" => Point::Data,
            _ => return Err(format!("'{word}' is neither CONNECT nor DATA")),
        });
        Ok(None)
    }
}

/// What old releases were told to do.
#[derive(Clone, Copy)]
enum Action {
    Deny,
    Denysoft,
    Log,
}

impl Arg for Action {
    const WANTS: &'static str = "deny, denysoft or log";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(match word {
            "log" => Action::Log,
            "denysoft" => Action::Denysoft,
            word if word.starts_with("deny") => Action::Deny,
            _ => return Err(format!("'{word}' is not {}", Self::WANTS)),
        });
        Ok(None)
    }
}

/// Note on a connection: it talked early, and is to be refused at MAIL.
struct TalkedEarly;

impl Earlytalker {
    fn setup(&mut self, _at: &mut Loading<'_>) -> Result<(), String> {
        if !(0.0..=600.0).contains(&self.wait) {
            return Err("wait must be from 0 to 600 seconds".to_owned());
        }
        let (mode, kind) = match self.action {
            Some(Action::Log) => (Mode::Tolerate, Verdict::Deny),
            Some(Action::Denysoft) => (Mode::Refuse, Verdict::DenySoft),
            Some(Action::Deny) | None => (Mode::Refuse, Verdict::Deny),
        };
        let given = self.reject.take().unwrap_or_default();
        self.manner = given.complete(Reject::with(mode, kind));
        if self.check_at.is_empty() {
            self.check_at.push(Point::Connect);
        }
        Ok(())
    }

    fn wait(&self, s: &Session) -> Duration {
        // under TLS the client has spoken already; what it sent too much is in our buffers
        if s.tls.is_some() {
            return Duration::ZERO;
        }
        let noted = s.notes.text(WAIT_NOTE).and_then(|text| text.parse().ok());
        Duration::try_from_secs_f64(noted.unwrap_or(self.wait).min(600.0)).unwrap_or_default()
    }

    /// Whether the client talks before its turn.
    fn talks(&self, s: &mut Session) -> bool {
        if let Some(karma) = s.karma.history.filter(|karma| *karma > 5) {
            info!(s, "skip, karma {karma}");
            return false;
        }
        let wait = self.wait(s);
        match s.pending(wait) {
            Pending::Silent => info!(s, "pass, not spontaneous"),
            Pending::Closed => info!(s, "skip, client has closed the connection"),
            Pending::Talking => return true,
        }
        false
    }

    fn refuse(&self, s: &mut Session, text: &'static str) -> Answer {
        s.adjust_karma(-1);
        self.manner.refuse(s, text, "talked before its turn")
    }

    fn connect(&self, s: &mut Session) -> Answer {
        if !self.check_at.contains(&Point::Connect) || s.is_immune() {
            return declined();
        }
        if s.peer.local_port == TLS_PORT && s.tls.is_none() {
            info!(s, "skip, TLS port");
            return declined();
        }
        if !self.talks(s) {
            return declined();
        }
        if self.defer_reject {
            s.adjust_karma(-1);
            info!(s, "fail, deferred to MAIL");
            s.notes.put(TalkedEarly);
            return declined();
        }
        self.refuse(s, "you talked before the greeting")
    }

    fn mail(&self, s: &mut Session, _sender: &Address, _params: &Params) -> Answer {
        if s.notes.get::<TalkedEarly>().is_none() || s.is_immune() {
            return declined();
        }
        self.refuse(s, "you talked before the greeting")
    }

    fn data(&self, s: &mut Session) -> Answer {
        // what follows BDAT is asked for
        if s.transaction.as_ref().is_some_and(|one| one.chunked) {
            return declined();
        }
        if !self.check_at.contains(&Point::Data) || s.is_immune() || !self.talks(s) {
            return declined();
        }
        self.refuse(s, "you sent the message before it was asked for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "(connect) earlytalker: ";

    fn talking(arguments: &str) -> Kit {
        let t = Kit::load(&DECLARATION, arguments);
        t.wire().say("EHLO early\r\n");
        t
    }

    fn last_log(t: &Kit) -> String {
        t.logged().pop().unwrap_or_default()
    }

    #[test]
    fn who_is_silent_passes() {
        let mut t = Kit::load(&DECLARATION, "wait 0.1");
        t.ask(Event::Connect).declined();
        assert_eq!(t.logged(), [format!("{LOG}pass, not spontaneous")]);
        t.mail("a@example.org").declined();
        t.ask(Event::Data).declined();
        assert!(t.logged().is_empty());
    }

    #[test]
    fn who_talks_is_refused_as_the_arguments_say() {
        let connect = |arguments| talking(arguments).ask(Event::Connect);
        connect("").denied("before the greeting");
        connect("reject_type temp").deferred("before the greeting");
        connect("action deny").denied("");
        connect("action denysoft").deferred("");
        connect("action denysoft reject_type disconnect").is(Verdict::DenyDisconnect);
        connect("action log").declined();
        connect("action log reject 1").denied("");
        connect("reject 0 wait 5 check-at connect").declined();
        let mut t = talking("reject naughty reject_type temp");
        t.ask(Event::Connect).declined();
        assert_eq!(
            t.logged(),
            [
                format!("{LOG}karma -1 (-1)"),
                format!("{LOG}fail, NAUGHTY, talked before its turn")
            ]
        );
        assert_eq!(t.s.naughty.reject_type(), Some(Verdict::DenySoft));
        // what was said is still there for the dialogue
        assert_eq!(t.s.pending(Duration::ZERO), Pending::Talking);
    }

    #[test]
    fn data_is_looked_at_when_asked_for() {
        let mut t = talking("check-at DATA");
        t.ask(Event::Connect).declined();
        t.ask(Event::Data).denied("before it was asked for");
        let mut t = talking("check_at CONNECT check-at DATA reject_type soft");
        t.ask(Event::Connect).deferred("");
        t.ask(Event::Data).deferred("");
    }

    #[test]
    fn a_refusal_can_wait_for_mail_and_a_login_forgives() {
        let mut t = talking("defer-reject 1");
        t.ask(Event::Connect).declined();
        assert_eq!(last_log(&t), format!("{LOG}fail, deferred to MAIL"));
        t.mail("a@example.org").denied("before the greeting");
        assert_eq!(t.s.karma.score, Some(-2));
        t.s.relay_client = true;
        t.mail("a@example.org").declined();
        assert_eq!(last_log(&t), "(mail) earlytalker: skip, relay client");
    }

    #[test]
    fn good_clients_do_not_wait() {
        let mut t = talking("");
        t.s.karma.history = Some(6);
        t.ask(Event::Connect).declined();
        assert_eq!(t.logged(), [format!("{LOG}skip, karma 6")]);
        t.s.whitelisted = true;
        t.ask(Event::Connect).declined();
        assert_eq!(t.logged(), [format!("{LOG}skip, whitelisted host")]);
    }

    #[test]
    fn tls_and_the_end_are_no_talk() {
        let mut t = talking("");
        t.s.peer.local_port = TLS_PORT;
        t.ask(Event::Connect).declined();
        assert_eq!(t.logged(), [format!("{LOG}skip, TLS port")]);
        let mut t = Kit::load(&DECLARATION, "");
        t.wire().close();
        t.ask(Event::Connect).declined();
        assert_eq!(t.logged(), [format!("{LOG}skip, client has closed the connection")]);
    }

    #[test]
    fn the_wait_follows_note_and_tls() {
        let mut t = Kit::load(&DECLARATION, "wait 2.5");
        let plugin = Earlytalker {
            wait: 2.5,
            reject: None,
            defer_reject: false,
            check_at: Vec::new(),
            action: None,
            manner: Reject::on(),
        };
        assert_eq!(plugin.wait(&t.s), Duration::from_millis(2500));
        t.s.notes.set_text(WAIT_NOTE, "0.5");
        assert_eq!(plugin.wait(&t.s), Duration::from_millis(500));
        t.s.notes.set_text(WAIT_NOTE, "-1");
        assert_eq!(plugin.wait(&t.s), Duration::ZERO);
        assert_eq!(Kit::faults(&DECLARATION, "wait 1000").len(), 1);
        assert!(Kit::faults(&DECLARATION, "check-at HELO")[0].contains(":1:22: "));
        assert!(Kit::faults(&DECLARATION, "wait")[0].contains("needs a number"));
    }
}
