//! Find out who may send mail to any domain (catalogue 13.8).

use crate::plugin::*;

plugin! {
    /// Lets clients relay, that is, send mail to any domain: those in FILEs relayclients and morerelayclients, this
    /// host itself by ::1, and those for whom the super-server has set RELAYCLIENT; but nobody in FILE
    /// norelayclients.
    ///
    /// An entry is an address, a network, or the beginning of an address with its dot or colon.
    ///
    /// RELAYCLIENT counts only where the environment is about this one client: behind tcpserver, inetd and the like.
    /// The environment of a daemon is not looked at, as it would open the relay to everybody. The value, if it is
    /// not empty, is appended to every recipient, as qmail-smtpd does.
    "relay", Relay {
        /// Whether only these clients may send anything: their recipients are accepted, all others are refused.
        only: bool = false,
    }
    files ["relayclients", "morerelayclients", "norelayclients"]
    state { clients: Cached<Hosts<()>>, more: Cached<Hosts<()>>, others: Cached<Hosts<()>> }
    hooks [connect, rcpt]
    with [setup]
}

const CLIENTS: &str = "relayclients";
const MORE: &str = "morerelayclients";
const OTHERS: &str = "norelayclients";
/// The variable of the environment.
const VARIABLE: &str = "RELAYCLIENT";

impl Relay {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.clients.load(at, CLIENTS, Hosts::read);
        self.more.load(at, MORE, Hosts::read);
        self.others.load(at, OTHERS, Hosts::read);
        Ok(())
    }

    fn connect(&self, s: &mut Session) -> Answer {
        let ip = s.peer.ip;
        if self.others.of(s, OTHERS, Hosts::read)?.contains(ip) {
            s.relay_client = false;
            s.recipient_suffix.clear();
            s.environment.remove(VARIABLE);
            info!(s, "fail, disabled by norelayclients");
        } else if let Some(suffix) = s.environment.get(VARIABLE) {
            s.recipient_suffix.clone_from(suffix);
            s.relay_client = true;
            info!(s, "pass, enabled by env");
        } else if self.is_listed(s)? {
            s.relay_client = true;
            info!(s, "pass, relay client match ({ip})");
        } else {
            info!(s, "skip, no match");
        }
        declined()
    }

    fn is_listed(&self, s: &Session) -> Result<bool, Fault> {
        let ip = s.peer.ip;
        if ip == std::net::Ipv6Addr::LOCALHOST || self.clients.of(s, CLIENTS, Hosts::read)?.contains(ip) {
            return Ok(true);
        }
        let map = s.map(MORE)?;
        match map.is_text() {
            true => Ok(self.more.of(s, MORE, Hosts::read)?.contains(ip)),
            false => any_in(&map, |known| any_name_of(ip, known)),
        }
    }

    fn rcpt(&self, s: &mut Session, _: &Address, _: &Params) -> Answer {
        if !self.only {
            return declined();
        }
        if s.relay_client {
            info!(s, "pass, relay client");
            return ok();
        }
        info!(s, "fail, only relay clients are served");
        dsn::relaying_denied("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relays(t: &mut Kit, ip: &str) -> bool {
        t.from(ip);
        t.s.relay_client = false;
        t.ask(Event::Connect).declined();
        t.s.relay_client
    }

    #[test]
    fn listed_clients_may_relay() {
        let mut t = Kit::load(&DECLARATION, "");
        assert!(!relays(&mut t, "127.0.0.1"));
        assert_eq!(t.logged(), ["(connect) relay: skip, no match"]);
        assert!(relays(&mut t, "::1"));
        t.config(
            "relayclients",
            &["192.0.2.1", "10.1.", "198.51.100.4/31", "2001:DB8::/32"],
        );
        t.config("morerelayclients", &["203.0.113.9", "203.0.114.0/24"]);
        for ip in [
            "192.0.2.1",
            "10.1.255.1",
            "198.51.100.4",
            "198.51.100.5",
            "2001:db8::1",
            "203.0.113.9",
            "203.0.114.7",
        ] {
            assert!(relays(&mut t, ip), "{ip}");
        }
        for ip in ["192.0.2.10", "10.10.1.1", "198.51.100.6", "2001:db9::1", "203.0.113.90"] {
            assert!(!relays(&mut t, ip), "{ip}");
        }
        assert!(
            t.logged()
                .contains(&"(connect) relay: pass, relay client match (192.0.2.1)".to_owned())
        );
    }

    #[test]
    fn a_map_of_clients_is_asked_for_every_form() {
        let mut t = Kit::load(&DECLARATION, "");
        t.map(
            "morerelayclients",
            &[("192.0.2.", ""), ("198.51.100.0/24", ""), ("2001:0db8:", "")],
        );
        assert!(relays(&mut t, "192.0.2.200"));
        assert!(relays(&mut t, "198.51.100.200"));
        assert!(relays(&mut t, "2001:db8::1"));
        assert!(!relays(&mut t, "192.0.20.1"));
    }

    #[test]
    fn norelayclients_wins() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config("relayclients", &["192.0.2.0/24"]);
        t.config("norelayclients", &["192.0.2.66", "::1"]);
        t.s.environment.insert("RELAYCLIENT".into(), "@x".into());
        assert!(!relays(&mut t, "192.0.2.66"));
        assert!(t.s.environment.is_empty());
        assert!(t.s.recipient_suffix.is_empty());
        assert_eq!(t.logged(), ["(connect) relay: fail, disabled by norelayclients"]);
        assert!(!relays(&mut t, "::1"));
        assert!(relays(&mut t, "192.0.2.65"));
    }

    #[test]
    fn the_environment_of_the_client_counts() {
        let mut t = Kit::load(&DECLARATION, "");
        t.s.environment.insert("RELAYCLIENT".into(), String::new());
        assert!(relays(&mut t, "192.0.2.1"));
        assert_eq!(t.logged(), ["(connect) relay: pass, enabled by env"]);
        assert_eq!(t.s.recipient_suffix, "");
        t.s.environment.insert("RELAYCLIENT".into(), "@rewrite".into());
        assert!(relays(&mut t, "192.0.2.1"));
        assert_eq!(t.s.recipient_suffix, "@rewrite");
    }

    #[test]
    fn only_decides_about_recipients() {
        let mut t = Kit::load(&DECLARATION, "");
        t.mail("a@b.example");
        t.rcpt("x@y.example").declined();
        let mut t = Kit::load(&DECLARATION, "only 1");
        t.mail("a@b.example");
        t.rcpt("x@y.example").denied("relaying denied").status("5.7.1");
        t.s.relay_client = true;
        t.rcpt("x@y.example").ok();
    }

    #[test]
    fn bad_lines_are_told_when_loaded() {
        let files: &[(&str, &[&str])] = &[("relayclients", &["192.0.2", "192.0.2.1"])];
        let mut t = Kit::load_with(&DECLARATION, "", files);
        assert!(relays(&mut t, "192.0.2.1"));
        assert!(!relays(&mut t, "192.0.2.2"));
        assert!(Kit::faults(&DECLARATION, "onyl 1")[0].contains("did you mean 'only'?"));
    }
}
