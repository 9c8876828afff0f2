//! Every step of a delivery with every fault, in every scene.
//!
//! A step is a system call of whoever serves the client, from the greeting to the end of the connection: the worker is
//! stopped behind it by strace, the fault befalls it, and it goes on. `QPSMTPD_CRASH=all` takes every call with every
//! fault. Without it those calls are taken that change something, each kind once: in the plain scene with every fault,
//! in the others with one fault after the other in turn, and those of the queue with the gravest. The tables go to
//! stdout.

use std::collections::HashSet;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::client::{Caller, Fate, Mail};
use crate::faults::Fault;
use crate::place::Place;
use crate::process::eventually;
use crate::rights::inside;
use crate::scene::{self, Queue, Scene};
use crate::table::Table;
use crate::trace::{Deed, Point, Tracer, points, state};

/// Says in which run a test was when it failed.
struct Run(String);

impl Drop for Run {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the run: {}", self.0);
        }
    }
}

/// The subject of a run's message: of whom, in which run.
type Subject<'a> = &'a dyn Fn(&str) -> String;

/// The sessions beside the one that is struck: one in the middle of a message, one that waits.
struct Neighbours {
    busy: Option<Caller>,
    idle: Option<Caller>,
}

impl Neighbours {
    /// Lets them come, if the worker serves several. `mails` has a message for each.
    fn come(place: &Place, mails: &[Mail]) -> Neighbours {
        let come = |_| {
            let mut caller = place.caller();
            assert_eq!(caller.hello(), Ok(()));
            caller
        };
        let mut two = (place.scene.sessions > 1)
            .then_some(())
            .map(|()| [(); 2].map(come))
            .into_iter()
            .flatten();
        let (mut busy, idle) = (two.next(), two.next());
        if let Some(caller) = &mut busy {
            assert_eq!(caller.begin(&mails[0]), Ok(()));
        }
        Neighbours { busy, idle }
    }
}

/// All points of a delivery that goes well, by the worker that is there, and what strace wrote.
pub fn reference(place: &Place, out: &Path) -> (Vec<Point>, String) {
    let mails = mails(place, &|who| who.to_owned());
    let neighbours = Neighbours::come(place, &mails[STRUCK..]);
    let mut caller = place.caller();
    let thread = place.thread(place.worker(), &mut caller);
    let tracer = Tracer::attach(thread, out, None);
    let count = place.scene.messages;
    assert_eq!(caller.deliver(&mails[..count]), vec![Fate::Taken; count]);
    drop(neighbours);
    place.wait_until_quiet();
    let text = tracer.end();
    let counts = place.take_messages(&mails[..count]).concat();
    assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
    assert_eq!(place.take_leftovers(), 0);
    (points(&text), text)
}

/// Those to try: all, or one of each kind that matters; in other scenes than the plain one each with few of the faults.
fn chosen(scene: &Scene, points: &[Point]) -> Vec<(Fault, Point)> {
    let all = std::env::var("QPSMTPD_CRASH").is_ok_and(|what| what == "all");
    let faults: Vec<Fault> = Fault::ALL.into_iter().filter(|fault| fault.fits(scene)).collect();
    let mut seen = HashSet::new();
    let matters = |point: &&Point| {
        let quiet = ["other calls", "log"].iter().any(|end| point.step.ends_with(end));
        all || (!quiet && seen.insert(point.step.clone()))
    };
    let points: Vec<&Point> = points.iter().filter(matters).collect();
    // What strace makes fail is not done, and a descriptor that stays open is what no failing close(2) leaves. The
    // socket by which a child says that it has become a program cannot fail; the standard library relies on that.
    let can_fail = |point: &Point| {
        let child = point.call == "recvfrom" && point.step.ends_with("start the program");
        point.call != "close" && !child
    };
    let can_be = |fault: Fault, point: &Point| fault != Fault::CallFails || can_fail(point);
    // without QPSMTPD_CRASH=all there is little time, and a worker cannot be made before a second is over
    let is_quick = |fault: Fault, point: &Point| fault != Fault::NoProcesses || point.step.starts_with("queue: fsync");
    let mut wanted = Vec::new();
    for (number, point) in points.into_iter().enumerate() {
        let plain = scene.name == scene::PLAIN.name;
        let is_next = |fault: Fault| fault == faults[number % faults.len()];
        let grave = |fault: Fault| {
            let breaks = matches!(fault, Fault::WorkerKilled | Fault::CallFails | Fault::NextCut);
            breaks && scene.sessions == 1 && point.step.starts_with("queue: ")
        };
        let fits = |fault: &Fault| {
            let few = plain || is_next(*fault) || grave(*fault);
            can_be(*fault, point) && (all || few && is_quick(*fault, point))
        };
        wanted.extend(faults.iter().copied().filter(fits).map(|fault| (fault, point.clone())));
    }
    // by fault, so that the table is made row by row, and a place is not restarted all the time
    wanted.sort_by_key(|(fault, _)| *fault);
    wanted
}

