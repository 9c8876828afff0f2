//! Tests of the chain: order, what ends it, observers, failures, log levels, side hooks.

use super::super::fake::{self, Notebook};
use super::super::{Answer, Kit, declined, deny, ok, ok_with, unavailable};
use super::*;
use crate::config::Lookup;

const CONNECT: &[Hook] = &[Hook::connect];

/// A plugin that notes that it was asked, and answers.
fn noting(name: &'static str, notes: &Notebook, answer: fn() -> Answer) -> Loaded {
    let notes = notes.clone();
    fake::plugin(name, CONNECT, move |_, _| {
        notes.write(name);
        answer()
    })
}

fn kit(plugins: Vec<Loaded>) -> Kit {
    Kit::with(Chain::new(plugins), Lookup::in_memory())
}

fn last_words() -> Answer {
    super::super::answer(Verdict::Declined, "nobody cared")
}

#[test]
fn plugins_are_asked_in_order_until_one_has_an_opinion() {
    let notes = Notebook::default();
    let mut t = kit(vec![
        noting("a", &notes, declined),
        noting("b", &notes, || deny("no")),
        noting("c", &notes, ok),
    ]);
    t.ask(Event::Connect).denied("no");
    assert_eq!(notes.read(), ["a", "b"]);
    t.ask(Event::Data).declined();
    assert!(notes.read().is_empty());
    let done: fn() -> Answer = super::super::done;
    kit(vec![noting("d", &notes, done), noting("e", &notes, ok)])
        .ask(Event::Connect)
        .is(Verdict::Done);
    assert_eq!(notes.read(), ["d"]);
}

#[test]
fn when_all_decline_the_last_words_survive() {
    let notes = Notebook::default();
    let mut t = kit(vec![noting("a", &notes, declined), noting("b", &notes, last_words)]);
    t.ask(Event::Connect).declined().says("nobody cared");
    let text = kit(vec![noting("b", &notes, last_words), noting("a", &notes, declined)])
        .ask(Event::Connect)
        .text;
    assert_eq!(text, "");
}

#[test]
fn observers_are_all_told_whatever_they_answer() {
    let notes = Notebook::default();
    let observer = |name: &'static str, answer: fn() -> Answer| {
        let notes = notes.clone();
        fake::plugin(name, &[Hook::disconnect], move |_, _| {
            notes.write(name);
            answer()
        })
    };
    let mut t = kit(vec![
        observer("a", ok),
        observer("b", || deny("x")),
        observer("c", declined),
    ]);
    t.tell(Event::Disconnect);
    assert_eq!(notes.read(), ["a", "b", "c"]);
}

#[test]
fn deny_and_ok_follow_every_answer_but_their_own() {
    let notes = Notebook::default();
    let watcher = {
        let notes = notes.clone();
        fake::plugin("watcher", &[Hook::deny, Hook::ok], move |event, s| {
            let hook = event.hook().name();
            if let Event::Deny { plugin, verdict, text } | Event::Ok { plugin, verdict, text } = event {
                notes.write(format!("{hook}: {plugin} {verdict} '{text}'"));
            }
            assert_eq!(s.context.plugin.as_deref(), Some("watcher"));
            deny("ignored")
        })
    };
    let mut t = kit(vec![
        watcher,
        noting("a", &Notebook::default(), declined),
        noting("b", &Notebook::default(), || ok_with("fine")),
    ]);
    t.ask(Event::Connect).ok();
    assert_eq!(notes.read(), ["ok: a DECLINED ''", "ok: b OK 'fine'"]);
    for verdict in [
        Verdict::Deny,
        Verdict::DenySoft,
        Verdict::DenyDisconnect,
        Verdict::DenySoftDisconnect,
    ] {
        let watched = notes.clone();
        let watcher = fake::plugin("watcher", &[Hook::deny, Hook::ok], move |event, _| {
            watched.write(event.hook().name());
            declined()
        });
        let answer = move |_: &Event<'_>, _: &mut Session| super::super::answer(verdict, "no");
        let mut t = kit(vec![fake::plugin("a", CONNECT, answer), watcher]);
        t.ask(Event::Connect).is(verdict);
        assert_eq!(notes.read(), ["deny"], "{verdict}");
    }
}

/// A plugin that fails in one of two ways at every hook given.
fn failing(name: &'static str, hooks: &'static [Hook], panics: bool, on_error: OnError) -> Loaded {
    let act = move |_: &Event<'_>, _: &mut Session| {
        if panics {
            panic!("out of {}", "order");
        }
        Err(Failure::new("disk on fire"))
    };
    Loaded {
        on_error,
        ..fake::plugin(name, hooks, act)
    }
}

#[test]
fn a_failure_is_logged_and_defers() {
    for (panics, words) in [(false, "disk on fire"), (true, "panic: out of order")] {
        let notes = Notebook::default();
        let mut t = kit(vec![
            failing("queue::bad", CONNECT, panics, OnError::Defer),
            noting("after", &notes, ok),
        ]);
        let outcome = t.ask(Event::Connect);
        outcome.deferred("try again later").status("4.3.0");
        let logged = t.logged();
        assert_eq!(logged.len(), 1);
        assert_eq!(
            logged[0],
            format!("(connect) running plugin: FATAL PLUGIN ERROR [queue::bad]: {words}")
        );
        assert!(notes.read().is_empty());
    }
}

