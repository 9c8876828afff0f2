//! What is probably wrong with the order of the plugins: warnings, never errors.

use super::{Hook, Loaded};
use crate::config::{Fault, Line, Lines};

/// Looks over the loaded plugins; `lines` is config/plugins.
pub fn lint(plugins: &[Loaded], lines: &Lines) -> Vec<Fault> {
    let mut order = Order {
        plugins,
        last: lines.last(),
        faults: Vec::new(),
    };
    order.somebody_decides_about_recipients();
    order.somebody_queues();
    order.nothing_follows_rcpt_ok();
    order.naughty_is_there();
    order.tls_precedes_the_counter();
    order.dmarc_has_what_it_needs();
    order.faults
}

/// The plugins in their order, and what was found so far.
struct Order<'a> {
    plugins: &'a [Loaded],
    /// The last line of config/plugins, where what is missing could have stood.
    last: Option<&'a Line>,
    faults: Vec<Fault>,
}

impl Order<'_> {
    fn place(&self, name: &str) -> Option<usize> {
        self.plugins.iter().position(|one| one.name == name)
    }

    fn warn(&mut self, at: usize, why: impl Into<String>) {
        let line = &self.plugins[at].line;
        self.faults.push(line.blame(line, why).as_warning());
    }

    fn warn_at_end(&mut self, why: &str) {
        self.faults.push(match self.last {
            Some(line) => line.blame(line, why).as_warning(),
            None => Fault::warning(why),
        });
    }

    fn somebody_decides_about_recipients(&mut self) {
        if !self.plugins.iter().any(accepts_recipients) {
            self.warn_at_end(
                "no plugin decides about recipients, so that every RCPT is answered 450 (rcpt_ok is missing)",
            );
        }
    }

    fn somebody_queues(&mut self) {
        if !self.plugins.iter().any(|one| one.hooks.contains(&Hook::queue)) {
            self.warn_at_end("no plugin queues messages, so that each of them is answered 451");
        }
    }

    fn nothing_follows_rcpt_ok(&mut self) {
        let Some(at) = self.place("rcpt_ok") else { return };
        for late in at + 1..self.plugins.len() {
            if needs_recipients(&self.plugins[late]) {
                let name = self.plugins[late].name;
                self.warn(
                    late,
                    format!("{name} will never be asked about a recipient, as rcpt_ok above it decides about all"),
                );
            }
        }
    }

    fn naughty_is_there(&mut self) {
        let says = |one: &Loaded| one.name != "naughty" && one.argument("reject") == Some("naughty");
        let missing = self.place("naughty").is_none();
        if let Some(at) = self.plugins.iter().position(says).filter(|_| missing) {
            self.warn(
                at,
                "'reject naughty' refuses nothing without the plugin naughty, which is not loaded",
            );
        }
    }

    /// STARTTLS is a command of the core here; the same file must do for the original, to which it is not.
    fn tls_precedes_the_counter(&mut self) {
        if let (Some(tls), Some(counter)) = (self.place("tls"), self.place("count_unrecognized_commands"))
            && tls > counter
        {
            self.warn(
                tls,
                "tls should stand before count_unrecognized_commands, which in older releases counts STARTTLS otherwise",
            );
        }
    }

    fn dmarc_has_what_it_needs(&mut self) {
        let Some(dmarc) = self.place("dmarc") else { return };
        for need in ["sender_permitted_from", "dkim"] {
            if self.place(need).is_none_or(|at| at > dmarc) {
                self.warn(dmarc, format!("dmarc needs {need} before it"));
            }
        }
    }
}

/// Whether a plugin may accept recipients.
fn accepts_recipients(one: &Loaded) -> bool {
    match one.name {
        "rcpt_ok" | "rcpt_map" | "rcpt_regexp" | "whitelist" => true,
        "relay" => relays_only(one),
        _ => false,
    }
}

/// Whether a plugin does something of weight when it is asked about a recipient.
fn needs_recipients(one: &Loaded) -> bool {
    match one.name {
        "naughty" => one.argument("reject").is_none_or(|at| at == "rcpt"),
        "relay" => relays_only(one),
        "badmailfrom" => one.argument("at").is_some_and(|at| at != "mail"),
        // these serve many hooks and miss nothing if this one is not reached
        "noop_counter" | "random_error" | "karma" | "tls" | "milter" => false,
        _ => one.hooks.contains(&Hook::rcpt),
    }
}