/// Where the messages of others than the struck client begin among those of a run.
const STRUCK: usize = 2;

/// The messages of a run: two of the client that is struck, of the neighbours, of who comes during the fault, of who
/// comes afterwards.
fn mails(place: &Place, subject: Subject<'_>) -> Vec<Mail> {
    let struck = ["struck", "struck again"].map(|who| place.mail(&subject(who)));
    let others = ["busy", "idle", "during", "after"].map(|who| place.short_mail(&subject(who)));
    struck.into_iter().chain(others).collect()
}

/// One run: what became of the messages, and how many files were left. None if the point was not reached.
fn run(place: &mut Place, point: &Point, fault: Fault, number: usize) -> Option<(Vec<Fate>, usize)> {
    let _run = Run(format!("{}: {} at {point:?}", place.scene.name, fault.name()));
    let mails = mails(place, &|who| {
        format!("{who} {number} {} at {}", fault.name(), point.step)
    });
    let count = place.scene.messages;
    match fault.strikes_the_cold() {
        true => place.cool_down(),
        false => place.warm_up(),
    }
    let mut neighbours = Neighbours::come(place, &mails[STRUCK..]);
    let mut caller = place.caller();
    let worker = place.worker();
    let thread = place.thread(worker, &mut caller);
    let deed = if fault == Fault::CallFails {
        Deed::Fail
    } else {
        Deed::Stop
    };
    let tracer = Tracer::attach(thread, &place.path().join("trace"), Some((point, deed)));
    let wire = caller.wire();
    let (struck, reached) = std::thread::scope(|scope| {
        let client = scope.spawn(|| caller.deliver(&mails[..count]));
        if deed == Deed::Fail {
            let fates = client.join().expect("a client");
            return (fates, tracer.text().contains("(INJECTED)"));
        }
        eventually("the point, or the end", || tracer.has_stopped() || client.is_finished());
        // the last calls come behind the end of the connection
        let idle = || client.is_finished() && state(thread) == Some('S');
        eventually("the point, or idleness", || tracer.has_stopped() || idle());
        let mut reached = tracer.has_stopped();
        if reached {
            reached = fault.befall(place, worker, &wire);
            if fault == Fault::Reset {
                eventually("the client has left", || client.is_finished());
                // nobody else has it any more
                drop(wire);
            }
            // one that was killed needs no word
            let _ = kill(worker, Signal::SIGCONT);
        }
        (client.join().expect("a client"), reached)
    });
    drop(tracer);
    let mut fates = vec![Fate::Lost; mails.len()];
    fates[..count].copy_from_slice(&struck);
    if let Some(mut busy) = neighbours.busy.take() {
        fates[STRUCK] = busy.finish(&mails[STRUCK]);
    }
    if reached && fault == Fault::MasterKilled {
        place.restart();
    } else if reached {
        if fault.lasts() {
            fates[4] = place.caller().deliver(&mails[4..5])[0];
        }
        place.wait_until_quiet();
        fault.lift(place, worker);
    }
    if let Some(idle) = neighbours.idle.take() {
        fates[3] = idle.deliver_more(&mails[3]);
    }
    fates[5] = place.caller().deliver(&mails[5..])[0];
    place.wait_until_quiet();
    check(place, &mails, &fates, (point, fault), (reached, worker));
    let left = place.take_leftovers();
    let died = state(worker).is_none();
    // nobody can remove a file from a folder that may not be written to, or by a call that fails; and a program is
    // killed if it cannot be waited for, or there is no descriptor to see whether it has read all
    let of_programs = matches!(fault, Fault::ProgramKilled | Fault::CallFails | Fault::NoDescriptors);
    let program = place.scene.queue == Queue::Qmail && of_programs;
    let could_not = program || fault == Fault::Unwritable || (fault == Fault::CallFails && point.call == "unlink");
    assert!(
        left == 0 || died || could_not,
        "{left} files left by {} at {} ({fates:?})",
        fault.name(),
        point.step
    );
    reached.then_some((struck, left))
}

