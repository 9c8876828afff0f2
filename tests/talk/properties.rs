//! Sessions made at random: one reply to each command, nothing is queued but what was accepted, no message twice, and
//! the packets in which it all arrives make no difference.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;

use qpsmtpd::config::Lookup;
use qpsmtpd::plugin::{Answer, Event, Failure, Hook, Loaded, OnError, Plugin, Session, Verdict, answer};
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::{Kept, Queue, loaded};
use super::player::well_formed;
use super::stage::{self, Set};

/// What a plugin answers next.
#[derive(Clone, Copy, Debug)]
enum Mood {
    Say(Verdict),
    Fail,
}

/// A plugin of changing moods, which keeps what it is asked to queue.
struct Moody {
    moods: Vec<Mood>,
    next: AtomicUsize,
    queue: Queue,
}

const DECIDES: &[Hook] = &[
    Hook::ehlo_parse,
    Hook::ehlo,
    Hook::helo,
    Hook::mail_parse,
    Hook::mail_pre,
    Hook::mail,
    Hook::rcpt_parse,
    Hook::rcpt_pre,
    Hook::rcpt,
    Hook::data,
    Hook::data_headers_end,
    Hook::data_post_headers,
    Hook::data_post,
    Hook::queue_pre,
    Hook::queue,
    Hook::queue_post,
    Hook::received_line,
    Hook::reset_transaction,
    Hook::noop,
    Hook::vrfy,
    Hook::help,
    Hook::quit,
    Hook::unrecognized_command,
];

fn moody(moods: &[Mood], queue: &Queue) -> Loaded {
    let plugin = Moody {
        moods: moods.to_vec(),
        next: AtomicUsize::new(0),
        queue: queue.clone(),
    };
    loaded("moody", DECIDES.to_vec(), OnError::Defer, plugin)
}

