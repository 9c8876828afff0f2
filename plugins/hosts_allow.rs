//! Refuse clients by their address, and those that have too many sessions (catalogue 13.1).

use crate::plugin::*;

plugin! {
    /// Refuses clients at connect: those that FILE hosts_allow names, and those with too many sessions at a time.
    ///
    /// A line is a host, the name of a verdict, and words for the client: `192.0.2.0/24 DENYSOFT come back later`.
    /// A host is an address, a network, or the beginning of an address with its dot or colon. The first line that
    /// fits counts; with DECLINED a host is exempted from a wider line below.
    ///
    /// The daemon itself never serves an address more than max-from-ip sessions at a time. Where plugin karma has a
    /// record of the client, a client of ill repute (0 or less) gets one session, and one of good repute (more
    /// than 5) three more than the others, as far as the daemon has let it in.
    "hosts_allow", HostsAllow {}
    files ["hosts_allow"]
    state { rules: Cached<Hosts<Ruling>> }
    hooks [pre_connection]
    with [setup]
}

const FILE: &str = "hosts_allow";
/// The repute above which a client gets more sessions.
const GOOD: i32 = 5;
/// How many more.
const MORE: u32 = 3;

impl HostsAllow {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.rules.load(at, FILE, rules);
        Ok(())
    }

    fn pre_connection(&self, s: &mut Session) -> Answer {
        let limit = match s.karma.history {
            _ if s.peer.max_sessions == 0 => u32::MAX,
            Some(history) if history > GOOD => s.peer.max_sessions.saturating_add(MORE),
            Some(history) if history <= 0 => 1,
            _ => s.peer.max_sessions,
        };
        if s.peer.sessions > limit {
            let (ip, sessions) = (s.peer.ip, s.peer.sessions);
            info!(s, "fail: {sessions} connections from {ip}, at most {limit} are allowed");
            return deny_soft(format!("too many connections from {ip}, try again later"));
        }
        let rules = self.rules.of(s, FILE, rules)?;
        let Some(ruling) = rules.find(s.peer.ip) else {
            debug!(s, "pass");
            return declined();
        };
        match ruling.verdict.denies() {
            true => info!(s, "fail, {} {}", ruling.verdict, ruling.text),
            false => info!(s, "pass, {} {}", ruling.verdict, ruling.text),
        }
        ruling.answer()
    }
}

fn rules(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> Hosts<Ruling> {
    let mut hosts = Hosts::default();
    for line in lines {
        let (host, rest) = entry(line);
        let ruling = Ruling::parse(rest).unwrap_or_else(|why| {
            complain(line, format!("{why}; the hosts of this line are let in"));
            Ruling {
                verdict: Verdict::Declined,
                text: "".into(),
            }
        });
        if let Some(why) = hosts.add(host, ruling).unwrap_or_else(Some) {
            complain(line, why);
        }
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(t: &mut Kit, ip: &str) -> Outcome {
        t.from(ip).ask(Event::PreConnection)
    }

    #[test]
    fn the_first_line_that_fits_decides() {
        let mut t = Kit::load(&DECLARATION, "");
        ask(&mut t, "192.0.2.1").declined();
        assert_eq!(t.logged(), ["(pre-connection) hosts_allow: pass"]);
        t.config(
            "hosts_allow",
            &[
                "192.0.2.17 DECLINED",
                "192.0.2.0/24 DENYSOFT come  back later",
                "10. DENYHARD",
                "2001:db8::/32 DENY no mail from there",
                "2001:db8:1::1 OK",
                "203.0.113.1 OK",
            ],
        );
        ask(&mut t, "192.0.2.1").deferred("come  back later");
        assert_eq!(
            t.logged(),
            ["(pre-connection) hosts_allow: fail, DENYSOFT come  back later"]
        );
        ask(&mut t, "192.0.2.17").declined();
        ask(&mut t, "192.0.3.1").declined();
        assert_eq!(ask(&mut t, "10.1.2.3").is(Verdict::DenyDisconnect).text, "");
        ask(&mut t, "2001:DB8:1::1").denied("no mail");
        ask(&mut t, "2001:db9::").declined();
        ask(&mut t, "::ffff:203.0.113.1").ok();
    }

    #[test]
    fn bad_lines_are_reported_when_loaded_and_when_changed() {
        let files: &[(&str, &[&str])] = &[("hosts_allow", &["192.0.2.1 DENNY", "host.example DENY", "10. DENY"])];
        let mut t = Kit::load_with(&DECLARATION, "", files);
        ask(&mut t, "192.0.2.1").declined();
        ask(&mut t, "10.0.0.1").denied("");
        assert!(
            !t.logged().iter().any(|line| line.contains("config/hosts_allow")),
            "told when it was loaded"
        );
        t.config("hosts_allow", &["nonsense DENY"]);
        ask(&mut t, "192.0.2.1").declined();
        ask(&mut t, "192.0.2.1").declined();
        let told = t.logged().join("\n");
        assert_eq!(
            told.matches("config/hosts_allow:1: 'nonsense' is neither").count(),
            1,
            "{told}"
        );
    }

    #[test]
    fn sessions_of_one_address_are_limited() {
        let mut t = Kit::load(&DECLARATION, "");
        let mut ask = |sessions, max_sessions, history| {
            t.from("192.0.2.1");
            (t.s.peer.sessions, t.s.peer.max_sessions) = (sessions, max_sessions);
            t.s.karma.history = history;
            let outcome = t.ask(Event::PreConnection);
            (outcome.verdict == Verdict::DenySoft, outcome.text)
        };
        assert!(!ask(5, 5, None).0);
        let (refused, text) = ask(6, 5, None);
        assert!(
            refused && text.contains("too many connections from 192.0.2.1"),
            "{text}"
        );
        assert!(!ask(99, 0, None).0, "0 is no limit");
        assert!(!ask(99, 0, Some(-3)).0);
        assert!(!ask(1, 5, Some(0)).0);
        assert!(ask(2, 5, Some(0)).0);
        assert!(ask(6, 5, Some(5)).0);
        assert!(!ask(8, 5, Some(6)).0);
        assert!(ask(9, 5, Some(6)).0);
    }

    #[test]
    fn there_are_no_arguments() {
        assert!(Kit::faults(&DECLARATION, "extra")[0].contains("unknown argument 'extra'"));
    }
}
