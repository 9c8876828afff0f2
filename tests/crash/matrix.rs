//! Every step of a delivery with every fault.
//!
//! A step is a system call of the worker, from the greeting to the end of the connection: the worker is stopped behind
//! it by strace, the fault befalls it, and it goes on. `QPSMTPD_CRASH=all` takes every call of a delivery; without it
//! those are taken that change something, each kind once. The table goes to stdout.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use crate::faults::Fault;
use crate::place::{Fate, Mail, Place};
use crate::process::eventually;
use crate::programs::need;
use crate::table::Table;
use crate::trace::{Deed, Point, Tracer, points, state};

/// Set in the process that has a mount namespace of its own.
const INSIDE: &str = "QPSMTPD_CRASH_INSIDE";
/// More than the body's buffer, so that there is a spool file.
const SIZE: usize = 150_000;

/// Runs a test of this program again in a mount namespace of its own; true in there.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if ["strace", "unshare", "mount", "prlimit", "setpriv"]
        .iter()
        .any(|name| need(name).is_none())
    {
        return false;
    }
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: {test}: this process may not mount");
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private"]);
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    assert!(command.status().expect("unshare").success(), "see above");
    false
}

/// Says in which run a test was when it failed.
struct Run(String);

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the run: {}", self.0);
        }
    }
}

/// All points of a delivery that goes well.
fn reference(place: &mut Place, out: &Path) -> (Vec<Point>, String) {
    let mails = [Mail::new("reference".to_owned(), SIZE, 3)];
    place.warm_up();
    let caller = place.caller();
    let tracer = Tracer::attach(place.worker(), out, None);
    assert_eq!(caller.deliver(&mails[0]), Fate::Taken);
    place.wait_until_quiet();
    let text = tracer.end();
    assert_eq!((place.take_messages(&mails), place.take_leftovers()), (vec![1], 0));
    (points(&text), text)
}

/// Those to try: all, or one of each kind that matters.
fn chosen(points: &[Point], fault: Fault) -> Vec<Point> {
    let all = std::env::var("QPSMTPD_CRASH").is_ok_and(|what| what == "all");
    let mut seen = HashSet::new();
    let matters = |point: &Point| {
        let quiet = ["other calls", "log"].iter().any(|end| point.step.ends_with(end));
        // a worker cannot be made before a second is over
        !quiet && (fault != Fault::NoProcesses || point.step.starts_with("queue: fsync"))
    };
    // what strace makes fail is not done, and a descriptor that stays open is what no failing close(2) leaves
    let can_be = |point: &Point| fault != Fault::CallFails || point.call != "close";
    let mut wanted = |point: &&Point| can_be(point) && (all || (matters(point) && seen.insert(point.step.clone())));
    points.iter().filter(|point| wanted(point)).cloned().collect()
}

