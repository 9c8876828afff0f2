//! What takes no words: under a log that takes none mail is received all the same, and whoever asks hears of it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Client, Site};
use crate::process::eventually;

/// A daemon of which nothing is heard; ended when this is dropped.
struct Mute(Child);

impl Mute {
    fn start(command: &mut Command, stderr: OwnedFd) -> Mute {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        Mute(command.spawn().expect("start"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).expect("signal");
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // its workers end by themselves
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts with this as standard error, receives a message, loads anew, receives another and ends.
fn serves_over(stderr: OwnedFd) {
    let site = Site::new();
    site.config("loglevel", "7\n");
    let path = site.path().join("lmtp");
    let socket = format!("unix:{}", path.display());
    let mut command = site.program("qpsmtpd-prefork");
    command.args(["--no-rdns", "--listen-address", &socket]);
    let mut daemon = Mute::start(&mut command, stderr);
    eventually("it listens", || {
        assert_eq!(daemon.0.try_wait().expect("wait"), None, "it has ended");
        UnixStream::connect(&path).is_ok()
    });
    let deliver = || {
        let mut client = Client::connect_unix(&path);
        assert_eq!(client.reply().0, 220);
        client.expect(250, "LHLO x").expect(250, "MAIL FROM:<a@example.net>");
        client.expect(250, "RCPT TO:<user@example.com>").expect(354, "DATA");
        client.expect(250, "Subject: x\r\n\r\nText.\r\n.");
    };
    deliver();
    let reload = site.program("qpsmtpctl").arg("reload").output().expect("qpsmtpctl");
    assert_eq!(String::from_utf8_lossy(&reload.stdout), "generation 2\n");
    deliver();
    assert_eq!(site.messages().len(), 2);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.0.wait().expect("wait").code(), Some(0));
}

#[test]
fn a_full_disk_under_the_log_does_not_keep_mail_out() {
    let full: File = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    serves_over(full.into());
}

#[test]
fn a_log_whose_reader_has_died_does_not_keep_mail_out() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    serves_over(writer.into());
}

/// Exit code and last words of a manual page that goes there.
fn manual_into(stdout: OwnedFd) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qpsmtpctl"));
    let output = command.args(["man", "qpsmtpd-config"]).stdout(stdout).output();
    let output = output.expect("qpsmtpctl");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn who_reads_no_further_has_read_enough_and_a_full_disk_is_told_of() {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(manual_into(writer.into()), (Some(0), String::new()));
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let (code, words) = manual_into(full.into());
    assert_eq!(code, Some(74));
    assert!(words.starts_with("cannot print it: No space left"), "{words}");
}
