//! The server of the tests: it speaks SMTP and LMTP honestly, checks every byte it gets, and can be told to misbehave at any step.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What the server does at a step in place of its usual answer.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Says this.
    Say(&'static str),
    /// Says this and closes.
    Last(&'static str),
    /// Says nothing until the client leaves.
    Hang,
    /// Says a byte now and then, never a whole line.
    Trickle,
}
pub use Act::*;

/// What the server has seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// The commands, without line ends.
    pub commands: Vec<String>,
    /// The last message without the final dot, as it came.
    pub message: Option<String>,
    /// The recipients that have the message, for it has said so: all of them at once with SMTP, each with LMTP.
    pub confirmed: Vec<String>,
    /// How often it has said so.
    pub taken: u32,
}

/// The steps of a conversation. With LMTP the message has further answers, "dot2" and so on.
pub const STEPS: [&str; 9] = [
    "greeting", "EHLO", "MAIL", "RCPT", "RCPT2", "DATA", "middle", "dot", "QUIT",
];

/// Its usual answer to a message.
const QUEUED: &str = "250 2.0.0 Ok: queued as ABC\r\n";

struct Fake {
    stream: BufReader<TcpStream>,
    script: Vec<(&'static str, Act)>,
    seen: Seen,
    /// The recipients of the message that were accepted, and how many were named.
    accepted: Vec<String>,
    named: usize,
    lmtp: bool,
}

/// Whether a whole line of an answer says that the message was taken.
fn is_yes(text: &str) -> bool {
    let mut lines = text.split_inclusive('\n');
    lines.any(|line| line.starts_with("250 ") && line.ends_with('\n'))
}

impl Fake {
    /// What the script has for a step, in place of the usual.
    fn act(&self, step: &str) -> Option<Act> {
        let act = self.script.iter().find(|(at, _)| *at == step).map(|(_, act)| *act);
        act.filter(|act| !matches!(act, Say("")))
    }

    /// Answers a step; false if the conversation is over.
    fn answer(&mut self, step: &str, usual: &str) -> bool {
        self.play(self.act(step).unwrap_or(Say("")), usual)
    }

