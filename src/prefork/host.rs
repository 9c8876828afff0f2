//! Serving one connection: what the service is told of it, and what becomes of the worker if the service fails.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use nix::unistd::getpid;
use socket2::Socket;

use super::board::Taken;
use super::house::Gate;
use super::post::{LEFT, Post};
use super::{Bounds, Caller, Connection, Level, Log, Plan, Service};

/// A connection that has a seat.
pub(super) struct Arrival<'a> {
    pub(super) stream: Socket,
    /// Who it is, if it came by a unix socket.
    pub(super) caller: Option<Caller>,
    pub(super) peer: SocketAddr,
    pub(super) local: SocketAddr,
    /// Which listener it came by.
    pub(super) listener: usize,
    /// Which of the worker's seats it has.
    pub(super) place: usize,
    pub(super) taken: Taken<'a>,
}

/// What a session is told of the plan.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    limit: u32,
    most: u32,
    sessions: u32,
    bounds: Bounds,
}

impl Terms {
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            limit: plan.limit_per_address(),
            most: plan.most_sessions(),
            sessions: plan.sessions,
            bounds: plan.bounds(),
        }
    }
}

/// Who serves: all that a session needs of its worker, on whatever thread it runs.
#[derive(Clone, Copy)]
pub(super) struct Host<'a> {
    pub(super) service: &'a dyn Service,
    pub(super) post: &'a Arc<Post>,
    pub(super) plan: Terms,
    pub(super) log: Log<'a>,
}

impl Host<'_> {
    /// Serves a connection to its end and frees its seat; `false` after a panic.
    pub(super) fn serve(&self, arrival: Arrival<'_>) -> bool {
        let Arrival {
            stream,
            caller,
            peer,
            local,
            listener,
            place,
            taken,
        } = arrival;
        let census = taken.census;
        let connection = Connection {
            stream,
            caller,
            peer,
            local,
            listener,
            seat: taken.seat,
            notice: self.post.notice(place, census.ticket, self.plan.bounds),
            number: census.ticket,
            same_address: census.same + 1,
            limit: self.plan.limit,
            busy: census.all + 1,
            children: self.plan.most,
            company: self.plan.sessions > 1,
        };
        let ended = catch_unwind(AssertUnwindSafe(|| self.service.serve(connection)));
        if ended.is_err() {
            let pid = getpid();
            let words = format!("the session with {peer} ended in a panic; worker {pid} leaves");
            (self.log)(Level::Critical, &words);
        }
        drop(taken);
        let canary = self.post.board.canary();
        if self.post.board.gate() != Gate::Open || canary != 0 && self.post.row().generation() == canary {
            self.post.report(LEFT);
        }
        ended.is_ok()
    }
}
