//! Log how long each connection lasted (catalogue 13.2).

use std::time::Instant;

use crate::plugin::*;

plugin! {
    /// Logs, when a connection has ended, how many seconds it lasted.
    "connection_time", ConnectionTime {
        /// The level of the record, by number or name.
        @1 loglevel: Loglevel = Loglevel::Fixed(Level::Info),
    }
    hooks [pre_connection, connect, post_connection]
}

/// Note on the connection: when it began.
struct Began(Instant);

impl ConnectionTime {
    fn pre_connection(&self, s: &mut Session) -> Answer {
        self.begin(s);
        declined()
    }

    fn connect(&self, s: &mut Session) -> Answer {
        self.begin(s);
        declined()
    }

    /// The hook that runs first counts; behind a super-server that is connect.
    fn begin(&self, s: &mut Session) {
        if s.notes.get::<Began>().is_none() {
            s.notes.put(Began(s.services().clock.instant()));
        }
    }

    fn post_connection(&self, s: &mut Session) {
        match s.notes.get() {
            Some(Began(at)) => {
                let seconds = s.services().clock.instant().duration_since(*at).as_secs_f64();
                s.log(self.loglevel.apply(Level::Info), format_args!("{seconds:.3} s."));
            }
            None => error!(s, "error: the start of the connection is not known"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn time(t: &mut Kit) -> String {
        t.logged();
        t.ask(Event::PostConnection);
        t.logged().join("\n")
    }

    #[test]
    fn the_whole_connection_is_measured() {
        let mut t = Kit::load(&DECLARATION, "");
        t.ask(Event::PreConnection).declined();
        t.clock().pass(Duration::from_secs(2));
        t.ask(Event::Connect).declined();
        t.clock().pass(Duration::from_secs(3));
        let logged = time(&mut t);
        let seconds = logged.strip_prefix("(post-connection) connection_time: ").unwrap();
        let (number, fraction) = seconds.strip_suffix(" s.").unwrap().split_once('.').unwrap();
        assert!(number.parse::<u32>().unwrap() >= 5, "{logged}");
        assert_eq!(fraction.len(), 3, "{logged}");
    }

    #[test]
    fn a_start_that_is_not_known_is_an_error() {
        let mut t = Kit::load(&DECLARATION, "");
        assert!(time(&mut t).contains("error: the start"));
    }

    #[test]
    fn the_level_may_be_bare_or_named() {
        for arguments in ["7", "LOGDEBUG", "loglevel 7", "loglevel +1"] {
            assert_eq!(Kit::faults(&DECLARATION, arguments), [""; 0], "{arguments}");
        }
        assert!(!Kit::faults(&DECLARATION, "loud").is_empty());
        // the kit shows records up to LOGDEBUG; a fixed level of the plugin is the one that is asked for
        let mut t = Kit::load(&DECLARATION, "LOGDEBUG");
        t.ask(Event::Connect);
        assert!(time(&mut t).ends_with(" s."));
    }
}
