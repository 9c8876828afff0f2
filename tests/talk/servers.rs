//! Servers of others that say anything: the next mail server, and those that know users. Nothing is accepted that they
//! have not accepted, and what they say makes no malformed reply of ours.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use qpsmtpd::config::{Lines, Lookup};
use qpsmtpd::plugin::{ClientTls, Dial, KitDial, Lost, RemoteTls, Target, load_line};
use qpsmtpd::plugins::REGISTER;
use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::scripted;
use super::moods::lock;
use super::player::well_formed;
use super::stage::{self, Set};

/// What the client says who brings mail: two messages, so that the second may go over a connection that was kept.
const BRINGS: &str = "EHLO x\r\n\
    MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nRCPT TO:<z@y.example>\r\nDATA\r\nSubject: x\r\n\r\n..\r\nx\r\n.\r\n\
    MAIL FROM:<a@b.example>\r\nRCPT TO:<x@y.example>\r\nDATA\r\nSubject: y\r\n\r\n.\r\nQUIT\r\n";
/// The one who logs in: joe@example.com with the password pw.
const LOGS_IN: &str = "EHLO x\r\nAUTH PLAIN AGpvZUBleGFtcGxlLmNvbQBwdw==\r\nQUIT\r\n";

/// Whether what a server has said lets somebody in.
type Yes = fn(&[u8]) -> bool;

/// Plugins that ask other servers; those of the logins with what has to be said at least by one that lets somebody in.
pub const ASKS: [(&str, Option<Yes>); 9] = [
    ("queue/smtp-forward 192.0.2.1 25", None),
    ("queue/smtp-forward 192.0.2.1 25 login DIR/login login_in_clear", None),
    ("queue/smtp-forward 192.0.2.1 25 xclient fallback 192.0.2.2", None),
    ("queue/lmtp 192.0.2.1 24", None),
    ("auth/auth_vpopmaild host 192.0.2.1", Some(two_pluses)),
    ("auth/auth_dovecot 192.0.2.1:3000", Some(ok_to_us)),
    ("auth/auth_saslauthd /run/mux", Some(counted_ok)),
    ("auth/auth_imap 192.0.2.1 143", Some(tagged_ok)),
    (
        "auth/auth_cvm_unix_local cvm_socket /run/cvm enable_smtp yes",
        Some(zero),
    ),
];

fn two_pluses(said: &[u8]) -> bool {
    let mut lines = said.split(|byte| *byte == b'\n');
    (0..2).all(|_| lines.next().is_some_and(|line| line.starts_with(b"+OK")))
}

fn ok_to_us(said: &[u8]) -> bool {
    let lines: Vec<&[u8]> = said.split(|byte| *byte == b'\n').collect();
    let done = lines.iter().position(|line| line.starts_with(b"DONE"));
    let mut after = lines.iter().skip(done.unwrap_or(usize::MAX));
    after.any(|line| line.trim_ascii_end() == b"OK\t1" || line.starts_with(b"OK\t1\t"))
}

fn counted_ok(said: &[u8]) -> bool {
    said.get(2..4) == Some(b"OK")
}

fn tagged_ok(said: &[u8]) -> bool {
    let said = said.to_ascii_uppercase();
    let has = |tag: &[u8]| said.split(|byte| *byte == b'\n').any(|line| line.starts_with(tag));
    has(b"* OK") && has(b"A1 OK") && has(b"A2 OK")
}

fn zero(said: &[u8]) -> bool {
    said.first() == Some(&0)
}

/// A message that a server got to its end.
struct Delivery {
    sender: String,
    recipients: Vec<String>,
    content: String,
    /// What the server has said to it, as far as it was there when all answers were due.
    said: Vec<u8>,
}

impl Delivery {
    /// The last one in what a server was told.
    fn of(told: &[u8]) -> Delivery {
        let told = String::from_utf8_lossy(told);
        let last = told.rsplit("MAIL FROM:").next().unwrap_or_default();
        let (envelope, content) = last.split_once("\r\nDATA\r\n").unwrap_or((last, ""));
        let path = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        let mut lines = envelope.split("\r\n");
        Delivery {
            sender: lines.next().map(path).unwrap_or_default(),
            recipients: lines
                .filter_map(|line| line.strip_prefix("RCPT TO:"))
                .map(path)
                .collect(),
            content: content.to_owned(),
            said: Vec::new(),
        }
    }

    /// How often the server had to answer.
    fn due(&self, lmtp: bool) -> usize {
        if lmtp { self.recipients.len() } else { 1 }
    }

