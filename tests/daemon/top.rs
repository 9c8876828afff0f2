//! `qpsmtpctl top` in a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, ttyname};

use crate::harness::Daemon;
use crate::process::eventually;

/// The other side of a terminal of 80 columns and 24 lines, in which `top` runs.
struct Screen {
    keys: File,
    terminal: OwnedFd,
    /// All that was ever drawn.
    drawn: Arc<Mutex<String>>,
    child: Child,
}

impl Screen {
    fn start(daemon: &Daemon) -> Screen {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let program = daemon.site.program("qpsmtpctl");
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]).arg(program.get_program());
        command.args(["top", "--every", "0.1"]).current_dir(daemon.site.path());
        let end = || Stdio::from(pair.slave.try_clone().expect("a descriptor"));
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid");
        let drawn = Arc::new(Mutex::new(String::new()));
        let keys = File::from(pair.master);
        let (mut output, all) = (keys.try_clone().expect("a descriptor"), drawn.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                all.lock()
                    .expect("lock")
                    .push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Screen {
            keys,
            terminal: pair.slave,
            drawn,
            child,
        }
    }

    /// Waits until something is drawn that was not there before this call.
    fn wait_for(&self, words: &str) {
        let before = self.drawn.lock().expect("lock").len();
        eventually(words, || self.drawn.lock().expect("lock")[before..].contains(words));
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys");
    }

    /// Waits for a good end, and that the terminal is as it was.
    fn ends(mut self) {
        assert!(self.child.wait().expect("wait").success());
        let flags = tcgetattr(&self.terminal).expect("a terminal").local_flags;
        assert!(flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG));
        let drawn = &self.drawn;
        eventually("the screen of the shell is back", || {
            drawn.lock().expect("lock").ends_with("\x1b[?25h\x1b[?1049l")
        });
    }

    fn is_raw(&self) -> bool {
        let flags = tcgetattr(&self.terminal).expect("a terminal").local_flags;
        !flags.contains(LocalFlags::ICANON)
    }
}

#[test]
fn a_terminal_shows_sessions_heeds_keys_and_is_put_back() {
    let daemon = Daemon::start(&["--children", "2"]);
    let mut client = daemon.client();
    client.expect(250, "EHLO client.example.net");
    let mut screen = Screen::start(&daemon);
    screen.wait_for("127.0.0.1       helo ");
    screen.wait_for(" for    AGE");
    assert!(screen.is_raw());
    screen.press("s");
    screen.wait_for(" FOR    age");
    client.expect(250, "MAIL FROM:<a@example.net>");
    client.expect(250, "RCPT TO:<user@example.com>");
    screen.wait_for("rcpt_ok          rcpt ");
    // a wider terminal has room for more
    let name = ttyname(&screen.terminal).expect("a name");
    let mut stty = Command::new("stty");
    let resized = stty.arg("-F").arg(name).args(["cols", "120", "rows", "30"]).status();
    assert!(resized.expect("stty").success());
    screen.wait_for(" pid peer             port phase ");
    screen.press("\x03");
    screen.ends();
}

#[test]
fn a_signal_puts_the_terminal_back_and_a_lost_master_is_told() {
    let mut daemon = Daemon::start(&["--children", "1"]);
    let screen = Screen::start(&daemon);
    screen.wait_for("serving");
    daemon.signal(Signal::SIGTERM);
    daemon.wait();
    screen.wait_for("no answer at tmp/control");
    kill(Pid::from_raw(screen.child.id() as i32), Signal::SIGTERM).expect("kill");
    screen.ends();
}
