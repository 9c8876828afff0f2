//! Everything at once for a while: clients, rates, reloads every second, workers killed at random.
//!
//! 30 seconds, or as many as QPSMTPD_SOAK says.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{Client, Daemon, Site, deliver};

const CLIENTS: usize = 12;
const MAX_FROM_IP: usize = 16;

/// Reloads every second and kills a worker now and then until the time is over; how many were killed.
fn disturb(daemon: &Daemon, until: Instant) -> u32 {
    let (mut killed, mut reload) = (0, Instant::now());
    while Instant::now() < until {
        if Instant::now() >= reload {
            reload += Duration::from_secs(1);
            daemon.signal(Signal::SIGHUP);
        }
        if let Some(worker) = fastrand::choice(daemon.workers()) {
            killed += u32::from(kill(worker, Signal::SIGKILL).is_ok());
        }
        std::thread::park_timeout(Duration::from_millis(fastrand::u64(100..400)));
    }
    killed
}

/// How often each subject is in the maildir.
fn delivered(site: &Site) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for message in site.messages() {
        let subject = message.lines().find_map(|line| line.strip_prefix("Subject: "));
        *counts.entry(subject.expect("a subject").to_owned()).or_default() += 1;
    }
    counts
}

/// As many clients of one address get in as may, which says that nobody dead sits there, and no more.
fn all_seats_are_free(daemon: &Daemon) -> bool {
    let mut clients: Vec<Client> = (0..=MAX_FROM_IP).map(|_| daemon.connect()).collect();
    let mut codes: Vec<u16> = clients.iter_mut().map(|client| client.reply().0).collect();
    codes.sort_unstable();
    codes == [vec![220; MAX_FROM_IP], vec![451]].concat()
}

#[test]
fn nothing_leaks_and_nothing_accepted_is_lost() {
    let seconds = std::env::var("QPSMTPD_SOAK").ok().and_then(|text| text.parse().ok());
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(30));
    let site = Site::new();
    site.config("message_rate", "300/5\n").config("loglevel", "4\n");
    let options = [
        "--children",
        "8",
        "--sessions",
        "4",
        "--idle-children",
        "16",
        "--lifetime",
        "60",
    ];
    let listen = ["--listen-address", "127.0.0.1:0", "--max-from-ip", "16"];
    let mut daemon = Daemon::serve(site, &[&options[..], &listen[..]].concat());
    let address = daemon.addresses[0];
    let (accepted, refused, over) = (Mutex::new(HashSet::new()), AtomicU32::new(0), AtomicBool::new(false));
    let killed = std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (accepted, refused, over) = (&accepted, &refused, &over);
            scope.spawn(move || {
                for message in 0.. {
                    let subject = format!("{number}-{message}");
                    match deliver(address, &subject) {
                        true => drop(accepted.lock().expect("lock").insert(subject)),
                        false => drop(refused.fetch_add(1, SeqCst)),
                    }
                    if over.load(SeqCst) {
                        break;
                    }
                }
            });
        }
        let killed = disturb(&daemon, until);
        over.store(true, SeqCst);
        killed
    });
    let accepted = accepted.into_inner().expect("lock");
    println!("{} accepted, {refused:?} not, {killed} workers killed", accepted.len());
    assert!(accepted.len() > 50 && killed > 10, "{} {killed}", accepted.len());

    crate::process::eventually("all seats are free", || all_seats_are_free(&daemon));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait().code(), Some(0));
    let delivered = delivered(&daemon.site);
    let wrong: Vec<_> = accepted
        .iter()
        .filter(|subject| delivered.get(*subject) != Some(&1))
        .collect();
    assert!(wrong.is_empty(), "accepted and not there once: {wrong:?}");
    assert!(
        delivered.values().all(|count| *count == 1),
        "more than once: {delivered:?}"
    );
}
