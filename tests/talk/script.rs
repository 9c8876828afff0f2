//! The files of conversations: how they are written, and their parser.
//!
//! A file opens with comments that say what it shows, then come settings, then the conversation, then what is to be
//! found afterwards. Order matters between settings of plugins and between the lines of the conversation.
//!
//! ```text
//! # What it shows.
//! config NAME: line | line    a configuration file
//! plugin LINE                 a plugin of the program, as in config/plugins
//! test HOOK VERDICT words     a plugin for tests, see talk/cast.rs
//! takes dsn binary utf8 requiretls
//!                             the extensions that whoever queues can take
//! lmtp                        the client speaks LMTP; so do `hello`, `mail` ...
//! bare                        without the plugins that accept and queue everything
//! tls [1.2] [shown|verified]  the connection is encrypted, and so the client has a certificate
//! peer ADDRESS                the client's address; else 192.0.2.7
//! spool file|missing          bodies lie in files; the spool cannot be used
//! chunk N                     input comes in pieces of N bytes
//! alone                       only as written: cut or joined packets would change the outcome
//!
//! C: text                     the client sends a line
//! C\ text\r\n                 the client sends bytes; \r \n \t \0 \\ \xHH and \{N:text}, text N times; \b{text} in base64
//! C*N: text                   N times
//! S: 250                      a reply of this code, of one line or more
//! S: 250-first                a line of a reply; `...` at the end allows any more
//! S~ regex                    a line of a reply
//! S*N: 250                    N times
//! S!                          the server has closed the connection
//! O: 503 why                  what the Perl original replies instead of the reply above: codes, `-` for nothing, `!` for
//!                             a connection that it closes; and why that is not ours, by an RFC or the catalogue; see
//!                             tests/original
//! O! why                      the original is not asked from here on
//! wait                        the client is silent until the time is over
//! hangup                      the client closes
//! leave                       the daemon ends; a transaction may be finished
//! leave now                   the daemon ends and the grace is over
//! pass N                      N seconds pass
//! hello mail rcpt data message quit
//!                             any of these words: what is usually said there, with its replies; a message is sent
//!                             without its reply
//!
//! L: words                    a line of the log contains the words
//! L! words                    no line of the log does
//! queued: <from> to <a> <b>   a message was queued, each address with its DSN parameters; its lines may follow:
//! | text                      exactly this
//! |\ text                     this, with escapes
//! ~ regex                     a line like this
//! trace HELO with ESMTP       the fields that the server adds
//! O queued: why               what the original makes of this message, as lines like these; without lines it is not
//!                             compared
//! hooks: a b c                the hooks that ran; may be several lines. `>250` is a write that begins so, and is
//!                             only looked at when the packets are as written
//! ```
//!
//! Several `C` lines in a row are one packet. Every reply must be expected. A batch must be answered in one write.

use std::collections::HashMap;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use qpsmtpd::mail::Extensions;

/// A conversation.
#[derive(Debug, Default)]
pub struct Script {
    pub file: String,
    pub config: Vec<(String, Vec<String>)>,
    pub plugins: Vec<(usize, PluginLine)>,
    pub takes: Extensions,
    pub bare: bool,
    pub tls: Option<String>,
    pub lmtp: bool,
    pub peer: Option<IpAddr>,
    pub spool: Option<String>,
    pub chunk: Option<usize>,
    pub alone: bool,
    pub steps: Vec<(usize, Step)>,
    /// What the original replies instead of what that line says, and why.
    pub original: HashMap<usize, Differs>,
    /// From which step on the original is not asked, and why.
    pub ours: Option<(usize, String)>,
    pub logged: Vec<(usize, bool, String)>,
    pub queued: Vec<(usize, Queued)>,
    pub hooks: Option<(usize, Vec<String>)>,
}

/// A plugin to load.
#[derive(Debug)]
pub enum PluginLine {
    /// One of the program.
    Real(String),
    /// One for tests.
    Test(String),
}