#[test]
fn a_failure_may_be_skipped() {
    for panics in [false, true] {
        let mut t = kit(vec![
            failing("bad", CONNECT, panics, OnError::Skip),
            noting("after", &Notebook::default(), || ok_with("went on")),
        ]);
        t.ask(Event::Connect).ok().says("went on");
        assert!(t.logged()[0].contains("FATAL PLUGIN ERROR [bad]: "));
    }
}

#[test]
fn a_failed_decision_is_marked_and_a_plugins_own_is_not() {
    let mut s = kit(Vec::new()).s;
    let bad = Chain::new(vec![failing("bad", CONNECT, false, OnError::Defer)]);
    assert!(bad.ask(&mut s, Event::Connect).failed);
    let soft = |_: &Event<'_>, _: &mut Session| super::super::deny_soft("later");
    let good = Chain::new(vec![fake::plugin("good", CONNECT, soft)]);
    assert!(!good.ask(&mut s, Event::Connect).failed);
}

#[test]
fn who_cannot_be_asked_leaves_it_to_the_others() {
    let away = |on_error| Loaded {
        on_error,
        ..fake::plugin("away", CONNECT, |_, s| unavailable(s, "no database"))
    };
    let mut s = kit(Vec::new()).s;
    for (on_error, next, verdict, failed) in [
        (OnError::Defer, declined as fn() -> Answer, Verdict::Declined, true),
        (OnError::Skip, declined, Verdict::Declined, false),
        (OnError::Defer, ok, Verdict::Ok, false),
        (OnError::Defer, || deny("no"), Verdict::Deny, false),
    ] {
        let after = noting("after", &Notebook::default(), next);
        let decision = Chain::new(vec![away(on_error), after]).ask(&mut s, Event::Connect);
        assert_eq!((decision.verdict, decision.failed), (verdict, failed));
    }
    let mut t = kit(vec![away(OnError::Defer)]);
    t.ask(Event::Connect).declined();
    assert_eq!(t.logged(), ["(connect) away: error, no database"]);
}

#[test]
fn where_nothing_can_be_refused_a_failure_changes_nothing() {
    const OBSERVED: &[Hook] = &[Hook::disconnect, Hook::noop, Hook::quit, Hook::help, Hook::ok];
    let mut t = kit(vec![
        failing("bad", OBSERVED, true, OnError::Defer),
        noting("after", &Notebook::default(), ok),
    ]);
    for event in [
        Event::Disconnect,
        Event::Noop { rest: "" },
        Event::Quit,
        Event::Help { topic: "" },
    ] {
        let text = t.ask(event).declined().text;
        assert_eq!(text, "");
    }
    t.logged();
    // the hook ok fails after the answer has been given
    t.ask(Event::Connect).ok();
    assert_eq!(
        t.logged(),
        ["(ok) running plugin: FATAL PLUGIN ERROR [bad]: panic: out of order"]
    );
}

#[test]
fn the_core_speaks_for_itself_after_the_plugins() {
    let speak = |_: &Event<'_>, s: &mut Session| {
        s.log(Level::Info, format_args!("pass"));
        declined()
    };
    let loud = Loaded {
        loglevel: Some(Loglevel::Fixed(Level::Emerg)),
        ..fake::plugin("loud", CONNECT, speak)
    };
    let mut t = kit(vec![loud, failing("bad", CONNECT, false, OnError::Skip)]);
    t.ask(Event::Connect).declined();
    t.s.log(Level::Info, format_args!("dispatching"));
    assert_eq!(
        t.logged(),
        [
            "(connect) loud: pass",
            "(connect) running plugin: FATAL PLUGIN ERROR [bad]: disk on fire",
            "dispatching",
        ]
    );
}

#[test]
fn loglevel_moves_the_records_of_its_plugin_alone() {
    let notes = Notebook::default();
    let logger = {
        let notes = notes.clone();
        fake::aside("logger", &[Hook::logging], Level::Debug, move |aside| {
            if let Aside::Logging { record } = aside {
                notes.write(format!("{} {}", record.level.name(), record.plugin.unwrap_or("core")));
            }
            None
        })
    };
    let speaking = |name, loglevel| {
        let speak = |_: &Event<'_>, s: &mut Session| {
            s.log(Level::Info, format_args!("pass"));
            declined()
        };
        Loaded {
            loglevel,
            ..fake::plugin(name, CONNECT, speak)
        }
    };
    let mut t = kit(vec![
        logger,
        speaking("plain", None),
        speaking("fixed", Some(Loglevel::Fixed(Level::Error))),
        speaking("up", Some(Loglevel::Shift(-9))),
        speaking("down", Some(Loglevel::Shift(1))),
        speaking("again", None),
    ]);
    t.ask(Event::Connect).declined();
    t.s.log(Level::Notice, format_args!("core"));
    assert_eq!(
        notes.read(),
        [
            "LOGINFO plain",
            "LOGERROR fixed",
            "LOGEMERG up",
            "LOGDEBUG down",
            "LOGINFO again",
            "LOGNOTICE core",
        ]
    );
}

