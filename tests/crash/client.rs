//! Clients: what they send, in clear or over TLS, and how they fare.

use std::fmt::Debug;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::process::PATIENCE;
use crate::scene::Scene;

/// How a client fared with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was answered 250.
    Taken,
    /// It was answered otherwise, or a command before it was.
    PutOff,
    /// There was no answer.
    Lost,
}

/// A message.
pub struct Mail {
    /// All of it, lines ended by LF.
    pub text: String,
    /// In how many pieces it is sent.
    pieces: usize,
}

impl Mail {
    /// A message of about this size in so many pieces.
    pub fn new(subject: &str, size: usize, pieces: usize) -> Mail {
        let line = "All work and no play makes a dull message of lines that are all the same.\n";
        let text = format!(
            "Subject: {subject}\n\n{}End of {subject}.\n",
            line.repeat(size / line.len())
        );
        Mail { text, pieces }
    }

    /// What is sent after 354, or by BDAT, in its pieces.
    fn pieces(&self, chunks: bool) -> Vec<Vec<u8>> {
        let end = if chunks { "" } else { ".\r\n" };
        let wire = format!("{}{end}", self.text.replace('\n', "\r\n")).into_bytes();
        let pieces = wire.chunks(wire.len().div_ceil(self.pieces));
        pieces.map(<[u8]>::to_vec).collect()
    }
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A client's end of a connection.
pub struct Caller {
    stream: BufReader<Box<dyn Stream>>,
    wire: TcpStream,
    scene: &'static Scene,
    tls: Option<Arc<ClientConfig>>,
}

impl Caller {
    /// A client that speaks as the scene wants it; `tls` is what it needs for TLS.
    pub fn new(wire: TcpStream, scene: &'static Scene, tls: Option<Arc<ClientConfig>>) -> Caller {
        wire.set_read_timeout(Some(PATIENCE)).expect("time-out");
        wire.set_nodelay(true).expect("no delay");
        let stream: Box<dyn Stream> = Box::new(wire.try_clone().expect("clone"));
        Caller {
            stream: BufReader::new(stream),
            wire,
            scene,
            tls,
        }
    }

    /// The connection, to cut it.
    pub fn wire(&self) -> TcpStream {
        self.wire.try_clone().expect("clone")
    }

    /// The code of the next reply; none if the connection has ended.
    pub fn reply(&mut self) -> Option<u16> {
        loop {
            let mut line = String::new();
            match self.stream.read_line(&mut line) {
                Ok(0) => return None,
                Ok(_) if line.as_bytes().get(3) == Some(&b'-') => {}
                Ok(_) => return Some(line.get(..3)?.parse().expect("a code")),
                Err(e) => {
                    let late = matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                    assert!(!late, "no reply in time");
                    return None;
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()
    }

    /// Sends something and reads the reply.
    pub fn say(&mut self, bytes: &[u8]) -> Option<u16> {
        self.send(bytes).ok()?;
        self.reply()
    }

    fn command(&mut self, line: &str) -> Result<(), Fate> {
        match self.say(format!("{line}\r\n").as_bytes()) {
            Some(220 | 250 | 354) => Ok(()),
            Some(_) => Err(Fate::PutOff),
            None => Err(Fate::Lost),
        }
    }

    /// Says who it is, and begins TLS if the scene wants it.
    pub fn hello(&mut self) -> Result<(), Fate> {
        self.command("EHLO x.example.net")?;
        let Some(config) = self.tls.take() else {
            return Ok(());
        };
        self.command("STARTTLS")?;
        let name = ServerName::try_from("mx.example.com").expect("a name");
        let mut tls = ClientConnection::new(config, name).expect("a client");
        let mut wire = self.wire();
        while tls.is_handshaking() {
            tls.complete_io(&mut wire).map_err(|_| Fate::Lost)?;
        }
        let stream: Box<dyn Stream> = Box::new(StreamOwned::new(tls, wire));
        self.stream = BufReader::new(stream);
        self.command("EHLO x.example.net")
    }

    /// Delivers messages one after the other, says goodbye, and waits for the end of the connection.
    pub fn deliver(mut self, mails: &[Mail]) -> Vec<Fate> {
        let mut sound = self.hello();
        let mut fates = Vec::new();
        for mail in mails {
            let fate = match sound.and_then(|()| self.begin(mail)) {
                Ok(()) => self.finish(mail),
                Err(fate) => fate,
            };
            fates.push(fate);
            match fate {
                Fate::Taken => {}
                Fate::PutOff => sound = self.command("RSET"),
                Fate::Lost => sound = Err(fate),
            }
        }
        // who hears nothing any more says nothing
        if sound.is_ok() {
            self.quit();
        }
        fates
    }

    /// Delivers a message after the hello, and leaves.
    pub fn deliver_more(mut self, mail: &Mail) -> Fate {
        let fate = self.begin(mail).map_or_else(|fate| fate, |()| self.finish(mail));
        self.quit();
        fate
    }

    fn quit(&mut self) {
        if self.say(b"QUIT\r\n").is_some() {
            self.reply();
        }
    }

    /// The envelope, and all of the message but its last piece.
    pub fn begin(&mut self, mail: &Mail) -> Result<(), Fate> {
        self.command("MAIL FROM:<a@example.net>")?;
        for recipient in self.scene.recipients {
            self.command(&format!("RCPT TO:<{recipient}>"))?;
        }
        let chunks = self.scene.chunks;
        if !chunks {
            self.command("DATA")?;
        }
        let mut pieces = mail.pieces(chunks);
        pieces.pop();
        for piece in pieces {
            if chunks {
                self.chunk(&piece, "")?;
            } else if self.send(&piece).is_err() {
                // perhaps the server has told why
                break;
            }
        }
        Ok(())
    }

    /// The last piece of a message that has begun, and the answer to all of it.
    pub fn finish(&mut self, mail: &Mail) -> Fate {
        let chunks = self.scene.chunks;
        let last = mail.pieces(chunks).pop().unwrap_or_default();
        if chunks {
            return match self.chunk(&last, " LAST") {
                Ok(()) => Fate::Taken,
                Err(fate) => fate,
            };
        }
        // also if it could not be sent: perhaps the server has told why
        let _ = self.send(&last);
        answer(self.reply()).map_or_else(|fate| fate, |()| Fate::Taken)
    }

    fn chunk(&mut self, piece: &[u8], last: &str) -> Result<(), Fate> {
        let mut bytes = format!("BDAT {}{last}\r\n", piece.len()).into_bytes();
        bytes.extend_from_slice(piece);
        let _ = self.send(&bytes);
        answer(self.reply())
    }
}

/// What the reply to a message, or to a part of it, means.
fn answer(code: Option<u16>) -> Result<(), Fate> {
    match code {
        Some(250) => Ok(()),
        // who says that for a worker that has crashed knows nothing of the message
        Some(421) | None => Err(Fate::Lost),
        Some(_) => Err(Fate::PutOff),
    }
}