/// A step of the conversation.
#[derive(Clone, Debug)]
pub enum Step {
    Client(Vec<u8>),
    Server(Expect),
    Closed,
    Wait,
    Hangup,
    Leave { now: bool },
    Pass(u64),
}

/// An intended difference from the original.
#[allow(dead_code)] // tests/original reads it
#[derive(Clone, Debug)]
pub struct Differs {
    /// Codes, `-` or `!`.
    pub replies: Vec<String>,
    pub why: String,
}

/// What a reply must look like.
#[derive(Clone, Debug)]
pub enum Expect {
    /// A whole reply of this code.
    Code(String),
    /// A line.
    Line(LinePattern),
}

/// What a line must look like.
#[derive(Clone, Debug)]
pub enum LinePattern {
    Exact(Vec<u8>),
    Prefix(String),
    Like(regex::bytes::Regex),
}

impl LinePattern {
    pub fn matches(&self, line: &[u8]) -> bool {
        match self {
            LinePattern::Exact(text) => line == text,
            LinePattern::Prefix(text) => line.starts_with(text.as_bytes()),
            LinePattern::Like(regex) => regex.is_match(line),
        }
    }

    pub fn words(&self) -> String {
        match self {
            LinePattern::Exact(text) => text.escape_ascii().to_string(),
            LinePattern::Prefix(text) => format!("{text}..."),
            LinePattern::Like(regex) => regex.to_string(),
        }
    }
}

/// A message that must have been queued.
#[derive(Debug)]
pub struct Queued {
    pub envelope: String,
    pub lines: Vec<(usize, LinePattern)>,
    /// The message of the original, if it is another one; no lines if it is not compared.
    pub original: Option<Vec<(usize, LinePattern)>>,
}

