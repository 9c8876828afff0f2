//! A model of what a client may expect of a session, whatever it says and whatever the plugins answer: one reply to
//! each command, nothing queued but what was accepted, never two messages from one DATA.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use qpsmtpd::session::wire::{Heard, Wire};

use super::cast::Kept;
use super::moods::{Backstage, Mood, Scene, lock};
use super::player::well_formed;

/// What a client says, as it is sent.
pub trait Says {
    /// The next command, with its line end and, behind BDAT, the part; nothing if the client goes. A line of a login
    /// (`in_login`) is no command.
    fn command(&mut self, in_login: bool) -> Option<Vec<u8>>;
    /// A message, up to and with its end.
    fn message(&mut self) -> Vec<u8>;
    /// What the server has answered, before the next of these is asked for.
    fn hears(&mut self, _: &[u8]) {}
    /// Whether, in a login by SCRAM, it has proved to know the key.
    fn has_proved(&self) -> bool {
        false
    }
}

/// A client that says these bytes: lines while it is asked for commands, and all up to the true end when it is told to
/// go ahead with a message.
pub struct Stream(Vec<u8>);

impl Stream {
    pub fn new(bytes: Vec<u8>) -> Stream {
        Stream(bytes)
    }
}

impl Says for Stream {
    fn command(&mut self, in_login: bool) -> Option<Vec<u8>> {
        let end = self.0.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let mut line: Vec<u8> = self.0.drain(..end.unwrap_or(self.0.len())).collect();
        if end.is_none() && !line.is_empty() {
            line.push(b'\n');
        }
        if let (Some(part), false) = (Part::of(&line), in_login) {
            // nobody waits for more than this
            if part.size > LARGEST_PART {
                return None;
            }
            line.extend(self.0.drain(..part.size.min(self.0.len())));
            line.resize(part.begins + part.size, b'x');
        }
        (!line.is_empty()).then_some(line)
    }

    fn message(&mut self) -> Vec<u8> {
        if true_end(&self.0).is_none() {
            // the end of a line that was cut, perhaps within its end, and the end of all
            let cut = self.0.ends_with(b"\r");
            self.0.extend_from_slice(if cut { b"\n" } else { b"\r\n" });
        }
        if true_end(&self.0).is_none() {
            self.0.extend_from_slice(b".\r\n");
        }
        let end = true_end(&self.0).unwrap_or(self.0.len());
        self.0.drain(..end).collect()
    }
}

/// Where a message ends: behind the first line that is a dot, between true line ends.
fn true_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b".\r\n") {
        return Some(3);
    }
    let end = b"\r\n.\r\n";
    Some(bytes.windows(end.len()).position(|window| window == end)? + end.len())
}

/// What a message that was sent so is; none if it holds a bare newline.
fn decoded(sent: &[u8]) -> Option<Vec<u8>> {
    let text = sent.strip_suffix(b".\r\n")?;
    let mut body = Vec::new();
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r\n")?;
        if line.contains(&b'\r') {
            return None;
        }
        body.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        body.push(b'\n');
    }
    Some(body)
}

/// The most bytes that a part of a message may have here.
const LARGEST_PART: usize = 200_000;

/// What a line says that begins with BDAT and a size.
struct Part {
    /// Where the part begins: behind the line.
    begins: usize,
    size: usize,
    last: bool,
}

impl Part {
    fn of(command: &[u8]) -> Option<Part> {
        let begins = command.iter().position(|byte| *byte == b'\n')? + 1;
        // longer lines are not looked at
        let line = std::str::from_utf8(&command[..begins.min(500)])
            .ok()?
            .strip_suffix('\n')?;
        let (word, rest) = line.strip_suffix('\r').unwrap_or(line).split_once(' ')?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let last = match words.get(1..)? {
            [] => false,
            [word] if word.eq_ignore_ascii_case("LAST") => true,
            _ => return None,
        };
        let is_size = word.eq_ignore_ascii_case("BDAT") && words[0].bytes().all(|byte| byte.is_ascii_digit());
        let size = is_size.then(|| words[0].parse::<u64>().ok())??;
        Some(Part {
            begins,
            size: size.try_into().unwrap_or(usize::MAX),
            last,
        })
    }
}

/// What a message is that came in parts; none if it holds a bare newline.
fn joined(parts: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    for line in parts.split_inclusive(|byte| *byte == b'\n') {
        let line = match line.strip_suffix(b"\r\n") {
            Some(line) => line,
            None if line.ends_with(b"\n") => return None,
            None => line,
        };
        if line.contains(&b'\r') {
            return None;
        }
        body.extend_from_slice(line);
        body.push(b'\n');
    }
    Some(body)
}

