//! Fails at random, to test how clients bear it (catalogue 13.14).

use crate::plugin::*;

plugin! {
    /// Refuses for now at random, to test how clients bear failures.
    ///
    /// Each of connect, HELO, EHLO, MAIL, RCPT, DATA and the end of the message fails so often that of the sessions
    /// with one message the given share meets a failure. Two of five failures close the connection.
    "random_error", RandomError {
        /// How many of a hundred messages shall fail; 0 means 1, and a negative number switches the plugin off.
        @1 percent: f64 = 1.0,
    }
    hooks [connect, helo, ehlo, mail, rcpt, data, data_post]
}

/// The note under this name on the connection changes the percentage, as in the original.
const NOTE: &str = "random_fail_%";

/// The steps of a session with one message that may fail.
const STEPS: f64 = 6.0;

/// What becomes of a step: `fail` and `close` are random numbers from 0 to 1 (exclusive).
fn fate(percent: f64, fail: f64, close: f64) -> Verdict {
    let success = (1.0 - percent / 100.0).clamp(0.0, 1.0).powf(1.0 / STEPS);
    if fail < success {
        Verdict::Declined
    } else if close < 0.4 {
        Verdict::DenySoftDisconnect
    } else {
        Verdict::DenySoft
    }
}

impl RandomError {
    fn roll(&self, s: &Session) -> Answer {
        let noted = s.notes.text(NOTE).and_then(|text| text.parse().ok());
        let percent = match noted.unwrap_or(self.percent) {
            0.0 => 1.0,
            percent => percent,
        };
        match fate(percent, random(), random()) {
            Verdict::Declined => declined(),
            failure => {
                info!(s, "fail, random failure");
                answer(failure, "random failure")
            }
        }
    }

    fn connect(&self, s: &mut Session) -> Answer {
        self.roll(s)
    }

    fn helo(&self, s: &mut Session, _host: &str) -> Answer {
        self.roll(s)
    }

    fn ehlo(&self, s: &mut Session, _host: &str) -> Answer {
        self.roll(s)
    }

    fn mail(&self, s: &mut Session, _sender: &Address, _params: &Params) -> Answer {
        self.roll(s)
    }

    fn rcpt(&self, s: &mut Session, _recipient: &Address, _params: &Params) -> Answer {
        self.roll(s)
    }

    fn data(&self, s: &mut Session) -> Answer {
        self.roll(s)
    }

    fn data_post(&self, s: &mut Session) -> Answer {
        self.roll(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_is_spread_over_six_steps() {
        let six = 0.5f64.powf(1.0 / 6.0);
        assert_eq!(fate(50.0, six - 0.001, 0.0), Verdict::Declined);
        assert_eq!(fate(50.0, six + 0.001, 0.39), Verdict::DenySoftDisconnect);
        assert_eq!(fate(50.0, six + 0.001, 0.41), Verdict::DenySoft);
        assert_eq!(fate(-1.0, 0.999, 0.0), Verdict::Declined);
        for percent in [100.0, 1000.0] {
            assert_eq!(fate(percent, 0.0, 0.9), Verdict::DenySoft);
        }
    }

    #[test]
    fn every_step_may_fail_and_none_when_switched_off() {
        let mut t = Kit::load(&DECLARATION, "100");
        let steps: [fn(&mut Kit) -> Outcome; 7] = [
            |t| t.ask(Event::Connect),
            |t| t.helo("a.example"),
            |t| t.ehlo("a.example"),
            |t| t.mail("a@example.org"),
            |t| t.rcpt("b@example.com"),
            |t| t.ask(Event::Data),
            |t| t.ask(Event::DataPost),
        ];
        for step in steps {
            let outcome = step(&mut t).says("random failure");
            assert!(outcome.verdict.is_soft());
            assert_eq!(
                t.logged(),
                [format!("({}) random_error: fail, random failure", outcome.hook.name())]
            );
        }
        let mut t = Kit::load(&DECLARATION, "-1");
        for step in steps {
            step(&mut t).declined();
        }
    }

    #[test]
    fn a_note_changes_the_chance() {
        let mut t = Kit::load(&DECLARATION, "-1");
        t.s.notes.set_text(NOTE, "100");
        t.ask(Event::Connect).says("random failure");
        t.s.notes.set_text(NOTE, "-1");
        t.ask(Event::Connect).declined();
    }
}