fn check(
    place: &Place,
    mails: &[Mail],
    fates: &[Fate],
    (point, fault): (&Point, Fault),
    (reached, worker): (bool, Pid),
) {
    let counts = place.take_messages(mails);
    let what = format!("{} at {point:?}: {fates:?} {counts:?}", fault.name());
    for (who, (fate, counts)) in fates.iter().zip(&counts).enumerate() {
        let in_vain = who < STRUCK && fault.may_deliver_in_vain(place.scene);
        let right = |count: &usize| match fate {
            Fate::Taken => *count == 1,
            Fate::PutOff if !in_vain => *count == 0,
            Fate::PutOff | Fate::Lost => *count <= 1,
        };
        assert!(counts.iter().all(right), "message {who}: {what}");
    }
    // a worker that has to do without something answers, but for memory
    let answers = fault.lasts() && fault != Fault::NoMemory;
    let unheard = fates[..place.scene.messages].contains(&Fate::Lost);
    assert!(
        !(reached && answers && unheard),
        "no answer: {what}\n{:#?}",
        place.lines()
    );
    assert_eq!(fates[5], Fate::Taken, "the next client: {what}\n{:#?}", place.lines());
    if place.scene.sessions > 1 && !fault.kills() && state(worker).is_some() {
        // what befalls one session does not befall the others; what the worker could not read while a fault lasted it
        // reads again when the next session begins
        let right = fates[3] == Fate::Taken || (fault.lasts() && fates[3] == Fate::PutOff);
        assert!(right, "the idle neighbour: {what}");
    }
    // an open transaction may end when the master has gone, too
    let spared = !reached || !(fault.kills() || fault.lasts());
    assert!(
        place.scene.sessions == 1 || !spared || fates[2] == Fate::Taken,
        "the busy neighbour: {what}"
    );
}

/// Walks through a scene.
fn walk(scene: &'static Scene, test: &str) {
    if !inside(&format!("matrix::{test}")) {
        return;
    }
    let mut table = Table::default();
    let mut unreached = 0;
    for cold in [false, true] {
        let mut place = if cold { Place::frugal(scene) } else { Place::new(scene) };
        if !cold {
            place.warm_up();
        }
        let out = place.path().join("trace");
        let (points, text) = reference(&place, &out);
        assert!(points.len() > 10, "{text}");
        for point in &points {
            table.row(&point.step);
        }
        let wanted = chosen(scene, &points).into_iter();
        for (fault, point) in wanted.filter(|(fault, _)| fault.strikes_the_cold() == cold) {
            match run(&mut place, &point, fault, table.runs() + unreached) {
                Some((fates, left)) => table.add(&point.step, fault, &fates, left),
                None => unreached += 1,
            }
        }
    }
    println!("{}\n{}", table.markdown(scene.name), table.total(scene.name));
    let runs = table.runs();
    println!(
        "{}: {runs} runs; {unreached} more in which the call was not made",
        scene.name
    );
    assert!(runs > 10 && unreached < runs / 4);
}

macro_rules! walks {
    ($($test:ident: $scene:ident),*) => {
        $(#[test]
        fn $test() {
            walk(&scene::$scene, stringify!($test));
        })*
    };
}

walks! {
    at_every_step_every_fault: PLAIN,
    a_small_message: SMALL,
    over_tls: TLS,
    in_chunks: CHUNKS,
    for_two_recipients: RECIPIENTS,
    two_messages_in_a_session: MESSAGES,
    with_neighbours_in_the_worker: SESSIONS,
    into_a_program: QMAIL,
    to_a_next_server: FORWARD,
    over_lmtp: LMTP,
    all_of_it_together: TOGETHER
}