/// One run: what became of the message, and how many files were left. None if the point was not reached.
fn run(place: &mut Place, point: &Point, fault: Fault, number: usize) -> Option<(Fate, usize)> {
    let _run = Run(format!("{} at {point:?}", fault.name()));
    let subject = |who: &str| format!("{who} {number} {} at {}", fault.name(), point.step);
    let mails = [
        Mail::new(subject("struck"), SIZE, 3),
        Mail::new(subject("during"), 1000, 1),
        Mail::new(subject("after"), 1000, 1),
    ];
    place.warm_up();
    let caller = place.caller();
    let worker = place.worker();
    let deed = if fault == Fault::CallFails {
        Deed::Fail
    } else {
        Deed::Stop
    };
    let tracer = Tracer::attach(worker, &place.path().join("trace"), Some((point, deed)));
    let wire = caller.wire();
    let (fate, reached) = std::thread::scope(|scope| {
        let client = scope.spawn(|| caller.deliver(&mails[0]));
        if deed == Deed::Fail {
            let fate = client.join().expect("a client");
            return (fate, tracer.text().contains("(INJECTED)"));
        }
        eventually("the point, or the end", || tracer.has_stopped() || client.is_finished());
        // the last calls come behind the end of the connection
        let idle = || client.is_finished() && state(worker) == Some('S');
        eventually("the point, or idleness", || tracer.has_stopped() || idle());
        let reached = tracer.has_stopped();
        if reached {
            fault.befall(place, worker, &wire);
            // one that was killed needs no word
            let _ = kill(worker, Signal::SIGCONT);
        }
        (client.join().expect("a client"), reached)
    });
    let mut fates = vec![fate, Fate::Lost, Fate::Lost];
    drop(tracer);
    if reached {
        if fault == Fault::MasterKilled {
            place.restart();
        } else if fault.lasts() {
            fates[1] = place.caller().deliver(&mails[1]);
        }
        if fault != Fault::MasterKilled {
            place.wait_until_quiet();
            fault.lift(place, worker);
        }
    }
    fates[2] = place.caller().deliver(&mails[2]);
    place.wait_until_quiet();
    check(place, &mails, &fates, point, fault);
    let left = place.take_leftovers();
    let died = state(worker).is_none();
    // nobody can remove a file from a folder that may not be written to, or by a call that fails
    let could_not = fault == Fault::Unwritable || (fault == Fault::CallFails && point.call == "unlink");
    assert!(
        left == 0 || died || could_not,
        "{left} files left by {} at {} ({fate:?})",
        fault.name(),
        point.step
    );
    reached.then_some((fate, left))
}

fn check(place: &Place, mails: &[Mail], fates: &[Fate], point: &Point, fault: Fault) {
    let counts = place.take_messages(mails);
    let what = format!("{} at {point:?}: {fates:?} {counts:?}", fault.name());
    for (fate, count) in fates.iter().zip(&counts) {
        match fate {
            Fate::Taken => assert_eq!(*count, 1, "{what}"),
            Fate::PutOff => assert_eq!(*count, 0, "{what}"),
            Fate::Lost => assert!(*count <= 1, "{what}"),
        }
    }
    assert_eq!(fates[2], Fate::Taken, "the next client: {what}\n{:#?}", place.lines());
}

#[test]
fn at_every_step_every_fault() {
    if !inside("matrix::at_every_step_every_fault") {
        return;
    }
    let mut place = Place::new();
    let out = place.path().join("trace");
    let (points, _) = reference(&mut place, &out);
    let mut table = Table::default();
    for point in &points {
        table.row(&point.step);
    }
    let mut unreached = 0;
    for fault in Fault::ALL {
        for point in chosen(&points, fault) {
            match run(&mut place, &point, fault, table.runs() + unreached) {
                Some((fate, left)) => table.add(&point.step, fault, fate, left),
                None => unreached += 1,
            }
        }
    }
    println!("{}", table.markdown());
    println!("{} runs; {unreached} more in which the call was not made", table.runs());
    assert!(table.runs() > 50 && unreached < table.runs() / 4);
}

/// What kill -9 cannot show, because the kernel lives on: the order in which things reach the disk.
#[test]
fn the_answer_comes_after_the_disk() {
    if !inside("matrix::the_answer_comes_after_the_disk") {
        return;
    }
    let mut place = Place::new();
    let out = place.path().join("trace");
    let (points, text) = reference(&mut place, &out);
    let at = |step: &str| {
        let places = points.iter().enumerate().filter(|(_, point)| point.step == step);
        places.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let order = [
        at("queue: open maildir/tmp").first().copied(),
        at("queue: write maildir/tmp").last().copied(),
        at("queue: fsync maildir/tmp").first().copied(),
        at("queue: rename into maildir/new").first().copied(),
        at("queue: fsync maildir/new").first().copied(),
        at("queue: reply").first().copied(),
    ];
    assert!(
        order.iter().all(Option::is_some) && order.is_sorted(),
        "{order:?}\n{text}"
    );
}
