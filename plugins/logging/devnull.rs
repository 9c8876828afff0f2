//! Throws all log records away (catalogue 21).

use crate::plugin::*;

plugin! {
    /// Throws all log records away, also those that the built-in log would write.
    "logging/devnull", Devnull {
    }
    hooks [logging]
    with [logs_up_to]
}

impl Devnull {
    fn logging(&self, _record: &Record<'_>) {}

    /// Nothing is worth the work of putting it into words.
    fn logs_up_to(&self) -> Level {
        Level::Emerg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_anywhere() {
        let t = Kit::load(&DECLARATION, "");
        t.s.log(Level::Alert, format_args!("lost"));
        t.s.log(Level::Emerg, format_args!("lost"));
        assert!(t.logged().is_empty());
        assert!(!t.s.wants(Level::Alert));
        assert_eq!(Kit::faults(&DECLARATION, "x").len(), 1);
    }
}
