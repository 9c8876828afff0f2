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

/// What a server will say, and what became of it.
#[derive(Default)]
struct State {
    rest: Vec<u8>,
    /// What it has said on the last connection.
    said: Vec<u8>,
    /// What it was told there.
    told: Vec<u8>,
    /// What it has said after each message it got to its end.
    verdicts: Vec<Vec<u8>>,
    /// A message was the last it was told.
    judges: bool,
}

/// The way to servers, each of which says a line whenever it is waited for. With 1 in front a line comes at once after
/// the one before; 2 in its place is the end of the connection, and 3 is silence.
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
        match state.rest.first() {
            None if waits => return Ok(Heard::End),
            Some(first @ 2..=3) => {
                let ends = *first == 2;
                state.rest.remove(0);
                return Ok(if ends { Heard::End } else { Heard::TimedOut });
            }
            Some(1) => {}
            Some(_) if waits => {}
            _ => return Ok(Heard::TimedOut),
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
            && let Some(verdict) = state.verdicts.last_mut()
        {
            verdict.extend_from_slice(given);
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
            state.verdicts.push(Vec::new());
        }
        Ok(())
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
    let accepted = afters.filter(|two| two[1].starts_with(b"250")).count();
    let confirmed = state
        .verdicts
        .iter()
        .filter(|verdict| says_yes(verdict, line.contains("lmtp")));
    match (accepted, confirmed.count()) {
        (accepted, confirmed) if accepted > confirmed => {
            let told = state.told.escape_ascii();
            Err(format!(
                "{accepted} accepted, {confirmed} confirmed; the last heard {told}"
            ))
        }
        (accepted, _) => Ok(accepted),
    }
}

/// Whether a message was taken: by the reply to it, or with LMTP by one of them.
fn says_yes(said: &[u8], lmtp: bool) -> bool {
    let mut last = said
        .split(|byte| *byte == b'\n')
        .filter(|line| line.get(3) != Some(&b'-'));
    let yes = |line: &[u8]| line.starts_with(b"2");
    match lmtp {
        true => last.any(yes),
        false => last.next().is_some_and(yes),
    }
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

    /// Of messages that other servers took, the client hears so.
    #[test]
    fn servers_that_say_yes_are_believed() {
        let go = "220 x\r\n250-x\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
        let again = "250 reset\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n";
        assert_eq!(check(0, format!("{go}{again}").as_bytes()), Ok(2));
        assert_eq!(check(0, go.as_bytes()), Ok(1));
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
    }
}
