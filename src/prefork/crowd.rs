//! The sessions of a worker that serves several at a time, each on a thread.
//!
//! A thread is made when a session comes and none waits for one, and is kept for the next; one that has had nothing
//! to do for a while ends. So a worker has as many threads as it lately had sessions. Everything happens after the
//! fork.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, Scope};
use std::time::{Duration, Instant};

use super::Refusal;
use super::board::Order;
use super::host::{Arrival, Host};
use super::post::MORE;
use super::refuse::refuse;
use super::sys;

/// The stack of a session's thread; of it only the pages that are used take memory.
const STACK: usize = 512 * 1024;
/// How long a thread waits for its next session.
const KEPT: Duration = Duration::from_secs(10);
/// How often, at most, what the heaps keep of sessions that are over is given back while others come.
pub(super) const TIDY: Duration = Duration::from_secs(10);

/// The seats of one worker and the threads that serve those who sit there.
pub(super) struct Crowd<'a> {
    inside: Mutex<Inside<'a>>,
    /// There is a session for a thread that waits.
    arrived: Condvar,
    /// A seat has become free.
    freed: Condvar,
}

struct Inside<'a> {
    /// Seats that are free; the lowest of the last used comes first.
    free: Vec<usize>,
    /// Sessions that no thread has yet.
    arrivals: VecDeque<Arrival<'a>>,
    /// Threads that wait for one.
    waiting: usize,
    /// When the heaps were last tidied.
    tidied: Instant,
    closed: bool,
}

impl<'a> Crowd<'a> {
    pub(super) fn new(seats: usize) -> Self {
        Self {
            inside: Mutex::new(Inside {
                free: (0..seats).rev().collect(),
                arrivals: VecDeque::new(),
                waiting: 0,
                tidied: Instant::now(),
                closed: false,
            }),
            arrived: Condvar::new(),
            freed: Condvar::new(),
        }
    }

    fn inside(&self) -> MutexGuard<'_, Inside<'a>> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat that nobody has; it stays free until [`Crowd::seat`].
    pub(super) fn free_place(&self) -> Option<usize> {
        self.inside().free.last().copied()
    }

    /// Waits until a seat is free.
    pub(super) fn wait_for_place(&self) {
        let full = |inside: &mut Inside<'_>| inside.free.is_empty();
        drop(self.freed.wait_while(self.inside(), full));
    }

    /// Gives a session that has a free seat to a thread.
    ///
    /// # Errors
    /// There is no thread for it, and none can be made; the client has been told.
    pub(super) fn seat<'scope, 'env>(
        &'env self,
        arrival: Arrival<'a>,
        host: Host<'env>,
        scope: &'scope Scope<'scope, 'env>,
    ) -> io::Result<()>
    where
        'a: 'env,
    {
        let mut inside = self.inside();
        inside.free.retain(|place| *place != arrival.place);
        host.post.row().set_sessions(host.post.row().sessions() + 1);
        inside.arrivals.push_back(arrival);
        if inside.waiting >= inside.arrivals.len() {
            self.arrived.notify_one();
            return Ok(());
        }
        let made = Builder::new()
            .name("session".into())
            .stack_size(STACK)
            .spawn_scoped(scope, move || self.attend(host));
        if made.is_err()
            && let Some(arrival) = inside.arrivals.pop_back()
        {
            let words = host.service.refusal(Refusal::ShuttingDown, arrival.listener);
            inside.free.push(arrival.place);
            host.post.row().set_sessions(host.post.row().sessions() - 1);
            refuse(arrival.stream, &words);
        }
        made.map(drop)
    }

    /// No more sessions come: threads that wait end, others after their session.
    pub(super) fn close(&self) {
        self.inside().closed = true;
        self.arrived.notify_all();
    }

    /// The life of a thread.
    fn attend(&self, host: Host<'_>) {
        sys::stack_may_shrink();
        while let Some(arrival) = self.next() {
            let place = arrival.place;
            let sound = host.serve(arrival);
            let mut inside = self.inside();
            inside.free.push(place);
            host.post.row().set_sessions(host.post.row().sessions() - 1);
            self.freed.notify_one();
            drop(inside);
            if !sound {
                // The others may end their sessions; then the worker leaves. The master wakes it for that.
                host.post.board.give(host.post.row, Order::Retire, Instant::now());
                host.post.report(MORE);
            }
        }
        if self.tidies(host.post.row().sessions() == 0) {
            sys::give_back_heaps();
        }
    }

    /// Whether a thread that ends gives back what the heaps keep of the sessions that are over: the last one does, if
    /// `all_over`, and others now and then. Without that a worker would keep the most that it ever needed, and a little
    /// more after each wave of clients: what is free lies between what is in use.
    fn tidies(&self, all_over: bool) -> bool {
        let mut inside = self.inside();
        let last = all_over && inside.waiting == 0;
        if inside.closed || !last && inside.tidied.elapsed() < TIDY {
            return false;
        }
        inside.tidied = Instant::now();
        true
    }

    /// The next session; none if there is none in time.
    fn next(&self) -> Option<Arrival<'a>> {
        let mut inside = self.inside();
        inside.waiting += 1;
        let nothing = |inside: &mut Inside<'_>| inside.arrivals.is_empty() && !inside.closed;
        let waited = self.arrived.wait_timeout_while(inside, KEPT, nothing);
        inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        inside.waiting -= 1;
        inside.arrivals.pop_front()
    }
}
