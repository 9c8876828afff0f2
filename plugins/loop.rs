//! Detect mail loops by counting Received and Delivered-To fields (catalogue 18.3).

use crate::plugin::*;

plugin! {
    /// Detects mail loops by counting Received and Delivered-To fields.
    "loop", Loop {
        /// How many hops are too many; the Received field of this server counts.
        @1 max_hops: u32 = 100,
    }
    hooks [data_post]
}

impl Loop {
    fn data_post(&self, s: &mut Session) -> Answer {
        let hop = |field: &Field<'_>| field.is("Received") || field.is("Delivered-To");
        let hops = s.header().iter().filter(hop).count();
        if hops >= self.max_hops as usize {
            info!(s, "fail, {hops} hops");
            return dsn::too_many_hops("");
        }
        info!(s, "pass, {hops} hops");
        declined()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hops_are_counted() {
        let mut t = Kit::load(&DECLARATION, "3");
        t.message("Received: a\nreceived: b\nSubject: x\n\nReceived: no\n");
        t.ask(Event::DataPost).declined();
        t.message("Received: a\nReceived: b\nDelivered-To: c\n\nx\n");
        t.ask(Event::DataPost).denied("looping").status("5.4.6");
    }

    #[test]
    fn arguments_are_checked() {
        assert_eq!(Kit::faults(&DECLARATION, "3 extra").len(), 1);
        assert!(Kit::faults(&DECLARATION, "3 extra")[0].contains("config/plugins:1:8: loop: unknown argument 'extra'"));
    }
}
