//! `qpsmtpctl top`: the daemon live, in the terminal; into a file or a pipe, page after page.
//!
//! It asks as anybody can at the control socket. The terminal is drawn with the few sequences that all of today's
//! understand; a library of widgets for this one page would be a fifth of all the crates of the program.

mod terminal;
mod view;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::client::{Line, unreachable};
use terminal::{Terminal, Woken};
use view::{Look, View};

/// The shortest time between two looks in a terminal.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long the master may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// The width of a page that is not for a terminal.
const PAGE: usize = 132;

/// Shows the daemon until interrupted, every `pause` or, with `rounds`, so often.
pub(crate) fn run(socket: &Path, pause: Duration, rounds: Option<u32>) -> ExitCode {
    let done = Line::to(socket).and_then(|line| match Terminal::take()? {
        Some(terminal) => live(terminal, (line, socket), pause.max(SHORTEST), rounds),
        None => pages(line, pause, rounds),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => unreachable(socket, &why),
    }
}

fn look(line: &mut Line) -> io::Result<Look> {
    let mut text = |command: &str| line.ask(command)?.map_err(io::Error::other);
    Ok(Look::of(&text("status")?, &text("list")?, &text("plugins")?))
}

/// One page after the other, all of it, to be read later.
fn pages(mut line: Line, pause: Duration, rounds: Option<u32>) -> io::Result<()> {
    let (view, mut before) = (View::default(), None);
    for round in 1u32.. {
        let now = look(&mut line)?;
        let page = view.page(&now, before.as_ref(), (PAGE, usize::MAX));
        let text: String = page.iter().map(|line| format!("{}\n", line.text)).collect();
        writeln!(io::stdout(), "{text}")?;
        before = Some(now);
        if rounds == Some(round) {
            break;
        }
        std::thread::sleep(pause);
    }
    Ok(())
}

/// A live page, until a key or a signal ends it. A master that does not answer any more may come back.
fn live(terminal: Terminal, (line, socket): (Line, &Path), pause: Duration, rounds: Option<u32>) -> io::Result<()> {
    let (mut view, mut line) = (View::default(), Some(line));
    let (mut now, mut before) = (Look::default(), None);
    let mut looks = 0;
    let mut due = Instant::now();
    loop {
        if Instant::now() >= due {
            due = Instant::now() + pause;
            looks += 1;
            match ask(&mut line, socket) {
                Ok(new) => {
                    view.trouble = None;
                    let last = std::mem::replace(&mut now, new);
                    before = (looks > 1).then_some(last);
                }
                Err(why) => {
                    line = None;
                    view.trouble = Some(format!("no answer at {}: {why}", socket.display()));
                }
            }
        }
        terminal.draw(&view.page(&now, before.as_ref(), terminal.size()))?;
        if rounds == Some(looks) {
            return Ok(());
        }
        match terminal.wait(due)? {
            Woken::Keys(keys) if !keys.iter().all(|key| view.press(*key)) => return Ok(()),
            Woken::End => return Ok(()),
            Woken::Keys(_) | Woken::Redraw => {}
        }
    }
}

/// Looks, over a new connection if there is none.
fn ask(line: &mut Option<Line>, socket: &Path) -> io::Result<Look> {
    let line = match line {
        Some(line) => line,
        None => line.insert(Line::to(socket)?),
    };
    line.set_patience(PATIENCE)?;
    look(line).map_err(|why| match why.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => why,
    })
}
