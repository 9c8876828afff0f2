//! The line between the master and one worker: a pair of sockets, and the worker's row of the board.
//!
//! Orders are written to the board; the master then rings a bell, an eventfd, which only wakes the worker. All of its
//! threads wait for that edge-triggered, so nobody reads it, and it is never full. A worker sends
//! a byte when it finds too few others waiting, so that the master makes some; as a rule a connection costs the
//! master nothing. The end of the line tells either that the other is dead.

use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use socket2::Socket;

use super::board::{Board, Order, Row};
use super::canary::Outcome;
use super::last_words;
use super::seat::{Doing, Seat};
use super::{Bounds, Refusal};

/// What a worker sends when it has begun its first session.
pub(super) const GROWN: u8 = b'g';
/// What a worker sends when it has begun a session and too few others wait for one.
pub(super) const MORE: u8 = b'm';
/// What a worker sends when a session has ended while the gate is closed, or while it is on trial.
pub(super) const LEFT: u8 = b'l';
/// What the signal handler of a worker sends when someone sends SIGTERM to that worker.
pub(super) const TERM: u8 = b'X';

/// What the daemon wants of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// To go on.
    No,
    /// To say goodbye as soon as no transaction is open, and at the deadline in any case.
    FinishTransaction {
        /// A moment later the process is killed.
        deadline: Instant,
    },
    /// To say goodbye now.
    Now,
    /// To go now, because this very client is unwanted.
    Dismissed,
}

/// How many sessions there are besides one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Others {
    /// Of the same address (IPv6: network).
    pub same_address: u32,
    /// How many of the same address are allowed; 0 is no limit.
    pub limit: u32,
    /// In all.
    pub all: u32,
}

/// How a session learns that the daemon wants it to end: two descriptors to poll beside the client's, and a
/// state to read when one of them has become readable.
#[derive(Clone)]
pub struct Notice {
    post: Arc<Post>,
    place: usize,
    ticket: u64,
    bounds: Bounds,
}

impl Notice {
    /// One of them becomes readable when [`Notice::state`] may have changed; call [`Notice::woken`] then. Several
    /// sessions may share them, so nobody reads from them; wait for them edge-triggered, as mio does.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        self.post.fds()
    }

    /// To be called when a descriptor has become readable, before [`Notice::state`].
    pub fn woken(&self) {
        self.post.check_line();
    }

    /// What the daemon wants now; a look at shared memory. It never takes back what it has said.
    pub fn state(&self) -> Leave {
        match self.post.order() {
            Order::None | Order::Retire if self.seat().is_unwanted(self.ticket) => Leave::Dismissed,
            Order::None | Order::Retire => Leave::No,
            Order::Finish => match self.post.board.deadline(self.post.row) {
                deadline if deadline <= Instant::now() => Leave::Now,
                deadline => Leave::FinishTransaction { deadline },
            },
            Order::Now => Leave::Now,
        }
    }

    /// The row of the worker in the scoreboard, 0 for the first.
    pub fn row(&self) -> usize {
        self.post.row
    }

    /// The client is another than the connection showed, and is counted as that one from now on; the limits per address
    /// and per network hold for it unless it is `exempt`.
    ///
    /// # Errors
    /// The limit that keeps it out; it is not counted any more.
    pub fn move_to(&self, peer: SocketAddr, exempt: bool) -> Result<Others, Refusal> {
        let (post, at) = (&self.post, (self.post.row, self.place));
        let census = post.board.move_to(at, peer, self.bounds.limits(exempt));
        match census.exceeded {
            Some(bound) => Err(self.bounds.refusal(bound, peer.ip())),
            None => Ok(Others {
                same_address: census.same,
                limit: self.bounds.address,
                all: census.all,
            }),
        }
    }

    /// Says what the session is at from this moment on.
    pub fn set_stage(&self, what: u16, at: Instant) {
        self.seat().set_stage(self.post.board.doing(what, at));
    }

    /// Says what runs for the session from this moment on; 0 is nothing.
    pub fn set_task(&self, what: u16, at: Instant) {
        self.seat().set_task(self.post.board.doing(what, at));
    }

    /// Says which message is being decided, so that it is known if the worker dies of it; 0 is none.
    pub fn set_message(&self, fingerprint: u64) {
        self.seat().set_message(fingerprint);
    }

    /// Says what came of the session, at its end.
    pub fn conclude(&self, outcome: Outcome) {
        self.post.row().conclude(outcome);
    }

    /// Says that nothing runs for the session.
    pub fn rest(&self) {
        self.seat().set_task(Doing::default());
    }

    /// Says at which socket the client may be told that its session has died, from now on; none while a line is
    /// half-written, when it speaks no plain text, and before the socket is closed.
    pub fn last_words(&self, socket: Option<RawFd>) {
        last_words::set(self.place, socket);
    }

    /// Tells the client that its session has died, and shuts the socket.
    pub fn say_last_words(&self) {
        last_words::tell(self.place);
    }

    fn seat(&self) -> &Seat {
        self.post.board.seat(self.post.row, self.place)
    }
}

