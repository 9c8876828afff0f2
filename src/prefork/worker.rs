//! The worker: waits for a connection, serves it, and leaves when its time has come.
//!
//! Every worker waits in its own epoll, into which the listening sockets are put with EPOLLEXCLUSIVE, so
//! that a connection wakes one of those that wait and not all. Measured with 20 idle workers and 1,000
//! connections one after the other: see the figures at `watch`.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};
use std::thread::Scope;
use std::time::Instant;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use nix::libc;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use nix::unistd::{Pid, getpid, setpgid};
use signal_hook::consts::SIGTERM;

use socket2::Socket;

use super::board::{Order, State};
use super::crowd::{Crowd, TIDY};
use super::host::{Arrival, Host, Terms};
use super::house::Gate;
use super::listen::{NOWHERE, mark, place as place_of};
use super::pool::births;
use super::post::{GROWN, LEFT, MORE, Post};
use super::refuse::refuse;
use super::seat::Bound;
use super::signals::{Held, forward};
use super::{Level, Log, Plan, Refusal, Service, background, confine, last_words, sys, title, unix};

/// The bell and the line to the master; the listeners are numbered from 0.
const MASTER: Token = Token(usize::MAX - 1);

/// Heaps that the threads of a worker share. Each keeps the most that was ever needed of it at a time: after 9,600
/// sessions of many kinds, 12 at a time on two processors, 13.3 MB with the 16 that glibc would make there, 9.1 MB with
/// these, at the same cost of time.
const HEAPS: i32 = 4;

/// What a new worker is given by the master.
pub(super) struct Seed {
    pub(super) plan: Rc<Plan>,
    pub(super) service: Arc<dyn Service>,
    pub(super) listeners: Rc<Vec<Socket>>,
    /// How many of them, from the first on, go on listening when the daemon has ended.
    pub(super) inherited: usize,
    pub(super) post: Arc<Post>,
    /// The nice value to go back to.
    pub(super) nice: Option<i32>,
    /// Signals wait until the worker can deal with them.
    pub(super) held: Held,
}

/// The life of a worker; returns its exit code.
pub(super) fn work(seed: Seed, log: Log<'_>) -> u8 {
    match Worker::start(seed, log).and_then(|worker| worker.live(log)) {
        Ok(code) => code,
        Err(e) => {
            log(Level::Error, &format!("worker {} gives up: {e}", getpid()));
            1
        }
    }
}

struct Worker {
    plan: Rc<Plan>,
    service: Arc<dyn Service>,
    /// The listeners as limits know them.
    marks: Vec<u64>,
    inherited: usize,
    post: Arc<Post>,
    poll: RefCell<Poll>,
}

impl Worker {
    fn start(seed: Seed, log: Log<'_>) -> io::Result<Self> {
        let Seed {
            plan,
            service,
            listeners,
            inherited,
            post,
            nice,
            held,
        } = seed;
        post.board.set_pid(post.row, getpid());
        // A group of its own: Ctrl-C reaches the master alone.
        setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
        // The master's handlers are gone with its state, which leaves its other signals ignored.
        forward(SIGTERM, post.socket.try_clone()?.into())?;
        drop(held);
        if plan.detach {
            background::give_up_terminal()?;
        }
        if let Some(nice) = nice {
            sys::set_niceness(nice)?;
        }
        if plan.pretty_child {
            background::name_process(c"qpsmtpd child");
        }
        catch_unwind(AssertUnwindSafe(|| service.start_worker()))
            .map_err(|_| io::Error::other("panic while it got ready"))?;
        // What one worker cannot do, none can; it is told once.
        let quiet: Log<'_> = &|_, _| {};
        let told = post.board.confinement_was_told();
        confine::confine(&service.confinement(), if told { quiet } else { log });
        let poll = Poll::new()?;
        for fd in post.fds() {
            let source = &mut SourceFd(&fd.as_raw_fd());
            poll.registry().register(source, MASTER, Interest::READABLE)?;
        }
        for (number, listener) in listeners.iter().enumerate() {
            watch(&poll, listener, Token(number))?;
        }
        let marks = listeners.iter().map(mark).collect();
        // nobody else in this process has them: the master's state is gone
        let own = Rc::try_unwrap(listeners).map_err(|_| io::Error::other("the listeners are held twice"))?;
        *post.listeners.write().unwrap_or_else(PoisonError::into_inner) = own;
        last_words::prepare(service.last_words(), plan.sessions.max(1) as usize);
        title::title(format_args!("qpsmtpd worker, waiting"));
        post.row().set_state(State::Idle);
        Ok(Self {
            plan,
            service,
            marks,
            inherited,
            post,
            poll: RefCell::new(poll),
        })
    }