impl Script {
    /// Reads a file; the error names the line.
    pub fn parse(file: &str, text: &str) -> Result<Script, String> {
        let mut script = Script {
            file: file.to_owned(),
            ..Script::default()
        };
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            if !line.trim().is_empty() && !line.starts_with('#') {
                script
                    .line(number, line)
                    .map_err(|why| format!("{file}:{number}: {why}: {line}"))?;
            }
        }
        Ok(script)
    }

    fn line(&mut self, number: usize, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix('C') {
            return self.client(number, rest);
        }
        if let Some(rest) = line.strip_prefix('S') {
            return self.server(number, rest);
        }
        if let Some(rest) = line.strip_prefix('O') {
            return self.differs(rest);
        }
        if matches!(line.as_bytes()[0], b'|' | b'~') || line.starts_with("trace ") {
            return self.queued_line(number, line);
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "config" => {
                let (name, lines) = rest.split_once(':').ok_or("config NAME: lines")?;
                let lines = lines.split('|').map(|line| line.trim().to_owned()).collect();
                self.config.push((name.to_owned(), lines));
            }
            "plugin" => self.plugins.push((number, PluginLine::Real(rest.to_owned()))),
            "test" => self.plugins.push((number, PluginLine::Test(rest.to_owned()))),
            "takes" => {
                for word in rest.split_ascii_whitespace() {
                    match word {
                        "dsn" => self.takes.dsn = true,
                        "binary" => self.takes.binary = true,
                        "utf8" => self.takes.utf8 = true,
                        "requiretls" => self.takes.requiretls = true,
                        _ => return Err("dsn, binary, utf8".to_owned()),
                    }
                }
            }
            "bare" => self.bare = true,
            "lmtp" => self.lmtp = true,
            "alone" => self.alone = true,
            "tls" => self.tls = Some(rest.to_owned()),
            "peer" => self.peer = Some(rest.parse().map_err(|_| "no address")?),
            "spool" => self.spool = Some(rest.to_owned()),
            "chunk" => self.chunk = Some(rest.parse().map_err(|_| "no number")?),
            "hello" | "mail" | "rcpt" | "data" | "message" | "quit" => self.usual(number, line)?,
            "wait" => self.steps.push((number, Step::Wait)),
            "hangup" => self.steps.push((number, Step::Hangup)),
            "leave" => self.steps.push((number, Step::Leave { now: rest == "now" })),
            "pass" => {
                let seconds = rest.parse().map_err(|_| "no number")?;
                self.steps.push((number, Step::Pass(seconds)));
            }
            "L:" => self.logged.push((number, true, rest.to_owned())),
            "L!" => self.logged.push((number, false, rest.to_owned())),
            "queued:" => self.queued.push((
                number,
                Queued {
                    envelope: rest.to_owned(),
                    lines: Vec::new(),
                    original: None,
                },
            )),
            "hooks:" => {
                let (_, hooks) = self.hooks.get_or_insert((number, Vec::new()));
                hooks.extend(rest.split_ascii_whitespace().map(str::to_owned));
            }
            _ => return Err("not understood".to_owned()),
        }
        Ok(())
    }

    /// What is usually said.
    fn usual(&mut self, number: usize, words: &str) -> Result<(), String> {
        for word in words.split_ascii_whitespace() {
            let lines: &[&str] = match word {
                "hello" if self.lmtp => &["S: 220", "C: LHLO client.example", "S: 250"],
                "hello" => &["S: 220", "C: EHLO client.example", "S: 250"],
                "mail" => &["C: MAIL FROM:<from@example.net>", "S: 250"],
                "rcpt" => &["C: RCPT TO:<to@example.com>", "S: 250"],
                "data" => &["C: DATA", "S: 354"],
                "message" => &["C: Subject: x", "C:", "C: text", "C: ."],
                "quit" => &["C: QUIT", "S: 221", "S!"],
                _ => return Err("not understood".to_owned()),
            };
            lines.iter().try_for_each(|line| self.line(number, line))?;
        }
        Ok(())
    }

    fn client(&mut self, number: usize, rest: &str) -> Result<(), String> {
        let (count, rest) = times(rest)?;
        let bytes = match rest.as_bytes() {
            [b'\\', b' ', ..] => unescape(&rest[2..])?,
            [b':', b' ', ..] => format!("{}\r\n", &rest[2..]).into_bytes(),
            [b':'] => b"\r\n".to_vec(),
            _ => return Err("not understood".to_owned()),
        };
        for _ in 0..count {
            self.steps.push((number, Step::Client(bytes.clone())));
        }
        Ok(())
    }

    fn server(&mut self, number: usize, rest: &str) -> Result<(), String> {
        if rest == "!" {
            self.steps.push((number, Step::Closed));
            return Ok(());
        }
        let (count, rest) = times(rest)?;
        let (kind, text) = rest.split_once(' ').ok_or("not understood")?;
        let expect = match kind {
            ":" if text.len() == 3 => Expect::Code(text.to_owned()),
            ":" => Expect::Line(line_pattern(text)),
            "~" => Expect::Line(LinePattern::Like(like(text)?)),
            _ => return Err("not understood".to_owned()),
        };
        for _ in 0..count {
            self.steps.push((number, Step::Server(expect.clone())));
        }
        Ok(())
    }

    /// What stands after `O`.
    fn differs(&mut self, rest: &str) -> Result<(), String> {
        let reason = |why: &str| match why.contains("RFC ") || why.contains("catalogue ") {
            true => Ok(why.to_owned()),
            false => Err("the reason names no RFC and no place in the catalogue"),
        };
        if let Some(why) = rest.strip_prefix("! ") {
            self.ours.get_or_insert((self.steps.len(), reason(why)?));
            return Ok(());
        }
        if let Some(why) = rest.strip_prefix(" queued: ") {
            reason(why)?;
            let (_, queued) = self.queued.last_mut().ok_or("no message is open")?;
            queued.original = Some(Vec::new());
            return Ok(());
        }
        let mut why = rest.strip_prefix(": ").ok_or("not understood")?;
        let mut replies = Vec::new();
        while let Some((word, more)) = why.split_once(' ') {
            let code = word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
            if !code && !matches!(word, "-" | "!") {
                break;
            }
            replies.push(word.to_owned());
            why = more;
        }
        let Some((line, Step::Server(_) | Step::Closed)) = self.steps.last() else {
            return Err("no reply stands above".to_owned());
        };
        let differs = Differs {
            replies,
            why: reason(why)?,
        };
        match self.original.insert(*line, differs) {
            None => Ok(()),
            Some(_) => Err("a second time".to_owned()),
        }
    }

    fn queued_line(&mut self, number: usize, line: &str) -> Result<(), String> {
        let (_, queued) = self.queued.last_mut().ok_or("no message is open")?;
        let lines = queued.original.as_mut().unwrap_or(&mut queued.lines);
        let mut push = |pattern| lines.push((number, pattern));
        match line.as_bytes() {
            b"|" => push(LinePattern::Exact(Vec::new())),
            [b'|', b' ', ..] => push(LinePattern::Exact(line.as_bytes()[2..].to_vec())),
            [b'|', b'\\', b' ', ..] => push(LinePattern::Exact(unescape(&line[3..])?)),
            [b'~', b' ', ..] => push(LinePattern::Like(like(&line[2..])?)),
            [b't', ..] => {
                let (hello, kind) = line[6..].split_once(" with ").ok_or("trace HELO with ESMTP")?;
                let hello = regex::escape(hello);
                push(LinePattern::Like(like(
                    r"^Authentication-Results: mx\.example\.org; auth=none$",
                )?));
                push(LinePattern::Like(like(&format!(
                    r"^Received: from Unknown \(HELO {hello}\) \([0-9a-f.:]+\)$"
                ))?));
                push(LinePattern::Like(like(&format!(
                    r"^ by mx\.example\.org \(qpsmtpd/[0-9.]+\) with {kind}; \w{{3}}, \d+ \w{{3}} \d{{4}} [\d:]{{8}} [+-]\d{{4}}$"
                ))?));
            }
            _ => return Err("not understood".to_owned()),
        }
        Ok(())
    }
}

