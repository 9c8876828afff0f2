//! Closes the connection of clients that send one NOOP after the other (catalogue 14.5).

use crate::plugin::*;

plugin! {
    /// Closes the connection of a client that sends too many NOOP commands in a row.
    ///
    /// HELO, EHLO, MAIL, RCPT, DATA, VRFY, HELP and the end of a transaction begin the count anew.
    "noop_counter", NoopCounter {
        /// The NOOP in a row that is one too many.
        @1 max: u32 = 3,
    }
    hooks [noop, helo, ehlo, mail, rcpt, data, reset_transaction, vrfy, help]
}

/// Note on a connection: how many NOOPs came in a row.
#[derive(Default)]
struct Noops(u32);

impl NoopCounter {
    fn noop(&self, s: &mut Session, _rest: &str) -> Answer {
        let count = s.notes.entry::<Noops>();
        count.0 += 1;
        let count = count.0;
        if count < self.max {
            return declined();
        }
        info!(s, "fail, {count} NOOPs in a row");
        deny_disconnect("too many NOOPs in a row, stop wasting my time")
    }

    fn forget(&self, s: &mut Session) -> Answer {
        s.notes.take::<Noops>();
        declined()
    }

    fn helo(&self, s: &mut Session, _host: &str) -> Answer {
        self.forget(s)
    }

    fn ehlo(&self, s: &mut Session, _host: &str) -> Answer {
        self.forget(s)
    }

    fn mail(&self, s: &mut Session, _sender: &Address, _params: &Params) -> Answer {
        self.forget(s)
    }

    fn rcpt(&self, s: &mut Session, _recipient: &Address, _params: &Params) -> Answer {
        self.forget(s)
    }

    fn data(&self, s: &mut Session) -> Answer {
        self.forget(s)
    }

    fn reset_transaction(&self, s: &mut Session) {
        s.notes.take::<Noops>();
    }

    fn vrfy(&self, s: &mut Session, _what: &str) -> Answer {
        self.forget(s)
    }

    fn help(&self, s: &mut Session, _topic: &str) -> Answer {
        self.forget(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOOP: Event<'_> = Event::Noop { rest: "" };

    #[test]
    fn three_in_a_row_are_too_many() {
        let mut t = Kit::load(&DECLARATION, "");
        t.ask(NOOP).declined();
        t.ask(NOOP).declined();
        t.ask(NOOP).is(Verdict::DenyDisconnect).says("NOOP");
        assert_eq!(t.logged(), ["(noop) noop_counter: fail, 3 NOOPs in a row"]);
    }

    #[test]
    fn any_other_command_begins_the_count_anew() {
        let mut t = Kit::load(&DECLARATION, "max 2");
        let others: [fn(&mut Kit) -> Outcome; 9] = [
            |t| t.helo("a.example"),
            |t| t.ehlo("a.example"),
            |t| t.mail("a@example.org"),
            |t| t.rcpt("b@example.com"),
            |t| t.ask(Event::Data),
            |t| t.ask(Event::ResetTransaction),
            |t| t.ask(Event::Vrfy { what: "b" }),
            |t| t.ask(Event::Help { topic: "" }),
            |t| t.ask(Event::Help { topic: "mail" }),
        ];
        for other in others {
            t.ask(NOOP).declined();
            other(&mut t).declined();
        }
        t.ask(NOOP).declined();
        t.ask(NOOP).is(Verdict::DenyDisconnect);
    }
}