    /// Serves until the master or the number of sessions ends it.
    fn live(&self, log: Log<'_>) -> io::Result<u8> {
        let host = Host {
            service: &*self.service,
            post: &self.post,
            plan: Terms::of(&self.plan),
            log,
        };
        match self.plan.sessions {
            0 | 1 => self.live_alone(host),
            several => self.live_in_company(host, several as usize),
        }
    }

    /// One session at a time, on this thread.
    fn live_alone(&self, host: Host<'_>) -> io::Result<u8> {
        let mut events = Events::with_capacity(8);
        let mut tidied = Instant::now();
        while self.goes_on() {
            if let Some(number) = self.wait(&mut events)?
                && let Some(arrival) = self.accept(number, 0, host.log)?
            {
                self.post.row().set_state(State::Busy);
                self.report();
                // the next session must not inherit the remains of one that panicked
                if !host.serve(arrival) {
                    return Ok(1);
                }
                title::title(format_args!("qpsmtpd worker, waiting"));
                self.post.row().set_state(State::Idle);
                // no client waits for this; without it a worker that stays for long would keep ever a little more
                if tidied.elapsed() >= TIDY {
                    sys::give_back_heaps();
                    tidied = Instant::now();
                }
            }
        }
        Ok(0)
    }

    /// Several sessions at a time, each on a thread; this one accepts while a seat is free.
    fn live_in_company(&self, host: Host<'_>, seats: usize) -> io::Result<u8> {
        sys::share_heaps(HEAPS);
        let crowd = Crowd::new(seats);
        std::thread::scope(|scope| {
            let ended = self.accept_for(&crowd, host, scope);
            // Whoever else waits takes what comes now, and another worker is made; the scope ends when the last session
            // does.
            self.post.row().set_state(State::Leaving);
            self.post.report(MORE);
            crowd.close();
            ended
        })
    }

    fn accept_for<'scope, 'env, 'a: 'env>(
        &'a self,
        crowd: &'env Crowd<'a>,
        host: Host<'env>,
        scope: &'scope Scope<'scope, 'env>,
    ) -> io::Result<u8> {
        let mut events = Events::with_capacity(8);
        while self.goes_on() {
            let Some(place) = crowd.free_place() else {
                self.post.row().set_state(State::Busy);
                crowd.wait_for_place();
                self.post.row().set_state(State::Idle);
                continue;
            };
            if let Some(number) = self.wait(&mut events)?
                && let Some(arrival) = self.accept(number, place, host.log)?
            {
                crowd.seat(arrival, host, scope)?;
                // the seat counts as taken now
                self.report();
                title::title(format_args!("qpsmtpd worker, many sessions"));
            }
        }
        Ok(0)
    }

    fn goes_on(&self) -> bool {
        self.post.order() == Order::None && self.post.row().served() < self.plan.sessions_per_worker
    }