    fn play(&mut self, act: Act, usual: &str) -> bool {
        let stream = self.stream.get_mut();
        match act {
            Say("") => stream.write_all(usual.as_bytes()).is_ok(),
            Say(text) => {
                // byte by byte: a reply is a line, not a packet
                text.bytes().all(|byte| stream.write_all(&[byte]).is_ok())
            }
            Last(text) => {
                let _ = stream.write_all(text.as_bytes());
                false
            }
            Hang => {
                let _ = self.stream.read_to_end(&mut Vec::new());
                false
            }
            Trickle => {
                let _ = stream.set_read_timeout(Some(Duration::from_millis(20)));
                let mut byte = [0];
                while matches!(stream.read(&mut byte), Err(e) if e.kind() == std::io::ErrorKind::WouldBlock) {
                    if stream.write_all(b"2").is_err() {
                        break;
                    }
                }
                false
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let text = line.strip_suffix("\r\n").unwrap_or_else(|| panic!("no CRLF: {line:?}"));
        assert!(!text.contains('\r'), "bare CR: {line:?}");
        Some(text.to_owned())
    }

    fn serve(&mut self) {
        if !self.answer("greeting", "220 fake ESMTP\r\n") {
            return;
        }
        while let Some(line) = self.line() {
            assert!(line.len() <= 510, "command too long: {line}");
            self.seen.commands.push(line.clone());
            let verb = line.split(' ').next().unwrap_or_default();
            let go_on = match verb {
                "EHLO" | "LHLO" => {
                    self.lmtp = verb == "LHLO";
                    self.answer(
                        "EHLO",
                        "250-fake\r\n250-SIZE 1000000\r\n250-8BITMIME\r\n250 XCLIENT NAME ADDR PORT PROTO HELO LOGIN FOO\r\n",
                    )
                }
                "XCLIENT" | "STARTTLS" => self.answer(verb, "220 fake ESMTP\r\n"),
                "AUTH" => self.auth(&line),
                "MAIL" => {
                    self.accepted.clear();
                    self.named = 0;
                    self.answer(verb, "250 2.1.0 ok\r\n")
                }
                "RCPT" => {
                    self.named += 1;
                    let step = if self.named == 1 { "RCPT" } else { "RCPT2" };
                    let refused = matches!(self.act(step), Some(Say(text) | Last(text)) if !text.starts_with('2'));
                    if !refused {
                        let path = line.split([':', ' ']).nth(2).expect("a path");
                        self.accepted.push(path.to_owned());
                    }
                    self.answer(step, "250 2.1.5 ok\r\n")
                }
                "BDAT" => self.bdat(&line),
                "DATA" => self.data(),
                "QUIT" => {
                    self.answer(verb, "221 bye\r\n");
                    false
                }
                _ => self.answer(verb, "250 2.0.0 ok\r\n"),
            };
            if !go_on {
                return;
            }
        }
    }

    fn data(&mut self) -> bool {
        let refused = self
            .script
            .iter()
            .any(|(at, act)| *at == "DATA" && !matches!(act, Say(text) if text.contains("354")));
        if !self.answer("DATA", "354 go on\r\n") || refused {
            return refused;
        }
        if !self.answer("middle", "") {
            return false;
        }
        let mut message = String::new();
        loop {
            let Some(line) = self.line() else {
                return false;
            };
            if line == "." {
                break;
            }
            message.push_str(&line);
            message.push_str("\r\n");
        }
        self.seen.message = Some(message);
        self.judge()
    }

    /// The answer to the message; with LMTP one for each recipient that was accepted, all of them in one packet, so
    /// that none comes late by chance.
    fn judge(&mut self) -> bool {
        let accepted = std::mem::take(&mut self.accepted);
        if !self.lmtp {
            let act = self.judged("dot", accepted);
            return self.play(act, QUEUED);
        }
        let mut said = String::new();
        for (number, recipient) in accepted.into_iter().enumerate() {
            let step = if number == 0 {
                "dot".to_owned()
            } else {
                format!("dot{}", number + 1)
            };
            match self.judged(&step, vec![recipient]) {
                Say(text) => said.push_str(text),
                Last(text) => {
                    said.push_str(text);
                    let _ = self.stream.get_mut().write_all(said.as_bytes());
                    return false;
                }
                silent => return self.stream.get_mut().write_all(said.as_bytes()).is_ok() && self.play(silent, ""),
            }
        }
        self.stream.get_mut().write_all(said.as_bytes()).is_ok()
    }

    /// Notes what is answered for these recipients.
    fn judged(&mut self, step: &str, recipients: Vec<String>) -> Act {
        let act = self.act(step).unwrap_or(Say(QUEUED));
        if matches!(act, Say(text) | Last(text) if is_yes(text)) {
            self.seen.confirmed.extend(recipients);
            self.seen.taken += 1;
        }
        act
    }

    fn bdat(&mut self, line: &str) -> bool {
        let mut words = line.split(' ').skip(1);
        let size: usize = words.next().and_then(|word| word.parse().ok()).expect("a size");
        assert_eq!(words.next(), Some("LAST"));
        let mut bytes = vec![0; size];
        if self.stream.read_exact(&mut bytes).is_err() {
            return false;
        }
        self.seen.message = Some(String::from_utf8_lossy(&bytes).into_owned());
        self.judge()
    }

    /// AUTH: it takes any login, and shows what was said.
    fn auth(&mut self, line: &str) -> bool {
        let prompts: &[&str] = match line.split(' ').nth(1) {
            Some("LOGIN") => &["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"],
            Some("CRAM-MD5") => &["334 PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+\r\n"],
            _ => &[],
        };
        for prompt in prompts {
            if self.stream.get_mut().write_all(prompt.as_bytes()).is_err() {
                return false;
            }
            match self.line() {
                Some(line) => self.seen.commands.push(line),
                None => return false,
            }
        }
        self.answer("AUTH", "235 2.7.0 welcome\r\n")
    }
}

/// Starts a server for one conversation.
pub fn fake(script: &[(&'static str, Act)]) -> (u16, JoinHandle<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (listener.local_addr().unwrap().port(), serve(listener, script))
}

pub fn serve(listener: TcpListener, script: &[(&'static str, Act)]) -> JoinHandle<Seen> {
    let many = serve_many(listener, &[script]);
    std::thread::spawn(move || many.join().unwrap().remove(0))
}

/// One conversation for each script, one after the other; then it listens no more.
pub fn serve_many(listener: TcpListener, scripts: &[&[(&'static str, Act)]]) -> JoinHandle<Vec<Seen>> {
    let scripts: Vec<_> = scripts.iter().map(|script| script.to_vec()).collect();
    std::thread::spawn(move || scripts.into_iter().map(|script| converse(&listener, script)).collect())
}

/// What comes of a server whose client must leave it by itself, in time.
pub fn left<T>(server: JoinHandle<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server.is_finished() {
        assert!(Instant::now() < deadline, "the connection is kept");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.join().unwrap()
}

fn converse(listener: &TcpListener, script: Vec<(&'static str, Act)>) -> Seen {
    let (stream, _) = listener.accept().unwrap();
    let mut fake = Fake {
        stream: BufReader::new(stream),
        script,
        seen: Seen::default(),
        accepted: Vec::new(),
        named: 0,
        lmtp: false,
    };
    fake.serve();
    fake.seen
}