#[test]
fn loggers_get_what_they_want_but_not_their_own() {
    let notes = Notebook::default();
    let logger = |name: &'static str, most| {
        let notes = notes.clone();
        fake::aside(name, &[Hook::logging], most, move |aside| {
            if let Aside::Logging { record } = aside {
                notes.write(format!("{name}: {}", record.text));
            }
            None
        })
    };
    let broken = fake::aside("broken", &[Hook::logging], Level::Emerg, |_| panic!("logger"));
    let t = kit(vec![logger("a", Level::Warn), broken, logger("b", Level::Notice)]);
    assert!(t.s.wants(Level::Notice) && !t.s.wants(Level::Info));
    t.s.log(Level::Notice, format_args!("both"));
    t.s.log(Level::Info, format_args!("none"));
    assert_eq!(notes.read(), ["a: both", "b: both"]);
    let record = Record {
        level: Level::Error,
        number: 1,
        hook: None,
        plugin: Some("a"),
        ordered: false,
        text: format_args!("own"),
    };
    t.s.services().hooks.log(&record);
    assert_eq!(notes.read(), ["b: own"]);
    // the built-in log is off
    assert!(t.logged().is_empty());
}

#[test]
fn the_first_config_hook_that_knows_a_setting_answers() {
    let knows = |name: &'static str, hooks: &'static [Hook], text: &'static str| {
        fake::aside(name, hooks, Level::Debug, move |aside| match aside {
            Aside::Config { name: "me" } | Aside::UserConfig { name: "me", .. } => Some(Lines::of("me", [text])),
            Aside::Config { name: "none" } => Some(Lines::empty()),
            _ => None,
        })
    };
    let plugins = vec![
        Loaded {
            on_error: OnError::Skip,
            ..fake::aside("broken", &[Hook::config], Level::Debug, |_| panic!("config"))
        },
        knows("a", &[Hook::config], "a.example"),
        knows("b", &[Hook::config], "b.example"),
        knows("c", &[Hook::user_config], "c.example"),
    ];
    let mut t = kit(plugins);
    t.config("me", &["file.example"]);
    t.config("none", &["file.example"]);
    t.config("other", &["file.example"]);
    let texts = |lines: &Lines| lines.iter().map(|line| line.text.to_string()).collect::<Vec<_>>();
    assert_eq!(t.s.config("me").as_ref().map(texts), Ok(vec!["a.example".to_owned()]));
    assert_eq!(
        t.s.config("other").as_ref().map(texts),
        Ok(vec!["file.example".to_owned()])
    );
    // an empty answer is an answer
    assert_eq!(t.s.config("none"), Ok(Lines::empty()));
    assert_eq!(texts(&t.user_config("u@example.com", "me")), ["c.example"]);
    assert_eq!(texts(&t.user_config("u@example.com", "other")), ["file.example"]);
}

#[test]
fn a_setting_is_unknown_if_whom_it_is_asked_of_fails() {
    let broken = || fake::aside("broken", &[Hook::config], Level::Debug, |_| panic!("config"));
    let mut t = kit(vec![broken()]);
    t.config("me", &["file.example"]);
    let why = t.s.config("me").expect_err("a failure").to_string();
    assert_eq!(why, "broken: panic: config");
}

#[test]
fn all_plugins_must_be_able_to_start() {
    let chain = |plugins| Chain::new(plugins).start();
    assert_eq!(chain(vec![noting("a", &Notebook::default(), ok)]), Ok(()));
    let faulty = vec![
        noting("a", &Notebook::default(), ok),
        fake::cannot_start("queue/b", "no such folder"),
    ];
    assert_eq!(
        chain(faulty),
        Err("config/plugins:1: queue/b: no such folder".to_owned())
    );
}

/// Queues, or does something else, and takes what it says.
struct Taker(Extensions);

impl Plugin for Taker {
    fn on(&self, _: &Event<'_>, _: &mut crate::session::Session) -> Answer {
        declined()
    }

    fn takes(&self) -> Extensions {
        self.0
    }
}

#[test]
fn what_is_taken_is_what_all_that_queue_take() {
    let some = Extensions {
        dsn: false,
        ..Extensions::ALL
    };
    let other = Extensions {
        binary: false,
        ..Extensions::ALL
    };
    let taker = |hooks, takes| Loaded {
        plugin: Box::new(Taker(takes)),
        ..fake::plugin("taker", hooks, |_, _| declined())
    };
    let takes = |all: Vec<Loaded>| Chain::new(all).takes();
    let queue: &'static [Hook] = &[Hook::queue];
    assert_eq!(takes(vec![]), Extensions::default());
    assert_eq!(takes(vec![taker(CONNECT, Extensions::ALL)]), Extensions::default());
    assert_eq!(
        takes(vec![taker(queue, some), taker(CONNECT, Extensions::default())]),
        some
    );
    let both = Extensions { dsn: false, ..other };
    assert_eq!(takes(vec![taker(queue, some), taker(queue, other)]), both);
}
