//! Throw messages away (a test plugin): what a benchmark or a trial of other plugins wants behind them.

use crate::plugin::*;

plugin! {
    /// Accepts every message and throws it away: for tests and measurements only. Who sends mail to a server that
    /// loads this is told that it was delivered, and it is lost; a warning at each load says so.
    "queue/discard", Discard {}
    hooks [queue]
    with [setup, takes]
}

impl Discard {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        at.warn("throws away all mail and answers 250; a test plugin, not for a server that receives mail");
        Ok(())
    }

    fn takes(&self) -> Extensions {
        Extensions {
            binary: true,
            utf8: true,
            // it goes no further
            requiretls: true,
            ..Extensions::default()
        }
    }

    fn queue(&self, s: &mut Session) -> Answer {
        info!(s, "pass, thrown away");
        ok_with("Queued! (discarded)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_that_it_throws_mail_away() {
        let faults = Kit::faults(&DECLARATION, "");
        assert!(
            faults[0].contains("warning: queue/discard: throws away all mail"),
            "{faults:?}"
        );
        let mut t = Kit::load(&DECLARATION, "");
        t.message("Subject: x\n\ny\n");
        t.ask(Event::Queue).ok().says("discarded");
        assert!(t.logged()[0].ends_with("queue::discard: pass, thrown away"));
    }
}
