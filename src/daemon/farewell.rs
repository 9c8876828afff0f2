//! How a session ends from outside: what the daemon wants of it, and the words for those who are not served.

use std::os::fd::{AsRawFd, RawFd};

use crate::mail::Status;
use crate::net;
use crate::prefork::{self, Notice, Refusal};
use crate::smtp::bare_reply;

/// The word of prefork, as the wire wants it.
pub(super) struct Noticed {
    pub(super) notice: Notice,
    /// Whether the connection begins with text.
    pub(super) clear: bool,
}

impl net::Ending for Noticed {
    fn fds(&self) -> [Option<RawFd>; 2] {
        self.notice.fds().map(|fd| Some(fd.as_raw_fd()))
    }

    fn woken(&self) {
        self.notice.woken();
    }

    fn leave(&self) -> net::Leave {
        match self.notice.state() {
            prefork::Leave::No => net::Leave::No,
            prefork::Leave::FinishTransaction { deadline } => net::Leave::FinishBy(deadline),
            prefork::Leave::Now | prefork::Leave::Dismissed => net::Leave::Now,
        }
    }

    fn last_words(&self, socket: Option<RawFd>) {
        self.notice.last_words(socket.filter(|_| self.clear));
    }

    fn died(&self) {
        self.notice.say_last_words();
    }

    fn rests(&self) {
        prefork::give_back_stack();
    }
}

/// What a client is told whose session dies with its process, or by a panic outside plugins.
pub(super) fn last_words() -> Vec<u8> {
    bare_reply(421, Status(4, 3, 0), "internal error, please try again later")
}

/// What a client is told that comes when the machine is too busy.
pub(super) fn too_busy() -> Vec<u8> {
    bare_reply(421, Status(4, 3, 2), "the system is too busy, please try again later")
}

/// What a client is told that is sent away before it is served.
pub(super) fn refusal(why: Refusal) -> Vec<u8> {
    match why {
        Refusal::PerAddress { ip, .. } => bare_reply(
            451,
            Status(4, 7, 1),
            &format!("too many connections from {ip}, try again later"),
        ),
        Refusal::Paused => bare_reply(451, Status(4, 3, 2), "service is paused, please try again later"),
        Refusal::PerNetwork { ip, .. } => bare_reply(
            451,
            Status(4, 7, 1),
            &format!("too many connections from the network of {ip}, try again later"),
        ),
        Refusal::PerListener { .. } => bare_reply(421, Status(4, 3, 2), "too many connections, please try again later"),
        Refusal::ShuttingDown => bare_reply(421, Status(4, 3, 2), "service is shutting down, please try again later"),
    }
}
