//! Sessions made at random: one reply to each command, nothing is queued but what was accepted, no message twice, and
//! the packets in which it all arrives make no difference. The model is in `model`; `tests/fuzz` has the same
//! properties for bytes of any kind.

use proptest::collection::vec;
use proptest::prelude::*;

use qpsmtpd::plugin::Verdict;

use super::logins::{ENCODED, Login, MECHANISMS};
use super::model::{self, Says, stuffed};
use super::moods::{self, Mood, Scene};
use super::{parts, servers};

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
const FOUND: [(u8, &[u8]); 1] = [
    // no DATA, but another word, which leaves the transaction as it is
    (
        8,
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\0\r\nBDAT 14 LAST\r\nSubject: x\r\n\r\n",
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

/// A line of a login: the beginning of one, an answer, or anything.
fn login_line() -> impl Strategy<Value = Vec<u8>> {
    let encoded = |text: &str| Just([&[ENCODED], text.as_bytes()].concat());
    let answer = prop_oneof![
        encoded("\0joe\0secret"),
        encoded("joe"),
        encoded("joe 0123456789abcdef0123456789abcdef"),
        encoded("n,,n=joe,r=abc"),
        encoded("y,a=joe,n=joe,r=abc"),
        encoded("p=tls-exporter,,n=joe,r=abc"),
        encoded("c=biws,r=%r,p=%p"),
        encoded("c=biws,r=%r,p=AAAA"),
        encoded("n,a=joe@y.example,\x01auth=Bearer abc.def\x01\x01"),
        encoded("user=joe\x01auth=Bearer abc\x01\x01"),
        encoded(""),
        Just(b"=".to_vec()),
        Just(b"*".to_vec()),
        vec(any::<u8>().prop_filter("no line end", |byte| *byte != b'\n'), 0..40),
    ];
    let mechanism = 0..MECHANISMS.len() as u8;
    prop_oneof![
        2 => answer.clone(),
        2 => (mechanism.clone(), answer).prop_map(|(at, answer)| [vec![at], answer].concat()),
        1 => mechanism.prop_map(|at| vec![at]),
    ]
}

/// A login by SCRAM that does all that is wanted.
fn scram() -> Vec<u8> {
    let lines = ["\u{4}\u{e}n,,n=joe,r=abc", "\u{e}c=biws,r=%r,p=%p", ""];
    lines.map(|line| format!("{line}\n")).concat().into_bytes()
}

#[test]
fn the_client_of_scram_is_let_in() {
    let scene = Scene {
        challenges: true,
        ..Scene::default()
    };
    let says = Login::new(scram());
    let heard = says.heard();
    assert_eq!(model::check(scene, says, &[]), Ok(()));
    let heard = String::from_utf8_lossy(&heard.lock().expect("no panic")).into_owned();
    assert!(heard.contains("\n235 ") && !heard.contains("\n5"), "{heard}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_let_in_whom_the_plugin_does_not_let_in(
        lines in vec(prop_oneof![8 => login_line(), 1 => Just(scram())], 0..20),
        moods in vec(mood(), 0..30),
        tls: bool,
    ) {
        let scene = Scene { challenges: true, tls, ..Scene::default() };
        if let Err(why) = model::check(scene, Login::new(lines.join(&b'\n')), &moods) {
            return Err(TestCaseError::fail(why));
        }
    }
}

/// What the next mail server says, or one that knows users; some of it as it should.
fn said() -> impl Strategy<Value = Vec<u8>> {
    let line = |text: &'static str| Just(text.as_bytes().to_vec());
    let smtp = prop_oneof![
        2 => line("220 x ESMTP\r\n"),
        3 => line("250-x\r\n250-PIPELINING\r\n250-STARTTLS\r\n250-XCLIENT NAME ADDR\r\n250 AUTH PLAIN CRAM-MD5\r\n"),
        8 => line("250 2.0.0 ok\r\n"),
        2 => line("354 go on\r\n"),
        1 => line("235 2.7.0 in\r\n"),
        1 => line("334 PDEyMz4=\r\n"),
    ];
    let users = prop_oneof![
        line("+OK\r\n"),
        line("-ERR no\r\n"),
        line("VERSION\t1\t2\nMECH\tPLAIN\nDONE\n"),
        line("OK\t1\tuser=joe\n"),
        line("FAIL\t1\tuser=joe\n"),
        line("* OK hello\r\n"),
        line("a1 OK done\r\n"),
        line("a2 OK done\r\n"),
        line("a2 NO [UNAVAILABLE] later\r\n"),
        line("\0\x02OK"),
        line("\0\x02NO"),
    ];
    let broken = prop_oneof![
        line("550 5.7.1 no\r\n"),
        line("421 4.3.2 bye\r\n"),
        line("250-x\r\n"),
        line("250 \u{fc}ber\r\n"),
        line("\u{1}250 ok\r\n"),
        line("\u{2}"),
        line("\u{3}"),
        vec(any::<u8>(), 0..20),
    ];
    vec(prop_oneof![6 => smtp, 3 => users, 2 => broken], 0..24).prop_map(|words| words.concat())
}

/// Of messages that other servers took, the client hears so.
#[test]
fn servers_that_say_yes_are_believed() {
    let go = "220 x\r\n250-x\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
    let again = "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
    assert_eq!(servers::check(0, format!("{go}{again}").as_bytes()), Ok(2));
    assert_eq!(servers::check(0, go.as_bytes()), Ok(1));
    for (number, said) in [
        (4, "+OK\r\n+OK\r\n"),
        (5, "VERSION\t1\t2\nMECH\tPLAIN\nDONE\nOK\t1\n"),
        (6, "\0\x02OK"),
        (7, "* OK\r\na1 OK\r\na2 OK\r\n"),
        (8, "\0"),
    ] {
        assert_eq!(servers::check(number, said.as_bytes()), Ok(1), "{said:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_accepted_that_another_server_has_not_accepted(
        number in 0..servers::ASKS.len() as u8,
        said in said(),
    ) {
        if let Err(why) = servers::check(number, &said) {
            return Err(TestCaseError::fail(why));
        }
    }
}

fn odd_message() -> impl Strategy<Value = Vec<u8>> {
    let line = |text: &'static str| Just(text.as_bytes().to_vec());
    let piece = prop_oneof![
        8 => line("Subject: x\r\n"),
        4 => line("text\r\n"),
        6 => line("\r\n"),
        3 => line(".\r\n"),
        2 => line("..text\r\n"),
        2 => line(" folded\r\n"),
        1 => line("QUIT\r\n"),
        1 => vec(any::<u8>().prop_filter("no line end, no dot", |byte| !b"\r\n.".contains(byte)), 0..9),
        1 => Just(vec![b'x'; 1300]),
        1 => Just([&b"X:"[..], &[b'y'; 40]].concat()),
        1 => prop_oneof![line("\n"), line("\r"), line("a\nb"), line("\r\r\n")],
    ];
    vec(piece, 0..9).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn by_bdat_comes_what_comes_by_data(
        message in odd_message(),
        cuts in vec(prop_oneof![4 => 0usize..20, 1 => 1000usize..1400], 0..8),
        empty_last: bool,
        size in prop_oneof![1usize..30, Just(usize::MAX)],
        bare: bool,
    ) {
        if let Err(why) = parts::same(&message, &cuts, empty_last, size, bare) {
            return Err(TestCaseError::fail(why));
        }
    }
}
