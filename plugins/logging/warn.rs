//! Logs to standard error (catalogue 21).

use crate::plugin::*;

plugin! {
    /// Logs to standard error, as the built-in log does, with a level of its own.
    "logging/warn", Warn {
        /// What matters less is not written: a number from 0 to 7, or a name from LOGEMERG to LOGDEBUG.
        @1 level: Level = Level::Warn,
    }
    state { out: Stderr }
    hooks [logging]
    with [logs_up_to]
}

impl Warn {
    fn logging(&self, record: &Record<'_>) {
        if record.matters(self.level) {
            self.out.take(record);
        }
    }

    fn logs_up_to(&self) -> Level {
        self.level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_bounds_what_is_made() {
        for (arguments, level) in [
            ("", Level::Warn),
            ("LOGINFO", Level::Info),
            ("7", Level::Debug),
            ("level LOGERROR", Level::Error),
        ] {
            let t = Kit::load(&DECLARATION, arguments);
            assert!(t.s.wants(level), "{arguments}");
            let above = Level::ALL.into_iter().find(|other| *other > level);
            assert!(above.is_none_or(|above| !t.s.wants(above)), "{arguments}");
        }
        assert!(Kit::faults(&DECLARATION, "loud")[0].contains(":1:14: logging/warn: 'loud' is no log level"));
    }
}
