//! Tests of the loader: names, old names, instances, and faults as they are shown.

use super::super::fake;
use super::*;
use crate::plugin::Hook;

mod counter {
    use crate::plugin::*;

    plugin! {
        /// Stands for count_unrecognized_commands.
        "count_unrecognized_commands", Counter {
            @1 max: u32 = 4,
        }
        hooks [noop]
    }

    impl Counter {
        fn noop(&self, _s: &mut Session, _rest: &str) -> Answer {
            ok_with(self.max.to_string())
        }
    }
}

mod strict {
    use crate::plugin::*;

    plugin! {
        /// Has an argument that must be given.
        "strict", Strict {
            @1 path: String,
        }
        hooks [noop]
        with [setup]
    }

    impl Strict {
        fn setup(&mut self, _at: &mut Loading<'_>) -> Result<(), String> {
            match self.path.as_str() {
                "/" => Err("path is too short".to_owned()),
                _ => Ok(()),
            }
        }

        fn noop(&self, _s: &mut Session, _rest: &str) -> Answer {
            ok_with(self.path.clone())
        }
    }
}

static REAL: Register = Register {
    plugins: &[&counter::DECLARATION, &strict::DECLARATION],
    aliases: &[],
    gone: &[],
    ignored: &[],
};

fn one(text: &str, register: &Register) -> (Option<Loaded>, Vec<String>) {
    let mut faults = Vec::new();
    let lines = crate::config::Lines::of("plugins", [text]);
    let loaded = load_line(&lines[0], &Lookup::in_memory(), register, &mut faults);
    (loaded, faults.iter().map(Fault::headline).collect())
}

#[track_caller]
fn fault(text: &str) -> String {
    let (loaded, mut faults) = one(text, &fake::REGISTER);
    assert!(loaded.is_none());
    assert_eq!(faults.len(), 1, "{faults:?}");
    faults.remove(0)
}

#[test]
fn log_names_have_the_form_of_the_original() {
    assert_eq!(&*log_name("rcpt_ok", "rcpt_ok"), "rcpt_ok");
    assert_eq!(
        &*log_name("queue/qmail-queue", "queue/qmail-queue"),
        "queue::qmail_2dqueue"
    );
    assert_eq!(&*log_name("ident/p0f", "ident/p0f:0"), "ident::p0f_3a0");
    assert_eq!(&*log_name("a/3com", "a/3com"), "a::_33com");
}

#[test]
fn a_fault_shows_its_line_and_a_caret() {
    let mut lines = vec!["strict x"; 13];
    lines.push("count_unrecognized_commands 4 extra");
    let lookup = Lookup::in_memory();
    lookup.set("plugins", &lines);
    let (_, faults) = load_plugins(&lookup, &REAL);
    assert_eq!(
        faults.iter().map(Fault::to_string).collect::<Vec<_>>(),
        [
            "config/plugins:14:31: count_unrecognized_commands: unknown argument 'extra' (it takes max)\n    \
             count_unrecognized_commands 4 extra\n                                  ^~~~~"
        ]
    );
}

#[test]
fn every_fault_of_every_line_is_found() {
    let lookup = Lookup::in_memory();
    lookup.set("logging", &["loging/warn"]);
    lookup.set(
        "plugins",
        &[
            "strict",
            "strict:2 a b c",
            "relay",
            "count_unrecognized_commands x mac 3",
        ],
    );
    let (chain, faults) = load_plugins(&lookup, &REAL);
    let faults: Vec<String> = faults.iter().map(Fault::headline).collect();
    assert_eq!(
        faults,
        [
            "config/logging:1:1: unknown plugin 'loging/warn'",
            "config/plugins:1:1: strict: argument 'path' is missing",
            "config/plugins:2:12: strict:2: unknown argument 'b' (it takes path)",
            "config/plugins:2:14: strict:2: unknown argument 'c' (it takes path)",
            "config/plugins:3:1: unknown plugin 'relay'",
            "config/plugins:4:29: count_unrecognized_commands: 'x' is not a number",
            "config/plugins:4:31: count_unrecognized_commands: unknown argument 'mac', did you mean 'max'? (it takes max)",
            "config/plugins:4:35: count_unrecognized_commands: unknown argument '3' (it takes max)",
        ]
    );
    assert!(chain.plugins().is_empty());
}

#[test]
fn a_plugin_can_find_fault_with_its_arguments_as_a_whole() {
    let (loaded, faults) = one("strict /", &REAL);
    assert!(loaded.is_none());
    assert_eq!(faults, ["config/plugins:1:1: strict: path is too short"]);
}

