//! Plugins for tests: one that does what its line says, one that records the hooks, one that keeps what is queued.
//!
//! ```text
//! test HOOK WHAT [if=TEXT] [times=N] [on_error=skip] [name=NAME] words
//! ```
//!
//! WHAT is a verdict, whose words may begin with an enhanced status code and hold `\n`; or `ERROR` or `PANIC`; `UNAVAILABLE` is
//! a provider that cannot ask; `RAW`
//! writes the words to the client and says DONE; `PATH` hands over an address from a parse hook; `CAPABILITY`,
//! `RESULT`, `FINDING` and `FIELD` add to the reply to EHLO, to the results of the transaction and of the connection,
//! and to the header; `NOTE` logs what it is asked, `FACTS` what is known of the client; `SETTLE N VERDICT words` says
//! what became of the message for the Nth recipient. With `if`, only what holds the text is answered; with `times`, only
//! the first N questions are.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use qpsmtpd::config::Lines;
use qpsmtpd::mail::PathLine;
use qpsmtpd::plugin::{
    Answer, Event, Extensions, Failure, Hook, Loaded, OnError, Params, Plugin, RcptOutcome, Session, Status,
    Transaction, Verdict, answer, answer_with, declined, done, ok, parsed, unavailable,
};

use super::player::Events;

/// A message as the queue got it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// `<sender> to <recipient> <recipient>`
    pub envelope: String,
    pub message: Vec<u8>,
}

/// How the words of a panic begin that a test wants.
const PLAYED: &str = "played ";

/// Keeps panics that a test wants from being told on stderr.
pub fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let words = panic.payload().downcast_ref::<String>();
            if !words.is_some_and(|words| words.starts_with(PLAYED)) {
                loud(panic);
            }
        }));
    });
}

/// A panic that a test wants.
pub fn panic(words: &str) -> ! {
    std::panic::panic_any(format!("{PLAYED}{words}"))
}

/// All messages that were queued.
pub type Queue = Arc<Mutex<Vec<Kept>>>;

/// Wraps a plugin as the loader would.
pub fn loaded(name: &str, hooks: Vec<Hook>, on_error: OnError, plugin: impl Plugin + 'static) -> Loaded {
    Loaded {
        name: "test",
        log_name: name.into(),
        hooks: for_ever(hooks),
        plugin: Box::new(plugin),
        loglevel: None,
        on_error,
        arguments: Vec::new(),
        line: Lines::of("config/plugins", ["test"])[0].clone(),
    }
}

/// A list of hooks as the loader has it, kept once for all plugins that serve them.
pub fn for_ever(hooks: Vec<Hook>) -> &'static [Hook] {
    static LISTS: Mutex<Vec<&[Hook]>> = Mutex::new(Vec::new());
    let mut lists = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    match lists.iter().find(|list| **list == hooks) {
        Some(list) => list,
        None => {
            let list = Box::leak(hooks.into_boxed_slice());
            lists.push(list);
            list
        }
    }
}

/// Does what its line says.
struct Scripted {
    hook: Hook,
    what: What,
    only: String,
    /// How often it will still answer.
    left: AtomicUsize,
    words: String,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Say(Verdict),
    Error,
    Panic,
    Unavailable,
    Raw,
    Path,
    Capability,
    Result,
    Finding,
    Field,
    Note,
    Facts,
    Settle,
}

/// Reads a line `test ...`, without the word `test`.
pub fn scripted(line: &str) -> Result<Loaded, String> {
    let mut rest = line;
    let mut word = || {
        let (word, more) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = more;
        word
    };
    let hook: Hook = word().parse()?;
    let what = match word() {
        "ERROR" => What::Error,
        "PANIC" => What::Panic,
        "UNAVAILABLE" => What::Unavailable,
        "RAW" => What::Raw,
        "PATH" => What::Path,
        "CAPABILITY" => What::Capability,
        "RESULT" => What::Result,
        "FINDING" => What::Finding,
        "FIELD" => What::Field,
        "NOTE" => What::Note,
        "FACTS" => What::Facts,
        "SETTLE" => What::Settle,
        verdict => What::Say(verdict.parse()?),
    };
    let (mut only, mut on_error, mut name) = (String::new(), OnError::Defer, "test".to_owned());
    let mut times = usize::MAX;
    loop {
        let (word, more) = rest.split_once(' ').unwrap_or((rest, ""));
        match word.split_once('=') {
            Some(("if", text)) => only = text.to_owned(),
            Some(("times", number)) => times = number.parse().map_err(|_| "no number")?,
            Some(("on_error", "skip")) => on_error = OnError::Skip,
            Some(("name", text)) => name = text.to_owned(),
            _ => break,
        }
        rest = more;
    }
    let words = String::from_utf8(super::script::unescape(rest)?).map_err(|why| why.to_string())?;
    let plugin = Scripted {
        hook,
        what,
        only,
        left: AtomicUsize::new(times),
        words,
    };
    Ok(loaded(&name, vec![hook], on_error, plugin))
}

