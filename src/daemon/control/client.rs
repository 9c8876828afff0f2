//! The other side of the control socket: what qpsmtpctl asks.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::GREETING;
use super::table::quoted;
use crate::daemon::show;
use crate::prefork::tell;

/// sysexits.h: there is no daemon to speak to.
const EX_UNAVAILABLE: u8 = 69;

/// A connection to the master.
pub(crate) struct Line {
    reader: BufReader<UnixStream>,
}

impl Line {
    /// Connects; other versions of the protocol are not understood.
    pub(crate) fn to(socket: &Path) -> io::Result<Line> {
        Line::over(UnixStream::connect(socket)?)
    }

    /// Speaks over a stream that is connected already.
    pub(crate) fn over(stream: UnixStream) -> io::Result<Line> {
        let mut reader = BufReader::new(stream);
        let mut greeting = String::new();
        reader.read_line(&mut greeting)?;
        match greeting.trim_end() {
            GREETING => Ok(Line { reader }),
            "" => Err(io::Error::other("turned away")),
            other => Err(io::Error::other(format!("it speaks '{other}'"))),
        }
    }

    /// How long an answer may take, from now on.
    pub(crate) fn set_patience(&self, patience: Duration) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(Some(patience))
    }

    /// Asks, and waits for the answer: its text, or the words and the text of an error.
    pub(crate) fn ask(&mut self, command: &str) -> io::Result<Result<String, String>> {
        self.reader.get_mut().write_all(format!("{command}\n").as_bytes())?;
        let first = self.line()?;
        let mut text = String::new();
        loop {
            let line = self.line()?;
            match line.strip_prefix('.') {
                Some("\n") => break,
                Some(rest) => text.push_str(rest),
                None => text.push_str(&line),
            }
        }
        Ok(match first.strip_prefix("Error - ") {
            None => Ok(text),
            Some(words) => Err(format!("{words}{text}")),
        })
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Waits until the master is gone.
    pub(crate) fn wait_for_end(&mut self) {
        while self.line().is_ok() {}
    }
}

/// Asks once and prints the answer; a refusal goes to standard error, or as JSON where that is asked for. Exit codes: 0
/// done, 1 refused, 69 no daemon.
pub(crate) fn ask(socket: &Path, command: &str, waits_for_end: bool) -> ExitCode {
    let asked = Line::to(socket).and_then(|mut line| {
        let answer = line.ask(command)?;
        if answer.is_ok() && waits_for_end {
            line.wait_for_end();
        }
        Ok(answer)
    });
    let json = command.starts_with("json ");
    match asked {
        Ok(Ok(text)) => show(&text),
        Ok(Err(words)) => {
            refuse(words.trim_end(), json);
            ExitCode::FAILURE
        }
        Err(why) => {
            refuse(&no_answer(socket, &why), json);
            ExitCode::from(EX_UNAVAILABLE)
        }
    }
}

/// Prints why there is no answer.
fn refuse(why: &str, json: bool) {
    if !json {
        return tell(why);
    }
    let mut object = String::from("{\"error\":");
    quoted(why, &mut object);
    show(&format!("{object}}}\n"));
}

fn no_answer(socket: &Path, why: &io::Error) -> String {
    format!("no answer at {}: {why}", socket.display())
}

/// Says that there is no daemon.
pub(super) fn unreachable(socket: &Path, why: &io::Error) -> ExitCode {
    tell(no_answer(socket, why));
    ExitCode::from(EX_UNAVAILABLE)
}