fn relays_only(one: &Loaded) -> bool {
    one.argument("only")
        .is_some_and(|word| !matches!(word, "0" | "no" | "off" | "false"))
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    const GOOD: &[&str] = &[
        "tls",
        "count_unrecognized_commands 4",
        "relay",
        "badmailfrom reject naughty",
        "sender_permitted_from",
        "badrcptto",
        "rcpt_ok",
        "dkim",
        "dmarc",
        "naughty reject data",
        "queue/maildir",
    ];

    fn warnings(lines: &[&str]) -> Vec<String> {
        let (_, faults) = fake::load(lines);
        assert!(faults.iter().all(|fault| !fault.is_error()), "{faults:?}");
        faults.iter().map(Fault::headline).collect()
    }

    /// The good order without the lines that begin with `without`, then `more`.
    fn changed(without: &str, more: &[&'static str]) -> Vec<String> {
        let mut lines: Vec<&str> = GOOD.iter().copied().filter(|line| !line.starts_with(without)).collect();
        lines.extend(more);
        warnings(&lines)
    }

    #[track_caller]
    fn one(warnings: &[String], place: &str, words: &str) {
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].starts_with(&format!("config/plugins:{place}: warning: ")),
            "{warnings:?}"
        );
        assert!(warnings[0].contains(words), "{warnings:?}");
    }

    #[test]
    fn a_good_order_gives_no_warning() {
        assert_eq!(warnings(GOOD), [""; 0]);
    }

    #[test]
    fn somebody_must_decide_about_recipients() {
        one(&changed("rcpt_ok", &[]), "10:1", "no plugin decides about recipients");
        one(
            &changed("rcpt_ok", &["relay only 0"]),
            "11:1",
            "no plugin decides about recipients",
        );
        for other in ["relay only 1", "relay_only", "rcpt_map", "rcpt_regexp", "whitelist"] {
            assert_eq!(changed("rcpt_ok", &[other]), [""; 0], "{other}");
        }
    }

    #[test]
    fn somebody_must_queue() {
        one(&changed("queue/", &[]), "10:1", "no plugin queues messages");
        let nothing = warnings(&[]);
        assert_eq!(nothing.len(), 2);
        assert!(nothing[0].starts_with("warning: no plugin decides"), "{nothing:?}");
    }

    #[test]
    fn nothing_that_judges_recipients_may_follow_rcpt_ok() {
        for late in [
            "badmailfromto",
            "rcpt_regexp",
            "relay only 1",
            "naughty",
            "naughty reject rcpt",
        ] {
            let name = late.split(' ').next().unwrap_or_default();
            let words = format!("{name} will never be asked about a recipient");
            one(&changed("naughty", &["naughty reject data", late]), "12:1", &words);
        }
        for late in [
            "relay:2",
            "noop_counter",
            "random_error",
            "naughty:2 reject mail",
            "badmailfrom:2",
        ] {
            assert_eq!(changed("-", &[late]), [""; 0], "{late}");
        }
    }

    #[test]
    fn naughty_must_be_there_when_a_plugin_relies_on_it() {
        one(
            &changed("naughty", &[]),
            "4:1",
            "'reject naughty' refuses nothing without the plugin naughty",
        );
        assert_eq!(changed("naughty", &["badrcptto:2 x reject 1"]).len(), 2);
        let without: Vec<&str> = GOOD.iter().copied().filter(|line| !line.contains("naughty")).collect();
        assert_eq!(warnings(&without), [""; 0]);
    }

    #[test]
    fn tls_stands_before_the_counter_of_unknown_commands() {
        one(
            &changed("tls", &["tls"]),
            "11:1",
            "tls should stand before count_unrecognized_commands",
        );
        assert_eq!(changed("tls", &[]), [""; 0]);
        assert_eq!(changed("count_", &["tls"]), [""; 0]);
    }

    #[test]
    fn dmarc_comes_after_what_it_weighs() {
        one(&changed("dkim", &[]), "8:1", "dmarc needs dkim before it");
        one(&changed("dkim", &["dkim"]), "8:1", "dmarc needs dkim before it");
        one(
            &changed("sender_", &["sender_permitted_from"]),
            "8:1",
            "dmarc needs sender_permitted_from",
        );
        assert_eq!(warnings(&["rcpt_ok", "dmarc", "queue/maildir"]).len(), 2);
    }

    #[test]
    fn where_a_line_is_faulty_the_order_is_not_judged() {
        let (_, faults) = fake::load(&["rcpt_okay", "queue/maildir"]);
        assert_eq!(faults.len(), 1, "{faults:?}");
    }
}
