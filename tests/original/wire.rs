//! Plays a conversation over TCP, against the original or against our daemon, and compares the codes of the replies.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::script::{Expect, LinePattern, Script, Step};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who is on the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Original,
    Ours,
}

/// What has happened.
pub struct Played {
    /// What went otherwise than the file says.
    pub wrong: Vec<String>,
    /// The lines of the replies to EHLO.
    pub offers: Vec<Vec<String>>,
}

/// A reply that is to come: the line of the file, and its code, `-` or `!`.
type Due = (usize, String);

/// The client.
struct Client<'a> {
    script: &'a Script,
    side: Side,
    stream: BufReader<TcpStream>,
    transcript: String,
    played: Played,
    greets: bool,
}

/// Plays a conversation with a server.
pub fn play(script: &Script, side: Side, peer: IpAddr, server: SocketAddr) -> Played {
    let stream = connect(peer, server).unwrap_or_else(|why| panic!("{}: connect: {why}", script.file));
    let mut client = Client {
        script,
        side,
        stream: BufReader::new(stream),
        transcript: String::new(),
        played: Played {
            wrong: Vec::new(),
            offers: Vec::new(),
        },
        greets: false,
    };
    if let Err(why) = client.run() {
        client.played.wrong.push(format!("{why}\n{}", client.transcript));
    }
    client.played
}

fn connect(peer: IpAddr, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::new(peer, 0).into())?;
    socket.connect_timeout(&server.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

impl Client<'_> {
    fn run(&mut self) -> Result<(), String> {
        let mut steps: VecDeque<(usize, Step)> = self.script.steps.clone().into();
        if let (Side::Original, Some((at, _))) = (self.side, &self.script.ours) {
            steps.truncate(*at);
        }
        let mut packet = Vec::new();
        while let Some((line, step)) = steps.front().cloned() {
            if let Step::Client(bytes) = step {
                packet.extend(bytes);
                steps.pop_front();
                continue;
            }
            self.send(&packet);
            packet.clear();
            match step {
                Step::Server(_) | Step::Closed => {
                    for due in self.due(&mut steps) {
                        if !self.hear(&due)? {
                            return Ok(());
                        }
                    }
                }
                Step::Hangup => {
                    let _ = self.stream.get_ref().shutdown(Shutdown::Write);
                    steps.pop_front();
                }
                // before the greeting: whoever waits for that waits
                Step::Wait => {
                    steps.pop_front();
                }
                _ => return Err(format!("{}:{line}: cannot be played over TCP", self.script.file)),
            }
        }
        self.send(&packet);
        Ok(())
    }

    fn send(&mut self, packet: &[u8]) {
        for line in packet.split_inclusive(|byte| *byte == b'\n') {
            let shown = &line[..line.len().min(200)];
            self.transcript += &format!("    C: {}\n", shown.escape_ascii());
        }
        let verb = packet.get(..4).unwrap_or_default();
        self.greets = verb.eq_ignore_ascii_case(b"EHLO");
        // that it has closed already is seen when its replies are looked at
        let _ = self.stream.get_mut().write_all(packet);
    }

    /// The replies that must come before the client goes on.
    fn due(&mut self, steps: &mut VecDeque<(usize, Step)>) -> Vec<Due> {
        let mut due = Vec::new();
        loop {
            let (line, code) = match steps.front() {
                Some((line, Step::Closed)) => (*line, "!".to_owned()),
                Some((line, Step::Server(expect))) => (*line, code(expect)),
                _ => return due,
            };
            steps.pop_front();
            if code.ends_with('-') && code.len() > 1 {
                continue;
            }
            match (self.side, self.script.original.get(&line)) {
                (Side::Original, Some(differs)) => {
                    if differs.replies == [code.as_str()] {
                        let why = format!("{}:{line}: {code} is no difference", self.script.file);
                        self.played.wrong.push(why);
                    }
                    due.extend(differs.replies.iter().map(|reply| (line, reply.clone())));
                }
                _ => due.push((line, code)),
            }
        }
    }

    /// Hears a reply; false if the session is over.
    fn hear(&mut self, (line, wanted): &Due) -> Result<bool, String> {
        if wanted == "-" {
            return Ok(true);
        }
        let place = format!("{}:{line}", self.script.file);
        let said = self
            .reply()
            .map_err(|why| format!("{place}: expected {wanted}: {why}"))?;
        let code = said.first().map_or("!", |first| first.get(..3).unwrap_or(first));
        if code != wanted {
            self.played
                .wrong
                .push(format!("{place}: expected {wanted}, got {}", said.join(" | ")));
        }
        if self.greets && code == "250" {
            self.played.offers.push(said[1..].to_vec());
        }
        self.greets = false;
        Ok(!said.is_empty())
    }

    /// The lines of a reply; none if the connection has ended.
    fn reply(&mut self) -> Result<Vec<String>, String> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            match self.stream.read_until(b'\n', &mut line) {
                Ok(0) => return Ok(lines),
                Ok(_) => {}
                Err(why) if why.kind() == io::ErrorKind::ConnectionReset => return Ok(lines),
                Err(why) => return Err(why.to_string()),
            }
            self.transcript += &format!("    S: {}\n", line.escape_ascii());
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            let last = text.as_bytes().get(3) != Some(&b'-');
            lines.push(text);
            if last {
                return Ok(lines);
            }
        }
    }
}

/// The code that is expected, with a `-` behind it if the line is not the last of its reply.
fn code(expect: &Expect) -> String {
    let text = match expect {
        Expect::Code(code) => return code.clone(),
        Expect::Line(LinePattern::Exact(text)) => String::from_utf8_lossy(text).into_owned(),
        Expect::Line(LinePattern::Prefix(text)) => text.clone(),
        Expect::Line(LinePattern::Like(regex)) => regex.as_str().trim_start_matches('^').to_owned(),
    };
    let end = if text.as_bytes().get(3) == Some(&b'-') { 4 } else { 3 };
    text.get(..end).unwrap_or(&text).to_owned()
}