/// `*N` in front of the rest.
fn times(rest: &str) -> Result<(usize, &str), String> {
    let Some(rest) = rest.strip_prefix('*') else {
        return Ok((1, rest));
    };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let count = rest[..end].parse().map_err(|_| "no number")?;
    Ok((count, &rest[end..]))
}

fn line_pattern(text: &str) -> LinePattern {
    match text.strip_suffix("...") {
        Some(start) => LinePattern::Prefix(start.to_owned()),
        None => LinePattern::Exact(text.as_bytes().to_vec()),
    }
}

fn like(text: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::Regex::new(text).map_err(|why| why.to_string())
}

/// Text with escapes, as bytes.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let mut skip = 1;
        match rest.chars().next() {
            Some('r') => out.push(b'\r'),
            Some('n') => out.push(b'\n'),
            Some('t') => out.push(b'\t'),
            Some('0') => out.push(0),
            Some('\\') => out.push(b'\\'),
            Some('x') => {
                let digits = rest.get(1..3).ok_or("\\xHH")?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| "\\xHH")?);
                skip = 3;
            }
            Some('b') => {
                let text = rest.strip_prefix("b{").and_then(|rest| rest.split_once('}'));
                let (text, _) = text.ok_or("\\b{text}")?;
                out.extend_from_slice(STANDARD.encode(unescape(text)?).as_bytes());
                skip = text.len() + 3;
            }
            Some('{') => {
                let end = rest.find('}').ok_or("\\{N:text}")?;
                let (count, text) = rest[1..end].split_once(':').ok_or("\\{N:text}")?;
                let text = unescape(text)?;
                (0..count.parse::<usize>().map_err(|_| "\\{N:text}")?).for_each(|_| out.extend_from_slice(&text));
                skip = end + 1;
            }
            _ => return Err("unknown escape".to_owned()),
        }
        rest = &rest[skip..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}
