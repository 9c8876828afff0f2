//! Closes the connection of clients that send too many unknown commands (catalogue 14.4).

use crate::plugin::*;

plugin! {
    /// Closes the connection of a client that has sent too many commands nobody knows.
    "count_unrecognized_commands", CountUnrecognizedCommands {
        /// The unknown command that is one too many.
        @1 max: u32 = 4,
    }
    hooks [unrecognized_command]
}

/// Note on a connection: how many unknown commands came.
#[derive(Default)]
struct Unrecognized(u32);

impl CountUnrecognizedCommands {
    fn unrecognized_command(&self, s: &mut Session, verb: &str, _rest: &str) -> Answer {
        let count = s.notes.entry::<Unrecognized>();
        count.0 += 1;
        let count = count.0;
        if count < self.max {
            info!(s, "'{verb}', ({count})");
            return declined();
        }
        info!(s, "fail, '{verb}' ({count})");
        deny_disconnect(format!("{count} unrecognized commands are too many, good-bye"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(t: &mut Kit) -> Outcome {
        t.ask(Event::UnrecognizedCommand {
            verb: "get",
            rest: "/ HTTP/1.0",
        })
    }

    #[test]
    fn the_last_one_closes_the_connection() {
        let mut t = Kit::load(&DECLARATION, "");
        for count in 1..4 {
            unknown(&mut t).declined();
            let log = format!("(unrecognized_command) count_unrecognized_commands: 'get', ({count})");
            assert_eq!(t.logged(), [log]);
        }
        unknown(&mut t).is(Verdict::DenyDisconnect).says("4 unrecognized");
        assert_eq!(
            t.logged(),
            ["(unrecognized_command) count_unrecognized_commands: fail, 'get' (4)"]
        );
    }

    #[test]
    fn the_limit_is_an_argument() {
        for arguments in ["1", "max 1"] {
            unknown(&mut Kit::load(&DECLARATION, arguments)).is(Verdict::DenyDisconnect);
        }
        assert!(Kit::faults(&DECLARATION, "4 extra")[0].contains("unknown argument 'extra'"));
        assert!(Kit::faults(&DECLARATION, "many")[0].contains("'many' is not a number"));
    }
}