    /// Whether it has the message for the recipient of this number. A yes counts if every answer before it makes sense;
    /// with LMTP, none does if there are more answers than recipients.
    fn is_with(&self, number: usize, lmtp: bool) -> bool {
        let (codes, more) = answers(&self.said, self.due(lmtp));
        let number = if lmtp { number } else { 0 };
        !(lmtp && more) && codes.get(number).is_some_and(|code| code / 100 == 2)
    }

    /// Whether nobody can have it: every answer is a no.
    fn is_with_nobody(&self, lmtp: bool) -> bool {
        let (codes, more) = answers(&self.said, self.due(lmtp));
        !(lmtp && more) && codes.len() == self.due(lmtp) && codes.iter().all(|code| code / 100 != 2)
    }
}

/// The codes of the first answers that are yes or no, at most so many, and whether there is more behind the last.
fn answers(said: &[u8], most: usize) -> (Vec<u16>, bool) {
    let said = String::from_utf8_lossy(said);
    let mut lines = said.split_inclusive('\n');
    let mut codes = Vec::new();
    while codes.len() < most {
        let mut first = None;
        let code = loop {
            let line = lines
                .next()
                .filter(|line| line.ends_with('\n'))
                .unwrap_or_default()
                .trim_end();
            let digits = line
                .get(..3)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            let code: u16 = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
            if !matches!(code / 100, 2 | 4 | 5) || first.is_some_and(|first| first != code) {
                return (codes, false);
            }
            match line.as_bytes().get(3) {
                None | Some(b' ') => break code,
                Some(b'-') => first = Some(code),
                Some(_) => return (codes, false),
            }
        };
        codes.push(code);
    }
    (codes, lines.next().is_some())
}

/// What a server will say, and what became of it.
#[derive(Default)]
struct State {
    rest: Vec<u8>,
    /// What it has said on the last connection.
    said: Vec<u8>,
    /// What it was told there.
    told: Vec<u8>,
    /// The messages that it, or another before, got to their end.
    deliveries: Vec<Delivery>,
    /// A message was the last it was told, and what comes is an answer to it.
    judges: bool,
}

/// The way to servers, each of which says a line whenever it is waited for. With 1 in front a line comes at once after
/// the one before; 2 in its place is the end of the connection, and 3 is silence; 4 is the end as well, for who writes.
#[derive(Clone, Default)]
struct Servers(Arc<Mutex<State>>);

impl Dial for Servers {
    fn connect(&self, _: &Target, _: Instant) -> Result<Box<dyn Wire>, Lost> {
        let mut state = lock(&self.0);
        if state.rest.is_empty() {
            return Err(Lost::because("nobody is there any more"));
        }
        state.said.clear();
        state.told.clear();
        state.judges = false;
        Ok(Box::new(self.clone()))
    }

    fn encrypt(&self, clear: Box<dyn Wire>, _: &ClientTls, _: Instant) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
        let facts = RemoteTls {
            version: "TLSv1.3",
            cipher: "TLS_AES_256_GCM_SHA384",
            fingerprint: "00".to_owned(),
        };
        Ok((clear, facts))
    }
}