#[test]
fn logging_plugins_come_first() {
    let lookup = Lookup::in_memory();
    lookup.set("logging", &["logging/warn"]);
    lookup.set("plugins", &["rcpt_ok", "queue/maildir"]);
    let (chain, faults) = load_plugins(&lookup, &fake::REGISTER);
    assert!(faults.is_empty(), "{faults:?}");
    let names: Vec<&str> = chain.plugins().iter().map(|one| one.name).collect();
    assert_eq!(names, ["logging/warn", "rcpt_ok", "queue/maildir"]);
    assert!(chain.serves(Hook::queue) && !chain.serves(Hook::connect));
}

#[test]
fn an_unknown_plugin_is_told_with_the_nearest_name() {
    assert_eq!(
        fault("rcpt_okay x"),
        "config/plugins:1:1: unknown plugin 'rcpt_okay', did you mean 'rcpt_ok'?"
    );
    assert_eq!(
        fault("check_relayy"),
        "config/plugins:1:1: unknown plugin 'check_relayy', did you mean 'check_relay'?"
    );
    assert_eq!(
        fault("spamassassin"),
        "config/plugins:1:1: unknown plugin 'spamassassin'"
    );
    assert_eq!(
        fault("My::Plugin"),
        "config/plugins:1:1: 'My::Plugin' is a Perl module; only the plugins of this program can be loaded"
    );
    assert_eq!(fault(":1 x"), "config/plugins:1:1: unknown plugin ''");
    // an old name of a plugin that this program does not have is no help
    assert_eq!(
        fault("check_spamhelo"),
        "config/plugins:1:1: unknown plugin 'check_spamhelo'"
    );
}

#[test]
fn names_that_are_gone_say_so() {
    assert_eq!(
        fault("auth/authnull"),
        "config/plugins:1:1: plugin 'auth/authnull' is not provided"
    );
    assert_eq!(
        fault("virus/check_for_hi_virus:2 x"),
        "config/plugins:1:1: warning: plugin 'virus/check_for_hi_virus' does nothing any more"
    );
}

#[test]
fn only_printable_ascii_is_allowed() {
    let (loaded, _) = one("rcpt_ok\ta  b", &fake::REGISTER);
    assert!(loaded.is_some_and(|loaded| loaded.arguments == ["a", "b"]));
    assert_eq!(
        fault("rcpt_ok caf\u{e9}"),
        "config/plugins:1:12: only printable ASCII characters are allowed here"
    );
    assert!(fault("rcpt_ok \u{7f}").starts_with("config/plugins:1:9: only printable"));
}

#[test]
fn old_names_load_the_plugin_of_today_with_what_they_meant() {
    let load = |text| {
        one(text, &fake::REGISTER)
            .0
            .map(|loaded| (loaded.name, loaded.arguments.join(" ")))
    };
    let relay = |arguments: &str| Some(("relay", arguments.to_owned()));
    assert_eq!(load("relay"), relay(""));
    assert_eq!(load("check_relay a"), relay("a"));
    assert_eq!(load("relay_only"), relay("only 1"));
    assert_eq!(load("relay_only:2 only 0"), relay("only 1 only 0"));
    assert_eq!(load("async/relay"), relay("old 1"));
    assert_eq!(load("async/check_relay"), relay(""));
    assert_eq!(load("async/queue/maildir"), Some(("queue/maildir", String::new())));
    let (loaded, _) = one("relay_only only 0", &fake::REGISTER);
    assert_eq!(loaded.as_ref().and_then(|loaded| loaded.argument("only")), Some("0"));
    assert_eq!(
        loaded.map(|loaded| loaded.log_name.to_string()),
        Some("relay".to_owned())
    );
}

#[test]
fn instances_have_arguments_and_log_names_of_their_own() {
    let (chain, _) = fake::load(&[
        "relay a",
        "relay:1 b loglevel +1",
        "queue/qmail-queue:fast on_error skip",
    ]);
    let seen: Vec<String> = chain
        .plugins()
        .iter()
        .map(|one| format!("{} {} {:?}", one.name, one.log_name, one.on_error))
        .collect();
    assert_eq!(
        seen,
        [
            "relay relay Defer",
            "relay relay_3a1 Defer",
            "queue/qmail-queue queue::qmail_2dqueue_3afast Skip",
        ]
    );
    assert!(chain.plugins()[1].loglevel.is_some() && chain.plugins()[0].loglevel.is_none());
}

#[test]
fn common_arguments_are_checked() {
    let (_, faults) = one("relay loglevel loud on_error never", &fake::REGISTER);
    assert_eq!(
        faults,
        [
            "config/plugins:1:16: relay: 'loud' is not 0 to 7, +N or -N",
            "config/plugins:1:30: relay: 'never' is neither defer nor skip",
        ]
    );
}
