//! What killed workers have left: in nobody's way while it is young, removed when it is old.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::Fate;
use crate::matrix::reference;
use crate::place::Place;
use crate::process::eventually;
use crate::rights::inside;
use crate::scene;
use crate::trace::{Deed, Point, Tracer, state};

/// Kills a worker when it has come to this point of a delivery; the files that it leaves.
fn left_by_one_killed(place: &mut Place, point: &Point) -> HashSet<PathBuf> {
    place.warm_up();
    let mails = [place.mail("of the one that is killed")];
    let (caller, worker) = (place.caller(), place.worker());
    let tracer = Tracer::attach(worker, &place.path().join("trace"), Some((point, Deed::Stop)));
    std::thread::scope(|scope| {
        let client = scope.spawn(|| caller.deliver(&mails));
        eventually("the point", || tracer.has_stopped());
        end(worker);
        assert_eq!(client.join().expect("a client"), [Fate::Lost]);
    });
    place.leftovers()
}

/// Kills a worker, so that another takes its place.
fn end(worker: Pid) {
    kill(worker, Signal::SIGKILL).expect("kill");
    eventually("it has gone", || state(worker).is_none());
}

#[test]
fn what_the_killed_have_left_is_swept_when_it_is_old() {
    if !inside("sweep::what_the_killed_have_left_is_swept_when_it_is_old") {
        return;
    }
    let mut place = Place::new(&scene::PLAIN);
    let out = place.path().join("trace");
    place.warm_up();
    let (points, _) = reference(&place, &out);
    let point = points.iter().find(|point| point.step == "queue: fsync maildir/tmp");
    let left = left_by_one_killed(&mut place, point.expect("a point"));
    let folders: HashSet<_> = left.iter().filter_map(|path| path.parent()).collect();
    assert_eq!((left.len(), folders.len()), (2, 2), "spool and maildir: {left:?}");
    for (hours, stay) in [(0, true), (35, true), (37, false)] {
        place.age(&left, Duration::from_secs(hours * 3600));
        let mails = [place.mail("of the next worker")];
        assert_eq!(place.caller().deliver(&mails), [Fate::Taken]);
        place.wait_until_quiet();
        assert_eq!(place.leftovers() == left, stay, "{hours} hours");
        assert_eq!(place.leftovers().is_empty(), !stay, "{hours} hours");
        place.take_messages(&mails);
        end(place.worker());
    }
}