impl Plugin for Scripted {
    fn takes(&self) -> Extensions {
        Extensions::ALL
    }

    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        let asked = subject(event, s);
        if event.hook() != self.hook || !asked.contains(&self.only) {
            return declined();
        }
        let one_less = |left: usize| left.checked_sub(1);
        if self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
        {
            return declined();
        }
        match self.what {
            What::Say(verdict) => self.say(verdict),
            What::Error => Err(Failure::new(self.words.clone())),
            What::Panic => panic(&self.words),
            What::Unavailable => unavailable(s, &self.words),
            What::Raw => {
                s.respond_raw(self.words.as_bytes());
                done()
            }
            What::Path => parsed(PathLine {
                address: self.words.clone(),
                params: Params::new(),
            }),
            _ => self.add(s, &asked),
        }
    }
}

impl Scripted {
    fn say(&self, verdict: Verdict) -> Answer {
        let (first, rest) = self.words.split_once(' ').unwrap_or((&self.words, ""));
        match first.parse::<Status>() {
            Ok(status) => answer_with(verdict, status, rest.to_owned()),
            Err(_) => answer(verdict, self.words.clone()),
        }
    }

    fn add(&self, s: &mut Session, asked: &str) -> Answer {
        let words = self.words.clone();
        match self.what {
            What::Capability => s.capabilities.push(words),
            What::Finding => s.results.push(words),
            What::Result => {
                if let Some(transaction) = &mut s.transaction {
                    transaction.results.push(words);
                }
            }
            What::Field => {
                let (name, value) = words.split_once(": ").unwrap_or((&words, ""));
                if let Some(message) = s.message() {
                    message.header.add_bottom(name, value);
                }
            }
            What::Facts => s.log(qpsmtpd::log::Level::Info, format_args!("{}", facts(s))),
            What::Settle => settle(s, &words)?,
            _ => s.log(qpsmtpd::log::Level::Info, format_args!("asked {asked}")),
        }
        declined()
    }
}

/// All about the client.
fn facts(s: &Session) -> String {
    let peer = &s.peer;
    let (local, user) = (peer.local_ip, s.login.user.as_ref());
    let mut text = format!("{} [{}]:{}", peer.host, peer.ip, peer.port);
    text += &format!(
        " at {}:{}",
        local.map(|ip| ip.to_string()).unwrap_or_default(),
        peer.local_port
    );
    text += &format!(" hello {}", s.hello.as_ref().map_or("none", |hello| &hello.host));
    text += &format!(
        " user {} relay {}",
        user.map_or("none", |(user, _)| user),
        s.relay_client
    );
    if let Some(proxied) = &s.proxied {
        text += &format!(" by {} id {:?}", proxied.by, proxied.unique_id);
    }
    if let Some(forwarded) = &s.forwarded {
        text += &format!(" for {forwarded:?}");
    }
    text
}

fn settle(s: &mut Session, words: &str) -> Result<(), Failure> {
    let wrong = || Failure::new("SETTLE N VERDICT words");
    let (number, rest) = words.split_once(' ').ok_or_else(wrong)?;
    let (verdict, words) = rest.split_once(' ').unwrap_or((rest, ""));
    let (status, text) = match words.split_once(' ') {
        Some((first, rest)) if first.parse::<Status>().is_ok() => (first.parse().ok(), rest),
        _ => (None, words),
    };
    let outcome = RcptOutcome {
        verdict: verdict.parse().map_err(Failure::new)?,
        status,
        text: text.to_owned().into(),
    };
    let number: usize = number.parse().map_err(|_| wrong())?;
    s.transaction.as_mut().ok_or_else(wrong)?.settle(number - 1, outcome);
    Ok(())
}