/// The worker's end of the line.
pub(super) struct Post {
    pub(super) socket: UnixStream,
    /// What the master rings.
    pub(super) bell: EventFd,
    pub(super) board: Arc<Board>,
    pub(super) row: usize,
    /// How long sessions may go on when the master is dead.
    pub(super) grace: Duration,
    /// Where the worker listens; nowhere once the master is dead.
    pub(super) listeners: RwLock<Vec<Socket>>,
}

impl Post {
    /// What the session of this ticket in this seat of the worker gets.
    pub(super) fn notice(self: &Arc<Self>, place: usize, ticket: u64, bounds: Bounds) -> Notice {
        Notice {
            post: Arc::clone(self),
            place,
            ticket,
            bounds,
        }
    }

    /// What to wait for: the bell, and the end of the master.
    pub(super) fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.bell.as_fd(), self.socket.as_fd()]
    }

    pub(super) fn row(&self) -> &Row {
        &self.board.rows()[self.row]
    }

    /// The order that stands.
    pub(super) fn order(&self) -> Order {
        self.row().order()
    }

    /// Without a master the worker orders itself to finish, and lets go of the listening sockets at once: the next master
    /// needs their places while transactions are still open here.
    pub(super) fn check_line(&self) {
        if self.order() < Order::Finish && self.line_is_dead() {
            self.board.give(self.row, Order::Finish, Instant::now() + self.grace);
            self.listeners.write().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    /// Where the worker listens.
    pub(super) fn listeners(&self) -> RwLockReadGuard<'_, Vec<Socket>> {
        self.listeners.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the master has closed its end, which only its death does. (Asking for the parent's id would be
    /// too early: the kernel closes the files of a dying process before it gives away its children.)
    fn line_is_dead(&self) -> bool {
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1))
    }

    /// Writes a byte to the master.
    pub(super) fn report(&self, byte: u8) {
        // If the line is full the master has enough to wake it; if it is broken there is no master.
        let _ = (&self.socket).write(&[byte]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_order_of_its_row() {
        let (socket, far) = UnixStream::pair().unwrap();
        let board = Arc::new(Board::new(2, 1, 64).unwrap());
        let grace = Duration::from_secs(30);
        let row = 1;
        let post = Arc::new(Post {
            socket,
            bell: EventFd::new().unwrap(),
            board: Arc::clone(&board),
            row,
            grace,
            listeners: RwLock::default(),
        });
        let notice = post.notice(0, 1, Bounds::default());
        assert_eq!(notice.state(), Leave::No);
        board.give(0, Order::Now, Instant::now());
        board.give(1, Order::Retire, Instant::now());
        assert_eq!(notice.state(), Leave::No, "its session may go on");
        board.seat(1, 0).dismiss(2);
        assert_eq!(notice.state(), Leave::No, "another one is unwanted");
        board.seat(1, 0).dismiss(1);
        assert_eq!(notice.state(), Leave::Dismissed);
        let deadline = Instant::now() + grace;
        board.give(1, Order::Finish, deadline);
        match notice.state() {
            Leave::FinishTransaction { deadline: told } => assert!(told <= deadline),
            other => panic!("{other:?}"),
        }
        board.give(1, Order::Finish, Instant::now());
        assert_eq!(notice.state(), Leave::Now, "the deadline has passed");
        drop(far);
    }

    #[test]
    fn finishes_by_itself_when_the_master_is_dead() {
        let (socket, far) = UnixStream::pair().unwrap();
        let board = Arc::new(Board::new(1, 1, 64).unwrap());
        let (row, grace) = (0, Duration::from_secs(30));
        let post = Arc::new(Post {
            socket,
            bell: EventFd::new().unwrap(),
            board,
            row,
            grace,
            listeners: RwLock::default(),
        });
        let notice = post.notice(0, 1, Bounds::default());
        notice.woken();
        assert_eq!(notice.state(), Leave::No);
        (&far).write_all(b"!").unwrap();
        notice.woken();
        assert_eq!(notice.state(), Leave::No);
        drop(far);
        notice.woken();
        assert!(matches!(notice.state(), Leave::FinishTransaction { .. }));
    }
}