    /// Waits for something to happen; the number of a listener that has a connection.
    fn wait(&self, events: &mut Events) -> io::Result<Option<usize>> {
        match self.poll.borrow_mut().poll(events, None) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(None),
            other => other?,
        }
        if events.iter().any(|event| event.token() == MASTER) {
            self.post.check_line();
        }
        // A connection that woke us is ours even if an order came with it: nobody else was woken.
        let mut ready = events.iter().filter(|event| event.token() != MASTER);
        Ok(ready.next().map(|event| event.token().0))
    }

    /// Accepts one connection for the seat `place`; none if there is none any more, or none that may be served.
    fn accept(&self, number: usize, place: usize, log: Log<'_>) -> io::Result<Option<Arrival<'_>>> {
        // At an inherited socket a client may wait: for whoever is started next.
        if number < self.inherited && self.post.order() >= Order::Finish {
            return Ok(None);
        }
        let accepted = match self.post.listeners().get(number) {
            Some(listener) => listener.accept(),
            None => return Ok(None),
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(e) => return self.not_accepted(e),
        };
        if self.post.board.canary() != 0 {
            self.stand_back()?;
        }
        let peer = place_of(&peer);
        if self.post.order() >= Order::Finish {
            refuse(stream, &self.service.refusal(Refusal::ShuttingDown, number));
            return Ok(None);
        }
        let limits = self
            .plan
            .bounds()
            .limits(peer == NOWHERE || self.service.is_exempt(peer.ip()));
        let taken = self
            .post
            .board
            .take((self.post.row, place), peer, self.marks[number], limits);
        if let Some(bound) = taken.census.exceeded {
            drop(taken);
            self.send_away(stream, (peer, number), bound, log);
            return Ok(None);
        }
        if let Some(why) = self.closed() {
            drop(taken);
            self.post.report(LEFT);
            refuse(stream, &self.service.refusal(why, number));
            return Ok(None);
        }
        // Gone already, and the kernel cannot say any more where it was connected to.
        let Ok(local) = stream.local_addr() else {
            return Ok(None);
        };
        stream.set_nonblocking(true)?;
        Ok(Some(Arrival {
            peer,
            caller: (peer == NOWHERE).then(|| unix::caller(&stream)),
            local: place_of(&local),
            stream,
            listener: number,
            place,
            taken,
        }))
    }

    /// Goes to the end of the queue in which the workers wait for connections. The kernel wakes the first that waits,
    /// so that otherwise whoever came last, which is those with a configuration on trial, would have least to do.
    fn stand_back(&self) -> io::Result<()> {
        let poll = self.poll.borrow();
        for (number, listener) in self.post.listeners().iter().enumerate() {
            forget(&poll, listener)?;
            watch(&poll, listener, Token(number))?;
        }
        Ok(())
    }

    /// Why no new client is served, if the gate is closed.
    fn closed(&self) -> Option<Refusal> {
        match self.post.board.gate() {
            Gate::Open => None,
            Gate::Paused => Some(Refusal::Paused),
            Gate::Draining => Some(Refusal::ShuttingDown),
        }
    }

    /// Tells a client which limit keeps it out, and the log.
    fn send_away(&self, stream: Socket, (peer, listener): (SocketAddr, usize), bound: Bound, log: Log<'_>) {
        let ip = peer.ip();
        let why = self.plan.bounds().refusal(bound, ip);
        log(Level::Info, &format!("refused {ip}: {why}"));
        refuse(stream, &self.service.refusal(why, listener));
    }

    /// Tells the master of a first session, and of the need for more workers.
    fn report(&self) {
        if self.post.row().count_session() == 1 {
            self.post.report(GROWN);
        }
        let present = self.post.board.present(self.post.row().generation());
        if births(self.plan.wanted(), present) > 0 {
            self.post.report(MORE);
        }
    }

    /// Someone else was faster, the client has gone, the listener is closed, or we are out of something.
    fn not_accepted(&self, e: io::Error) -> io::Result<Option<Arrival<'_>>> {
        match e.raw_os_error() {
            Some(libc::EAGAIN) => {
                self.post.row().count_empty();
                Ok(None)
            }
            // Out of descriptors or memory: a fresh process is the cure, if there is one.
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Err(e),
            // EINVAL: closed by the master, which has written its order before. Anything else is what has
            // befallen the new connection; accept(2) passes that on.
            _ => Ok(None),
        }
    }
}

/// Puts a listener into the epoll of `poll`, which then wakes for it only if no other worker was woken.
///
/// 20 idle workers, 1,000 connections one after the other, Linux 6.18: with EPOLLEXCLUSIVE 2,000 context
/// switches of all workers together, two per connection (accept, read), and 0 or 1 wake-ups that found
/// nothing to accept; without it 21,000 and 300 to 500. `tests/prefork/waking.rs` measures it.
fn watch(poll: &Poll, listener: &Socket, token: Token) -> io::Result<()> {
    // mio knows no EPOLLEXCLUSIVE; a second descriptor of the same epoll does.
    let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE;
    Ok(epoll(poll)?.add(listener, EpollEvent::new(flags, token.0 as u64))?)
}

/// Takes a listener out of it again.
fn forget(poll: &Poll, listener: &Socket) -> io::Result<()> {
    Ok(epoll(poll)?.delete(listener)?)
}

fn epoll(poll: &Poll) -> io::Result<Epoll> {
    Ok(Epoll(poll.registry().as_fd().try_clone_to_owned()?))
}