/// What a hook is asked about, in words; the sender, where it has no argument.
fn subject(event: &Event<'_>, s: &Session) -> String {
    match event {
        Event::EhloParse { line } | Event::HeloParse { line } | Event::AuthParse { line } => (*line).to_owned(),
        Event::MailParse { line } | Event::RcptParse { line } => (*line).to_owned(),
        Event::Ehlo { host } | Event::Helo { host } => (*host).to_owned(),
        Event::MailPre { address, params } | Event::RcptPre { address, params } => {
            format!("{address}{}", with_params(params))
        }
        Event::Mail { sender, params } => format!("{}{}", sender.path(), with_params(params)),
        Event::Rcpt { recipient, params } => format!("{}{}", recipient.path(), with_params(params)),
        Event::AuthToken { with } | Event::AuthExternal { with } => {
            format!("{}/{}", with.user, with.token.as_deref().unwrap_or_default())
        }
        Event::Vrfy { what } => (*what).to_owned(),
        Event::Noop { rest } => (*rest).to_owned(),
        Event::Help { topic } => (*topic).to_owned(),
        Event::UnrecognizedCommand { verb, rest } => format!("{verb}|{rest}"),
        Event::Auth { with } | Event::AuthPlain { with } | Event::AuthLogin { with } | Event::AuthCramMd5 { with } => {
            with.user.clone()
        }
        Event::ReceivedLine { trace } => format!("{}|{}|{}", trace.kind, trace.auth, trace.tls),
        Event::Deny { plugin, verdict, text } | Event::Ok { plugin, verdict, text } => {
            format!("{plugin}|{verdict}|{text}")
        }
        _ => s.sender().path(),
    }
}

fn with_params(params: &Params) -> String {
    let one = |(key, value): (&str, Option<&str>)| format!(" {key}={}", value.unwrap_or_default());
    params.iter().map(one).collect()
}

/// Writes down the hooks that run. It stands first, so that no other plugin hides a call from it.
struct Recorder(Events);

pub fn recorder(events: Events) -> Loaded {
    let quiet = [Hook::logging, Hook::config, Hook::user_config, Hook::deny, Hook::ok];
    let hooks = Hook::ALL.iter().copied().filter(|hook| !quiet.contains(hook));
    loaded("recorder", hooks.collect(), OnError::Skip, Recorder(events))
}

impl Plugin for Recorder {
    fn on(&self, event: &Event<'_>, _: &mut Session) -> Answer {
        let name = event.hook().name().to_owned();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(name);
        declined()
    }
}

/// Accepts every recipient and keeps every message.
struct Keeper(Queue, Extensions);

pub fn keeper(queue: Queue, takes: Extensions) -> Loaded {
    let keeper = Keeper(queue, takes);
    loaded("keeper", vec![Hook::rcpt, Hook::queue], OnError::Defer, keeper)
}

impl Plugin for Keeper {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        if event.hook() == Hook::queue {
            let envelope = s.transaction.as_deref().map(envelope).unwrap_or_default();
            let mut message = Vec::new();
            if let Some(whole) = s.message() {
                whole.write_to(&mut message)?;
            }
            let kept = Kept { envelope, message };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        ok()
    }

    fn takes(&self) -> Extensions {
        self.1
    }
}

/// The envelope with what the sender wants to be told.
fn envelope(transaction: &Transaction) -> String {
    let options = &transaction.options;
    let mut text = transaction.sender.path();
    text.extend(options.ret.map(|ret| format!(" RET={ret}")));
    text.extend(options.envid.as_ref().map(|envid| format!(" ENVID={envid}")));
    text.push_str(" to");
    for recipient in &transaction.recipients {
        text.push_str(&format!(" {}", recipient.address.path()));
        text.extend(recipient.options.notify.map(|notify| format!(" NOTIFY={notify}")));
        let orcpt = recipient.options.orcpt.as_ref();
        text.extend(orcpt.map(|orcpt| format!(" ORCPT={}", orcpt.encoded(true))));
    }
    text
}

/// Accepts every recipient and counts messages without keeping them.
struct Counter(Queue);

pub fn counter(queue: Queue) -> Loaded {
    loaded("counter", vec![Hook::rcpt, Hook::queue], OnError::Defer, Counter(queue))
}

impl Plugin for Counter {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        if event.hook() == Hook::queue {
            let kept = Kept {
                envelope: s.sender().path(),
                message: Vec::new(),
            };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        }
        ok()
    }
}
