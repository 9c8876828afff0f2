//! Sessions made at random: one reply to each command, nothing is queued but what was accepted, no message twice, and
//! the packets in which it all arrives make no difference. The model is in `model`; `tests/fuzz` has the same
//! properties for bytes of any kind.

use proptest::collection::vec;
use proptest::prelude::*;

use qpsmtpd::plugin::Verdict;

use super::model::{self, Says, stuffed};
use super::moods::{self, Mood, Scene};

/// Commands, and the messages that are sent when the server says 354.
struct Lists {
    commands: std::vec::IntoIter<Vec<u8>>,
    messages: Vec<Vec<u8>>,
    sent: usize,
}

impl Says for Lists {
    fn command(&mut self, _: bool) -> Option<Vec<u8>> {
        self.sent += 1;
        self.commands.next()
    }

    fn message(&mut self) -> Vec<u8> {
        stuffed(&self.messages[self.sent % self.messages.len()])
    }
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
        1 => line("MAIL FROM:<a@b.example> BODY=BINARYMIME SMTPUTF8 RET=HDRS"),
        1 => line("RCPT TO:<>"),
        1 => line("RCPT TO:<q@y.example> NOTIFY=NEVER ORCPT=rfc822;q+2Bx@y.example"),
        1 => line("LHLO client.example"),
        1 => line("XCLIENT ADDR=198.51.100.1 NAME=other.example PROTO=ESMTP HELO=there.example"),
        1 => line("XFORWARD ADDR=[UNAVAILABLE] IDENT=x+20y"),
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

/// What a plugin answers; most often nothing.
pub fn mood() -> impl Strategy<Value = Mood> {
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

/// What surrounds a session; most often nothing in particular.
fn scene() -> impl Strategy<Value = Scene> {
    prop_oneof![1 => Just(Scene::default()), 2 => any::<u8>().prop_map(Scene::of)]
}

/// How a session begins.
fn hello(scene: Scene) -> Vec<u8> {
    if scene.lmtp {
        b"LHLO x\r\n".to_vec()
    } else {
        b"EHLO x\r\n".to_vec()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_command_has_one_reply_and_only_what_was_accepted_is_queued(
        commands in vec(command(), 0..40),
        messages in vec(message(), 1..4),
        moods in vec(mood(), 0..30),
        scene in scene(),
    ) {
        let mut all = vec![hello(scene)];
        all.extend(commands);
        let says = Lists { commands: all.into_iter(), messages, sent: 0 };
        if let Err(why) = model::check(scene, says, &moods) {
            return Err(TestCaseError::fail(why));
        }
    }

    #[test]
    fn packets_make_no_difference(
        commands in vec(prop_oneof![
            4 => command(),
            2 => message().prop_map(|body| stuffed(&body)),
            1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), any::<u8>()], 0..20),
            2 => rubbish(),
        ], 0..30),
        moods in vec(mood(), 0..30),
        cuts in vec(1usize..40, 1..20),
        scene in scene(),
    ) {
        let start = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\n".to_vec();
        let input: Vec<u8> = [hello(scene), start].into_iter().chain(commands).flatten().collect();
        let whole = moods::outcome(scene, &input, &moods, &[]);
        prop_assert!(whole.is_ok(), "{:?}", whole);
        prop_assert_eq!(&moods::outcome(scene, &input, &moods, &cuts), &whole);
        prop_assert_eq!(&moods::outcome(scene, &input, &moods, &[1]), &whole);
    }
}

/// What the client says when nobody knows what it will be: bytes.
fn rubbish() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        8 => command(),
        2 => message().prop_map(|body| stuffed(&body)),
        2 => Just(b".\r\n".to_vec()),
        2 => Just(b"BDAT 12\r\nSubject: x\r\n".to_vec()),
        1 => Just(b"BDAT 7\r\n\r\n.\r\nx\r".to_vec()),
        2 => Just(b"BDAT 1 LAST\r\n\n".to_vec()),
        1 => Just(b"bdat 0 last\r\n".to_vec()),
        1 => Just(b"BDAT x\r\n".to_vec()),
        1 => Just(b"AUTH PLAIN\r\nAHgAeQ==\r\n".to_vec()),
        1 => vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b':'), any::<u8>()], 0..20),
    ];
    vec(word, 0..30).prop_map(|words| words.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stream_of_bytes_is_answered_line_by_line(
        bytes in rubbish(),
        moods in vec(mood(), 0..30),
        scene in scene(),
    ) {
        let start = b"MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\n".to_vec();
        let says = model::Stream::new([hello(scene), start, bytes].concat());
        if let Err(why) = model::check(scene, says, &moods) {
            return Err(TestCaseError::fail(why));
        }
    }
}

/// Inputs of which fuzzing has found that the model was wrong about them, with the bits of their scene.
const FOUND: [(u8, &[u8]); 3] = [
    // no DATA, but another word, which leaves the transaction as it is
    (
        8,
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\0\r\nBDAT 14 LAST\r\nSubject: x\r\n\r\n",
    ),
    // the session of a client of LMTP ends within its data
    (
        1,
        b"LHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\na\nb\r\n.\r\n",
    ),
    // the null sender in one of its forms, with an address behind it
    (
        0,
        b"EHLO x\r\nMAIL FROM:[undefined]<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nSubject: x\r\n\r\n.\r\n",
    ),
];

#[test]
fn what_fuzzing_has_found() {
    for (scene, bytes) in FOUND {
        let says = model::Stream::new(bytes.to_vec());
        assert_eq!(
            model::check(Scene::of(scene), says, &[]),
            Ok(()),
            "{}",
            bytes.escape_ascii()
        );
    }
}

/// What a proxy says first: a header, or nearly one.
fn proxied() -> impl Strategy<Value = Vec<u8>> {
    let second = |rest: &[u8]| [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".as_slice(), rest].concat();
    let client = second(&[192, 0, 2, 1, 192, 0, 2, 2, 15, 160, 0, 25]);
    prop_oneof![
        3 => Just(b"PROXY TCP4 198.51.100.1 192.0.2.25 4000 25\r\n".to_vec()),
        1 => Just(b"PROXY TCP6 2001:db8::1 2001:db8::2 4000 25\r\n".to_vec()),
        1 => Just(b"PROXY UNKNOWN\r\n".to_vec()),
        3 => Just(client),
        1 => Just(second(b"")),
        1 => vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_of_a_proxy_make_no_difference(
        header in proxied(),
        broken in proptest::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        rest in rubbish(),
        cuts in vec(1usize..40, 1..20),
        scene in scene(),
    ) {
        let mut input = header;
        if let (Some((at, byte)), false) = (broken, input.is_empty()) {
            let at = at.index(input.len());
            input[at] = byte;
        }
        input.extend(rest);
        let scene = Scene { proxy: true, ..scene };
        let whole = moods::outcome(scene, &input, &[], &[]);
        prop_assert!(whole.is_ok(), "{:?}", whole);
        prop_assert_eq!(&moods::outcome(scene, &input, &[], &cuts), &whole);
        prop_assert_eq!(&moods::outcome(scene, &input, &[], &[1]), &whole);
    }
}