/// A client that waits for each reply, and the model of what it may expect.
struct Client {
    says: Box<dyn Says + Send>,
    /// What is being answered.
    asked: Asked,
    /// The server waits for an answer of a login.
    in_login: bool,
    /// The login that has begun last is one by SCRAM.
    scram: bool,
    /// The last command was AUTH, and the plugin has let somebody in since.
    login: bool,
    was_asked: bool,
    scene: Scene,
    sender: Option<String>,
    recipients: Vec<String>,
    /// Parts of a message that have come so far.
    parts: Option<Vec<u8>>,
    /// Lines of the message mean nothing: BINARYMIME.
    binary: bool,
    stage: Backstage,
    queued_before: usize,
    let_in_before: usize,
    output: Vec<u8>,
    fault: Option<String>,
}

#[derive(Clone, Debug)]
enum Asked {
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
        self.says.hears(&output);
        let lines = well_formed(&output, self.scene.extensions)?;
        let last: Vec<_> = lines.iter().filter(|line| line[3] == b' ').collect();
        let asked = std::mem::replace(&mut self.asked, Asked::Nothing);
        let due = match last.first() {
            None if closing && matches!(asked, Asked::Nothing) => return Ok(0),
            first => self.due(&asked, first.map_or(b"", |line| &line[..3])),
        };
        let farewell = closing && last.len() == due + 1 && last[due].starts_with(b"421");
        // before the end of the data nothing is due to recipients, so that one reply ends the session
        let refused = last.len() == 1 && !last[0].starts_with(b"2");
        let broken_off = closing && refused && matches!(asked, Asked::Message(_));
        let due = if broken_off { 1 } else { due };
        if last.len() != due && !farewell {
            return Err(format!("{} replies to {asked:?}, not {due}", last.len()));
        }
        if let Some(other) = last[..due].iter().find(|line| line[..3] != last[0][..3]) {
            let other = other.escape_ascii();
            return Err(format!("not the same to each recipient: {other}"));
        }
        let code: u16 = String::from_utf8_lossy(&last[0][..3])
            .parse()
            .map_err(|_| "no code".to_owned())?;
        let calls: Vec<Kept> = lock(&self.stage.queue)[self.queued_before..].to_vec();
        self.queued_before += calls.len();
        match asked {
            Asked::Message(sent) => self.message_answered(decoded(&sent), code, &calls)?,
            Asked::Command(line) if !self.in_login && Part::of(&line).is_some() => {
                self.part_answered(&line, code, &calls)?;
            }
            Asked::Command(line) => {
                if !calls.is_empty() {
                    return Err(format!("{line:?} queued something"));
                }
                self.login_answered(&line, code)?;
                self.command_answered(&line, code, &String::from_utf8_lossy(last[0]));
            }
            Asked::Greeting | Asked::Nothing => {}
        }
        Ok(code)
    }

    /// How many replies a message gets: over LMTP one for each recipient (RFC 2033 4.2).
    fn due(&self, asked: &Asked, code: &[u8]) -> usize {
        let is_message = match asked {
            Asked::Message(_) => true,
            Asked::Command(line) => {
                let refused = matches!(code, b"502" | b"503");
                !self.in_login && !refused && Part::of(line).is_some_and(|part| part.last)
            }
            Asked::Greeting | Asked::Nothing => false,
        };
        match self.scene.lmtp && is_message {
            true => self.recipients.len().max(1),
            false => 1,
        }
    }

    /// Nobody is let in whom the plugin does not let in, nor by keys that he does not have.
    fn login_answered(&mut self, line: &[u8], code: u16) -> Result<(), String> {
        let let_in = self.stage.let_in.load(Ordering::Relaxed);
        let asked = let_in > std::mem::replace(&mut self.let_in_before, let_in);
        if !self.in_login {
            let words = String::from_utf8_lossy(line).to_ascii_uppercase();
            self.scram = words
                .split_ascii_whitespace()
                .nth(1)
                .is_some_and(|name| name.starts_with("SCRAM"));
            (self.was_asked, self.login) = (false, words.starts_with("AUTH"));
        }
        self.was_asked |= asked;
        match code == 235 {
            true if !self.login => Err(format!("235 to {}", line.escape_ascii())),
            true if !self.was_asked => Err("somebody is let in whom the plugin does not let in".to_owned()),
            true if self.scram && !self.says.has_proved() => {
                Err("somebody is let in who has proved nothing".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn message_answered(&mut self, body: Option<Vec<u8>>, code: u16, calls: &[Kept]) -> Result<(), String> {
        if calls.len() > 1 || (code == 250) != (calls.len() == 1 && code == 250) {
            return Err(format!("{} calls of the queue, then {code}", calls.len()));
        }
        for call in calls {
            let sender = self.sender.clone().unwrap_or_default();
            let envelope = format!("{sender} to {}", self.recipients.join(" "));
            if self.recipients.is_empty() || call.envelope != envelope {
                return Err(format!("queued {}, accepted {envelope}", call.envelope));
            }
            let is_whole = body.as_ref().is_some_and(|body| holds(&call.message, body));
            if !is_whole && !self.binary {
                let sent = body.unwrap_or_else(|| b"a bare newline".to_vec());
                let queued = call.message.escape_ascii();
                return Err(format!("sent {}, queued {queued}", sent.escape_ascii()));
            }
        }
        self.reset();
        Ok(())
    }

    /// BDAT: the last part is what the end of DATA is.
    fn part_answered(&mut self, sent: &[u8], code: u16, calls: &[Kept]) -> Result<(), String> {
        let part = Part::of(sent).ok_or("no part")?;
        let refused = matches!(code, 502 | 503);
        if (refused || !part.last) && !calls.is_empty() {
            return Err(format!("queued at {}, answered {code}", sent.escape_ascii()));
        }
        if refused {
            return Ok(());
        }
        let parts = self.parts.get_or_insert_default();
        parts.extend_from_slice(&sent[part.begins..]);
        if part.last {
            let body = joined(parts);
            return self.message_answered(body, code, calls);
        }
        if code != 250 {
            self.reset();
        }
        Ok(())
    }

    fn command_answered(&mut self, line: &[u8], code: u16, reply: &str) {
        if std::mem::replace(&mut self.in_login, code == 334) {
            return;
        }
        let text = String::from_utf8_lossy(line);
        let path = path(&text, reply);
        let is_text = std::str::from_utf8(line).is_ok();
        let line = String::from_utf8_lossy(line).to_ascii_uppercase();
        let line = line.strip_suffix("\r\n").or(line.strip_suffix('\n')).unwrap_or(&line);
        match line.split(' ').next().unwrap_or_default() {
            // a message that comes in parts goes on
            "MAIL" if code == 503 && self.parts.is_some() => {}
            // a line that cannot be read is no command, and what is no text has no argument to be looked at
            "MAIL" if code == 500 || !is_text => {}
            "MAIL" => {
                self.reset();
                // catalogue 3: what holds that anywhere is the null sender
                let undefined = text.contains("[undefined]") && reply.contains("<>, ");
                self.sender = (code == 250).then(|| if undefined { "<>".to_owned() } else { path });
                self.binary = line.contains("BINARYMIME");
            }
            "RCPT" if code == 250 => self.recipients.push(path),
            "EHLO" | "HELO" | "LHLO" | "RSET" if code == 250 => self.reset(),
            "VRFY" if code == 554 => self.reset(),
            // nor has DATA an argument, or an answer of plugins where it is out of order
            "DATA" if !matches!(code, 354 | 500 | 501 | 503) => self.reset(),
            _ => {}
        }
    }

    fn reset(&mut self) {
        self.sender = None;
        self.recipients.clear();
        self.parts = None;
        self.binary = false;
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
            let message = self.says.message();
            self.asked = Asked::Message(message.clone());
            return Some(message);
        }
        let command = self.says.command(self.in_login)?;
        self.asked = Asked::Command(command.clone());
        Some(command)
    }
}

/// The path that a command names. Plain ones are taken as they were sent; of others (quotes, routes, literals) the server
/// says what it has taken.
fn path(command: &str, reply: &str) -> String {
    let plain = |path: &str| path.chars().all(|c| c.is_ascii_lowercase() || ".@".contains(c));
    let sent = command.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
    let taken = reply.split_once('<').and_then(|(_, rest)| rest.rsplit_once(">, "));
    match (sent, taken) {
        (Some((path, _)), _) if plain(path) => format!("<{path}>"),
        (_, Some((path, _))) => format!("<{path}>"),
        _ => String::new(),
    }
}

/// Whether a queued message is the one that was sent, below the fields that were added. Empty lines do not count: a
/// separator may have been added.
fn holds(queued: &[u8], sent: &[u8]) -> bool {
    let lines = |text: &[u8]| -> Vec<Vec<u8>> {
        let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(<[u8]>::to_vec).collect()
    };
    let (queued, sent) = (lines(queued), lines(sent));
    // a line of an mbox at the top becomes a field
    let sent = match sent.first() {
        Some(first) if first.starts_with(b"From ") => &sent[1..],
        _ => &sent[..],
    };
    queued.ends_with(sent)
}

/// A message as it is sent.
pub fn stuffed(body: &[u8]) -> Vec<u8> {
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

/// Lets a client speak to plugins of these moods; what is wrong, if anything. The model knows neither of bare
/// newlines that are taken nor of the plugins of the program.
pub fn check(scene: Scene, says: impl Says + Send + 'static, moods: &[Mood]) -> Result<(), String> {
    let scene = Scene {
        bare: false,
        plugins: false,
        ..scene
    };
    let stage = Backstage::default();
    let client = Arc::new(Mutex::new(Client {
        says: Box::new(says),
        asked: Asked::Greeting,
        in_login: false,
        scram: false,
        login: false,
        was_asked: false,
        scene,
        sender: None,
        recipients: Vec::new(),
        parts: None,
        binary: false,
        stage: stage.clone(),
        queued_before: 0,
        let_in_before: 0,
        output: Vec::new(),
        fault: None,
    }));
    scene.play(moods, &stage, Box::new(Talk(client.clone(), Vec::new())));
    let mut client = lock(&client);
    match client.fault.take() {
        Some(fault) => Err(fault),
        None => client.answered(true).map(drop),
    }
}
