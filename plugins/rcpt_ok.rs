//! Accept mail for our own domains, and from relay clients for any; refuse everything else (catalogue 17.1).

use crate::plugin::*;

plugin! {
    /// Decides about every recipient, and therefore stands last of the plugins that look at recipients: accepted are
    /// the domains of FILEs me, rcpthosts and morercpthosts, and any domain if the client may relay.
    ///
    /// An entry that begins with a dot stands for all domains below it. A recipient without a domain (postmaster) is
    /// accepted.
    "rcpt_ok", RcptOk {
        /// Whether whitelisted hosts and senders may send to any domain, as in releases before 2.0. Whoever is
        /// whitelisted by a sender address that anybody can give makes an open relay of this.
        whitelisted_may_relay: bool = false,
    }
    files ["me", "rcpthosts", "morercpthosts"]
    state { hosts: Cached<Domains> }
    hooks [rcpt]
}

impl RcptOk {
    fn rcpt(&self, s: &mut Session, recipient: &Address, _: &Params) -> Answer {
        if (s.relay_client || self.whitelisted_may_relay) && s.is_immune() {
            return ok();
        }
        let Some(host) = recipient.host() else {
            info!(s, "pass: {} needs no domain", recipient.user());
            return ok();
        };
        let host = lower(host);
        if host.eq_ignore_ascii_case(&s.settings.me) {
            info!(s, "pass: {host} is me");
            return ok();
        }
        if self.hosts.get(s.config("rcpthosts")?, Domains::read).contains(&host) {
            info!(s, "pass: {host} in rcpthosts");
            return ok();
        }
        if any_in(&s.map("morercpthosts")?, |known| with_suffixes(&host, known))? {
            info!(s, "pass: {host} in morercpthosts");
            return ok();
        }
        info!(s, "fail: {host} is not one of ours");
        dsn::relaying_denied("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kit(arguments: &str) -> Kit {
        let mut t = Kit::load(&DECLARATION, arguments);
        t.config("me", &["MX.example.org"]);
        t.config("rcpthosts", &["Example.com", ".sub.example", "[192.0.2.1]"]);
        t.map("morercpthosts", &[("more.example", ""), (".below.example", "")]);
        t.mail("a@b.example");
        t
    }

    #[test]
    fn our_domains_are_accepted() {
        let mut t = kit("");
        for recipient in [
            "a@example.com",
            "a@EXAMPLE.com",
            "a@mx.example.org",
            "a@deep.in.Sub.example",
            "a@more.Example",
            "a@x.below.example",
            "postmaster",
            "a@[192.0.2.1]",
        ] {
            t.rcpt(recipient).ok();
        }
        assert!(t.logged()[0].ends_with("rcpt_ok: pass: example.com in rcpthosts"));
        for recipient in [
            "a@b.example",
            "a@x.example.com",
            "a@sub.example",
            "a@x.more.example",
            "a@below.example",
            "a@example.com.evil.example",
            "a@[192.0.2.2]",
        ] {
            t.rcpt(recipient).denied("relaying denied").status("5.7.1");
        }
        assert!(t.logged()[0].ends_with("rcpt_ok: fail: b.example is not one of ours"));
    }

    #[test]
    fn a_changed_file_counts_at_once() {
        let mut t = kit("");
        t.rcpt("a@new.example").denied("");
        t.config("rcpthosts", &["new.example"]);
        t.rcpt("a@new.example").ok();
        t.rcpt("a@example.com").denied("");
    }

    #[test]
    fn relay_clients_send_anywhere_and_whitelisted_ones_do_not() {
        let mut t = kit("");
        t.s.whitelisted = true;
        t.rcpt("a@elsewhere.example").denied("relaying denied");
        t.s.relay_client = true;
        t.rcpt("a@elsewhere.example").ok();
        let mut t = kit("whitelisted_may_relay 1");
        t.rcpt("a@elsewhere.example").denied("relaying denied");
        t.s.whitelisted = true;
        t.rcpt("a@elsewhere.example").ok();
        assert!(t.logged().iter().any(|line| line.ends_with("skip, whitelisted host")));
    }

    #[test]
    fn without_files_only_me_is_served() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config("me", &["mx.example.org"]);
        t.mail("");
        t.rcpt("a@mx.example.org").ok();
        t.rcpt("a@example.com").denied("");
        assert!(Kit::faults(&DECLARATION, "extra")[0].contains("whitelisted_may_relay"));
    }
}