impl Plugin for Moody {
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer {
        let hook = event.hook();
        if hook == Hook::queue {
            let to: Vec<String> = s.recipients().map(|address| address.path()).collect();
            let envelope = format!("{} to {}", s.sender().path(), to.join(" "));
            let mut message = Vec::new();
            if let Some(whole) = s.message() {
                whole.write_to(&mut message)?;
            }
            lock(&self.queue).push(Kept { envelope, message });
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        match self.moods.get(next % self.moods.len().max(1)) {
            // most sessions shall get somewhere
            None | Some(Mood::Say(Verdict::Declined)) if matches!(hook, Hook::rcpt | Hook::queue) => {
                answer(Verdict::Ok, "")
            }
            None => answer(Verdict::Declined, ""),
            Some(Mood::Say(verdict)) => answer(*verdict, ""),
            Some(Mood::Fail) => Err(Failure::new("in a bad mood")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client that waits for each reply, and the model of what it may expect.
#[derive(Default)]
struct Client {
    commands: Vec<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    /// How many commands have been sent.
    sent: usize,
    /// What is being answered: nothing (the greeting), a command, or a message.
    asked: Asked,
    sender: Option<String>,
    recipients: Vec<String>,
    queue: Queue,
    queued_before: usize,
    output: Vec<u8>,
    fault: Option<String>,
}

#[derive(Clone, Default, Debug)]
enum Asked {
    #[default]
    Greeting,
    Command(Vec<u8>),
    Message(Vec<u8>),
    /// The client has gone.
    Nothing,
}

impl Client {
    /// Looks at the reply to what was asked; the code.
    fn answered(&mut self, closing: bool) -> Result<u16, String> {
        let output = std::mem::take(&mut self.output);
        let lines = well_formed(&output, false)?;
        let last: Vec<_> = lines.iter().filter(|line| line[3] == b' ').collect();
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        match (&asked, last.len()) {
            (Asked::Nothing, 0) if closing => return Ok(0),
            (_, 1) => {}
            (asked, many) => return Err(format!("{many} replies to {asked:?}")),
        }
        let code: u16 = String::from_utf8_lossy(&last[0][..3])
            .parse()
            .map_err(|_| "no code".to_owned())?;
        let calls: Vec<Kept> = lock(&self.queue)[self.queued_before..].to_vec();
        self.queued_before += calls.len();
        match asked {
            Asked::Message(body) => self.message_answered(&body, code, &calls)?,
            Asked::Command(line) => {
                if !calls.is_empty() {
                    return Err(format!("{line:?} queued something"));
                }
                self.command_answered(&line, code);
            }
            Asked::Greeting | Asked::Nothing => {}
        }
        Ok(code)
    }

    fn message_answered(&mut self, body: &[u8], code: u16, calls: &[Kept]) -> Result<(), String> {
        if calls.len() > 1 || (code == 250) != (calls.len() == 1 && code == 250) {
            return Err(format!("{} calls of the queue, then {code}", calls.len()));
        }
        for call in calls {
            let sender = self.sender.clone().unwrap_or_default();
            let envelope = format!("{sender} to {}", self.recipients.join(" "));
            if self.recipients.is_empty() || call.envelope != envelope {
                return Err(format!("queued {}, accepted {envelope}", call.envelope));
            }
            if !call.message.ends_with(body) {
                return Err(format!("sent {body:?}, queued {:?}", call.message));
            }
        }
        self.reset();
        Ok(())
    }

    fn command_answered(&mut self, line: &[u8], code: u16) {
        let line = String::from_utf8_lossy(line).trim_end().to_ascii_uppercase();
        let path = line.split('>').next().and_then(|start| start.split_once('<'));
        let path = path.map_or_else(String::new, |(_, rest)| format!("<{}>", rest.to_ascii_lowercase()));
        match line.get(..4).unwrap_or_default() {
            "MAIL" => {
                self.reset();
                self.sender = (code == 250).then_some(path);
            }
            "RCPT" if code == 250 => self.recipients.push(path),
            "EHLO" | "HELO" | "RSET" if code == 250 => self.reset(),
            "VRFY" if code == 554 => self.reset(),
            "DATA" if code != 354 && code != 503 => self.reset(),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
    }

    /// What the client says next; nothing if it goes.
    fn next(&mut self) -> Option<Vec<u8>> {
        let code = match self.answered(false) {
            Ok(code) => code,
            Err(why) => {
                self.fault.get_or_insert(why);
                return None;
            }
        };
        if code == 354 {
            let body = self.messages[self.sent % self.messages.len()].clone();
            self.asked = Asked::Message(body.clone());
            return Some(stuffed(&body));
        }
        let command = self.commands.get(self.sent)?.clone();
        self.sent += 1;
        self.asked = Asked::Command(command.clone());
        Some(command)
    }
}

/// A message as it is sent.
fn stuffed(body: &[u8]) -> Vec<u8> {
    let mut sent = Vec::new();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            sent.push(b'.');
        }
        sent.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\n");
    sent
}

#[derive(Clone)]
struct Talk(Arc<Mutex<Client>>, Vec<u8>);

impl Wire for Talk {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        if self.1.is_empty() {
            self.1 = match lock(&self.0).next() {
                Some(words) => words,
                None => return Ok(Heard::End),
            };
        }
        let count = buffer.len().min(self.1.len());
        buffer[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        lock(&self.0).output.extend_from_slice(bytes);
        Ok(())
    }
}

/// Gives its bytes in pieces, and keeps what it hears.
#[derive(Clone)]
struct Pieces {
    input: Vec<u8>,
    cuts: Vec<usize>,
    cut: usize,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Wire for Pieces {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let piece = self.cuts.get(self.cut % self.cuts.len().max(1)).copied();
        self.cut += 1;
        let count = piece.unwrap_or(usize::MAX).min(buffer.len()).min(self.input.len());
        if count == 0 {
            return Ok(Heard::End);
        }
        buffer[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        lock(&self.output).extend_from_slice(bytes);
        Ok(())
    }
}

fn configured() -> Lookup {
    let lookup = Lookup::in_memory();
    lookup.set("me", &["mx.example.org"]);
    lookup.set("max_errors", &["0"]);
    lookup.set("max_unknown_commands", &["0"]);
    lookup
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    let line = |text: &'static str| Just(format!("{text}\r\n").into_bytes());
    prop_oneof![
        8 => line("MAIL FROM:<a@b.example>"),
        2 => line("mail from:<> SIZE=5"),
        8 => line("RCPT TO:<x@y.example>"),
        4 => line("RCPT TO:<z@y.example>"),
        8 => line("DATA"),
        2 => line("EHLO client.example"),
        1 => line("HELO client.example"),
        1 => line("MAIL FROM:bad"),
        1 => line("RCPT TO:<>"),
        1 => line("RSET"),
        1 => line("NOOP"),
        1 => line("VRFY x"),
        1 => line("HELP"),
        1 => line("FOO bar"),
        1 => line(""),
        1 => line("AUTH PLAIN x"),
        1 => Just(b"\xff\xfe x\r\n".to_vec()),
        1 => Just([vec![b'x'; 5000], b"\r\n".to_vec()].concat()),
    ]
}

fn message() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        Just("Subject: x"),
        Just("X-Dots: .."),
        Just(" folded"),
        Just(""),
        Just("."),
        Just("..text"),
        Just("text"),
    ];
    // the first line decides whether there is a header; its separator belongs to the body
    vec(line, 0..8).prop_map(|lines| {
        let lines = lines.iter().map(|line| format!("{line}\n"));
        format!("Subject: y\n\n{}", lines.collect::<String>()).into_bytes()
    })
}

fn mood() -> impl Strategy<Value = Mood> {
    prop_oneof![
        30 => Just(Mood::Say(Verdict::Declined)),
        4 => Just(Mood::Say(Verdict::Ok)),
        2 => Just(Mood::Say(Verdict::Deny)),
        2 => Just(Mood::Say(Verdict::DenySoft)),
        1 => Just(Mood::Say(Verdict::DenyDisconnect)),
        1 => Just(Mood::Say(Verdict::DenySoftDisconnect)),
        1 => Just(Mood::Fail),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_command_has_one_reply_and_only_what_was_accepted_is_queued(
        commands in vec(command(), 0..40),
        messages in vec(message(), 1..4),
        moods in vec(mood(), 0..30),
    ) {
        let queue = Queue::default();
        let mut all = vec![b"EHLO client.example\r\n".to_vec()];
        all.extend(commands);
        let client = Arc::new(Mutex::new(Client { commands: all, messages, queue: queue.clone(), ..Client::default() }));
        let wire = Box::new(Talk(client.clone(), Vec::new()));
        stage::session(configured(), vec![moody(&moods, &queue)], wire, Set::default());
        let mut client = lock(&client);
        if let Some(fault) = &client.fault {
            return Err(TestCaseError::fail(fault.clone()));
        }
        if let Err(why) = client.answered(true) {
            return Err(TestCaseError::fail(why));
        }
    }

    #[test]
    fn packets_make_no_difference(
        commands in vec(prop_oneof![
            4 => command(),
            2 => message().prop_map(|body| stuffed(&body)),
            1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..20),
        ], 0..30),
        moods in vec(mood(), 0..30),
        cuts in vec(1usize..40, 1..20),
    ) {
        let start = b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n".to_vec();
        let input: Vec<u8> = std::iter::once(start).chain(commands).flatten().collect();
        let outcome = |cuts: &[usize]| {
            let (queue, output) = (Queue::default(), Arc::default());
            let wire = Pieces { input: input.clone(), cuts: cuts.to_vec(), cut: 0, output: Arc::clone(&output) };
            stage::session(configured(), vec![moody(&moods, &queue)], Box::new(wire), Set::default());
            let queued: Vec<_> = lock(&queue).iter().map(|kept| kept.envelope.clone()).collect();
            let output: Vec<u8> = lock(&output).clone();
            (String::from_utf8_lossy(&output).into_owned(), queued)
        };
        let whole = outcome(&[]);
        prop_assert!(well_formed(whole.0.as_bytes(), false).is_ok(), "{:?}", well_formed(whole.0.as_bytes(), false));
        prop_assert_eq!(outcome(&cuts), whole.clone());
        prop_assert_eq!(outcome(&[1]), whole);
    }
}