impl Wire for Servers {
    fn read(&mut self, buffer: &mut [u8], deadline: Instant, _: bool) -> io::Result<Heard> {
        let mut state = lock(&self.0);
        let waits = deadline > Instant::now() + Duration::from_millis(5);
        let nothing = match state.rest.first() {
            None if waits => Some(Heard::End),
            Some(4) if !waits => Some(Heard::TimedOut),
            Some(first @ 2..=4) => {
                let silent = *first == 3;
                state.rest.remove(0);
                Some(if silent { Heard::TimedOut } else { Heard::End })
            }
            Some(1) => None,
            Some(_) if waits => None,
            _ => Some(Heard::TimedOut),
        };
        if let Some(nothing) = nothing {
            // what comes yet comes late
            state.judges = false;
            return Ok(nothing);
        }
        let mut count = 0;
        while count < buffer.len() && !state.rest.is_empty() && (count == 0 || state.rest[0] == 1) {
            if state.rest[0] == 1 {
                state.rest.remove(0);
            }
            let end = state.rest.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(state.rest.len(), |at| at + 1).min(buffer.len() - count);
            let line: Vec<u8> = state.rest.drain(..length).collect();
            buffer[count..count + length].copy_from_slice(&line);
            count += length;
        }
        let given = &buffer[..count];
        state.said.extend_from_slice(given);
        if state.judges
            && let Some(delivery) = state.deliveries.last_mut()
        {
            delivery.said.extend_from_slice(given);
        }
        match count {
            0 => Ok(Heard::End),
            count => Ok(Heard::Bytes(count)),
        }
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.told.extend_from_slice(bytes);
        state.judges = state.told.ends_with(b"\r\n.\r\n");
        if state.judges {
            let delivery = Delivery::of(&state.told);
            state.deliveries.push(delivery);
        }
        match state.rest.first() {
            Some(4) => {
                state.rest.remove(0);
                Err(io::ErrorKind::BrokenPipe.into())
            }
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The client, who says all at once.
#[derive(Clone)]
struct Client(&'static [u8], Arc<Mutex<Vec<u8>>>);

impl Wire for Client {
    fn read(&mut self, buffer: &mut [u8], _: Instant, _: bool) -> io::Result<Heard> {
        let count = self.0.len().min(buffer.len());
        if count == 0 {
            return Ok(Heard::End);
        }
        buffer[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(Heard::Bytes(count))
    }

    fn write(&mut self, bytes: &[u8], _: Instant) -> io::Result<()> {
        lock(&self.1).extend_from_slice(bytes);
        Ok(())
    }
}

/// Lets the plugin of this number ask servers that say this: how often they were believed, or what is wrong.
pub fn check(number: u8, said: &[u8]) -> Result<usize, String> {
    let place = tempfile::tempdir().map_err(|why| why.to_string())?;
    let (line, lets_in) = ASKS[usize::from(number) % ASKS.len()];
    let servers = Servers::default();
    lock(&servers.0).rest = said.to_vec();
    let lookup = Lookup::in_memory();
    lookup.set("me", &["mx.example.org"]);
    lookup.set("auth_delay", &["0"]);
    let dial = KitDial::default();
    dial.leave_to(servers.clone());
    if line.contains("DIR") {
        std::fs::write(place.path().join("login"), "joe:pw\n").map_err(|why| why.to_string())?;
    }
    let line = line.replace("DIR", &place.path().to_string_lossy());
    let mut faults = Vec::new();
    let asks = load_line(&Lines::of("plugins", [&line])[0], &lookup, &REGISTER, &mut faults);
    let asks = asks.ok_or_else(|| format!("{faults:?}"))?;
    let heard = Arc::new(Mutex::new(Vec::new()));
    let words = if lets_in.is_some() { LOGS_IN } else { BRINGS };
    let client = Client(words.as_bytes(), Arc::clone(&heard));
    let set = Set { dial, ..Set::quiet() };
    stage::session(lookup, vec![scripted("rcpt OK")?, asks], Box::new(client), set);
    let heard = lock(&heard);
    let lines = well_formed(&heard, false)?;
    let state = lock(&servers.0);
    if let Some(lets_in) = lets_in {
        let is_in = lines.iter().any(|line| line.starts_with(b"235"));
        return match is_in && !lets_in(&state.said) {
            true => Err(format!("let in by {}", state.said.escape_ascii())),
            false => Ok(usize::from(is_in)),
        };
    }
    // behind the go-aheads are the answers to the messages
    let afters = lines.windows(2).filter(|two| two[0].starts_with(b"354"));
    let mut accepted = 0;
    for (after, subject) in afters.map(|two| &two[1]).zip(["Subject: x\r\n", "Subject: y\r\n"]) {
        let about = |one: &&Delivery| one.content.contains(subject);
        let (messages, reports) = state
            .deliveries
            .iter()
            .filter(about)
            .partition(|one| one.sender != "<>");
        judged(after, messages, &reports, line.contains("lmtp"))
            .map_err(|why| format!("{subject:?}: {why}; the last heard {}", state.told.escape_ascii()))?;
        accepted += usize::from(after.starts_with(b"250"));
    }
    Ok(accepted)
}

/// Whether our answer to a message is true: each recipient has it, or the sender has been told of him in a report, or
/// our answer names him. What a server may have taken must not have gone to another one.
fn judged(answer: &[u8], messages: Vec<&Delivery>, reports: &[&Delivery], lmtp: bool) -> Result<(), String> {
    let answer = String::from_utf8_lossy(answer);
    let last = messages.last();
    if let Some(before) = messages.iter().rev().skip(1).find(|one| !one.is_with_nobody(lmtp)) {
        return Err(format!("sent again after {}", before.said.escape_ascii()));
    }
    if !answer.starts_with("250") && !answer.contains("but not to") {
        return Ok(());
    }
    let last = last.ok_or("nobody has got it")?;
    let told = |who: &str| {
        let part = format!("Final-Recipient: rfc822; {who}\r\nAction: failed\r\n");
        reports
            .iter()
            .any(|one| one.content.contains(&part) && one.is_with(0, lmtp))
    };
    for (number, who) in last.recipients.iter().enumerate() {
        if !last.is_with(number, lmtp) && !told(who.trim_matches(['<', '>'])) && !answer.contains(who) {
            return Err(format!("{who} has not got it by {}", last.said.escape_ascii()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

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

    /// What a server says to a message for two, up to the answers to it; and to one for one, over the same connection
    /// and over a new one.
    const GO: &str = "220 x\r\n250 x\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    const GO_ON: &str = "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    const ANEW: &str = "220 x\r\n250 x\r\n250 ok\r\n250 ok\r\n354 go\r\n";

    /// Answers to messages, whether there are as many as there should be or not.
    fn verdicts() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            6 => Just("250 2.0.0 saved\r\n"),
            3 => Just("552 5.2.2 full\r\n"),
            2 => Just("452 4.2.2 full\r\n"),
            1 => Just("421 4.3.2 bye\r\n"),
            1 => Just("250-2.0.0 saved\r\n"),
            1 => Just("354 go\r\n"),
            1 => Just("junk\r\n"),
            1 => Just("250"),
            1 => Just("\u{2}"),
            1 => Just("\u{3}"),
            1 => Just("\u{4}"),
        ];
        let line =
            (any::<bool>(), line).prop_map(|(at_once, line)| format!("{}{line}", if at_once { "\u{1}" } else { "" }));
        let lines = |most| vec(line.clone(), 0..most).prop_map(|lines| lines.concat());
        let on = || prop_oneof![Just(GO_ON), Just(ANEW), Just(GO), Just("")];
        let all = (lines(5), on(), lines(3), on(), lines(3));
        all.prop_map(|(one, on, two, further, three)| format!("{GO}{one}{on}{two}{further}{three}").into_bytes())
    }

    /// Of messages that other servers took, the client hears so.
    #[test]
    fn servers_that_say_yes_are_believed() {
        let go = "220 x\r\n250-x\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
        let again = "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
        assert_eq!(check(0, format!("{go}{again}").as_bytes()), Ok(2));
        assert_eq!(check(0, go.as_bytes()), Ok(1));
        // of LMTP: to both; to one and to the sender of the other
        assert_eq!(check(3, format!("{GO}250 a\r\n\u{1}250 b\r\n").as_bytes()), Ok(1));
        assert_eq!(
            check(3, format!("{GO}250 a\r\n552 b\r\n{GO_ON}250 ok\r\n").as_bytes()),
            Ok(1)
        );
        assert_eq!(
            check(3, format!("{GO}250 a\r\n552 b\r\n{GO_ON}552 ok\r\n").as_bytes()),
            Ok(0)
        );
        assert_eq!(
            check(3, format!("{GO}250 a\r\n250 b\r\n\u{1}250 c\r\n").as_bytes()),
            Ok(0)
        );
        // the second one, if it could not be sent to its end, is not sent again
        for (number, both) in [(0, "250 both\r\n"), (3, "250 a\r\n250 b\r\n")] {
            let said = format!("{GO}{both}{GO_ON}\u{4}{ANEW}250 one\r\n");
            assert_eq!(check(number, said.as_bytes()), Ok(1), "{number}");
        }
        for (number, said) in [
            (4, "+OK\r\n+OK\r\n"),
            (5, "VERSION\t1\t2\nMECH\tPLAIN\nDONE\nOK\t1\n"),
            (6, "\0\x02OK"),
            (7, "* OK\r\na1 OK\r\na2 OK\r\n"),
            (8, "\0"),
        ] {
            assert_eq!(check(number, said.as_bytes()), Ok(1), "{said:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_is_accepted_that_another_server_has_not_accepted(
            number in 0..ASKS.len() as u8,
            said in said(),
        ) {
            if let Err(why) = check(number, &said) {
                return Err(TestCaseError::fail(why));
            }
        }

        #[test]
        fn who_has_not_got_it_is_not_said_to_have_it(number in 0..4u8, said in verdicts()) {
            if let Err(why) = check(number, &said) {
                return Err(TestCaseError::fail(why));
            }
        }
    }
}
