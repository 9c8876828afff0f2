//! Serving: how workers come, take turns and are replaced; the limit per address; reloads.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::daemon::{Client, Daemon};
use crate::process::eventually;

pub fn announces_in_order_and_serves_on_all() {
    let daemon = Daemon::start("listen=127.0.0.2 listen=127.0.0.1 idle=1");
    let ips: Vec<String> = daemon.addresses.iter().map(|a| a.ip().to_string()).collect();
    assert_eq!(ips, ["127.0.0.2", "127.0.0.1"]);
    for address in &daemon.addresses {
        let mut client = Client::connect(*address);
        client.greeting();
        assert_eq!(client.say("hm"), "hm");
    }
}

pub fn ipv4_clients_of_a_socket_for_both_families_are_ipv4() {
    let daemon = Daemon::start("listen=all idle=3 max=1");
    let port = daemon.addresses[0].port();
    let mut four = Client::connect(([127, 0, 0, 1], port).into());
    four.greeting();
    assert_eq!(
        Client::connect(([127, 0, 0, 1], port).into()).read(),
        "too many, 1 allowed"
    );
    if daemon.addresses[0].is_ipv6() {
        let mut six = Client::connect((std::net::Ipv6Addr::LOCALHOST, port).into());
        six.greeting();
        let refused = Client::connect((std::net::Ipv6Addr::LOCALHOST, port).into()).read();
        assert_eq!(refused, "too many, 1 allowed");
    }
}

pub fn more_idle_ones_are_made_up_to_all() {
    let daemon = Daemon::start("children=4 idle=1 max=0");
    let mut clients: Vec<Client> = (0..4).map(|_| daemon.connect()).collect();
    let pids: HashSet<i32> = clients.iter_mut().map(|c| c.greeting().0).collect();
    assert_eq!(pids.len(), 4);
    // The fifth waits in the queue of the kernel until a worker has time.
    let mut fifth = daemon.connect();
    clients[2].say("quit");
    let (pid, _, same) = fifth.greeting();
    assert!(pids.contains(&pid), "{pid} is new");
    assert_eq!(same, 4);
}

pub fn a_killed_worker_is_replaced() {
    let daemon = Daemon::start("children=1 idle=1");
    let mut client = daemon.connect();
    let (pid, ..) = client.greeting();
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
    assert_eq!(client.read(), "");
    let (next, _, same) = daemon.connect().greeting();
    assert_ne!(next, pid);
    assert_eq!(same, 1, "the seat of the dead one was cleared");
    daemon.wait_for(&format!("worker {pid} was killed by SIGKILL"));
}

pub fn a_crash_ends_one_session_and_is_recorded() {
    let daemon = Daemon::start("children=2 idle=2");
    let (mut bystander, mut victim) = (daemon.connect(), daemon.connect());
    bystander.greeting();
    let (pid, ..) = victim.greeting();
    assert_eq!(victim.say("abort"), "crashed");
    daemon.wait_for(&format!("worker {pid} was killed by SIGABRT"));
    let mut another = daemon.connect();
    let (pid, ..) = another.greeting();
    assert_eq!(another.say("panic"), "crashed");
    daemon.wait_for(&format!("ended in a panic; worker {pid} leaves"));
    assert_eq!(bystander.say("still there"), "still there");
}

pub fn a_worker_leaves_after_its_lifetime() {
    let daemon = Daemon::start("children=1 idle=1 lifetime=3");
    let pids: Vec<i32> = (0..7).map(|_| daemon.connect().greeting().0).collect();
    assert_eq!((pids[0], pids[3]), (pids[2], pids[5]));
    assert_ne!(pids[2], pids[3]);
    assert_ne!(pids[5], pids[6]);
}

pub fn the_limit_per_address_is_exact_in_a_stampede() {
    let daemon = Daemon::start("children=40 idle=0 max=7");
    assert_eq!(daemon.stampede(200), (7, 193));
    eventually("there is room again", || daemon.connect().read().starts_with("hello"));
}

pub fn networks_and_listeners_have_limits() {
    let daemon = Daemon::start("listen=127.0.0.1 listen=127.0.0.2 children=8 idle=0 max=1 net=2 here=3");
    let come = |ip: [u8; 4], listener: usize| {
        let mut client = Client::connect_from(ip.into(), daemon.addresses[listener]);
        let line = client.read();
        (client, line)
    };
    let expect = |ip, listener, start: &str| {
        let (client, line) = come(ip, listener);
        assert!(line.starts_with(start), "{line}");
        client
    };
    let mut inside = vec![expect([127, 0, 0, 1], 0, "hello"), expect([127, 0, 0, 2], 1, "hello")];
    expect([127, 0, 0, 2], 0, "too many, 1 allowed");
    expect([127, 0, 0, 3], 0, "too many of your network, 2 allowed");
    daemon.wait_for("refused 127.0.0.3: limit max-from-net 2");
    inside.push(expect([127, 0, 1, 1], 0, "hello"));
    inside.push(expect([127, 0, 2, 1], 0, "hello"));
    expect([127, 0, 3, 1], 0, "too many here, 3 allowed");
    daemon.wait_for("refused 127.0.3.1: limit max-per-listener 3");
    inside.push(expect([127, 0, 3, 1], 1, "hello"));
}

pub fn workers_that_die_young_are_not_replaced_at_once() {
    let daemon = Daemon::start("children=5 idle=5");
    std::fs::write(daemon.directory.path().join("crash"), "").expect("write");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("no new workers for 1 s");
    daemon.wait_for("no new workers for 2 s");
    let deaths = daemon.lines().iter().filter(|line| line.contains("gives up")).count();
    assert!(deaths <= 12, "{deaths} deaths");
    std::fs::remove_file(daemon.directory.path().join("crash")).expect("remove");
    daemon.signal(Signal::SIGHUP);
    assert_eq!(daemon.connect().greeting().1, 3);
}

pub fn a_reload_replaces_the_idle_at_once_and_the_busy_afterwards() {
    let daemon = Daemon::start("children=3 idle=1");
    let mut old = daemon.connect();
    let (old_pid, generation, _) = old.greeting();
    assert_eq!(generation, 1);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    // An old worker may still take a connection that comes at the same moment; each can do that once.
    assert!((0..2).any(|_| daemon.connect().greeting().1 == 2));
    assert_eq!(old.say("still here"), "still here");
    assert_eq!(old.say("quit"), "");
    daemon.wait_for(&format!("cleaning up after {old_pid}"));
}

pub fn a_bad_reload_changes_nothing_and_says_why() {
    let daemon = Daemon::start("children=1 idle=1");
    let (pid, ..) = daemon.connect().greeting();
    let faults = daemon.directory.path().join("faults");
    std::fs::write(&faults, "plugins:1: what?\nplugins:2: why?\n").expect("write");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reload failed, generation 1 serves on");
    daemon.wait_for("Error: plugins:1: what?");
    daemon.wait_for("Error: plugins:2: why?");
    assert_eq!(daemon.connect().greeting(), (pid, 1, 1));
}

pub fn loading_that_crashes_hurts_a_child_alone() {
    let daemon = Daemon::start("children=1 idle=1");
    let (pid, ..) = daemon.connect().greeting();
    let crash = daemon.directory.path().join("crash-on-trial");
    std::fs::write(&crash, "").expect("write");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reload failed, generation 1 serves on");
    daemon.wait_for("Error: loading crashed");
    assert_eq!(daemon.connect().greeting(), (pid, 1, 1));
    std::fs::remove_file(&crash).expect("removed");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("reloaded, generation 2");
    // An old worker may still take a connection that comes at the same moment.
    assert!((0..2).any(|_| daemon.connect().greeting().1 == 2));
}

pub fn no_connection_is_lost_by_reloads() {
    let daemon = Daemon::start("children=8 idle=3 max=0 lifetime=50");
    let address = daemon.addresses[0];
    let left = AtomicU32::new(2000);
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                while left.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok() {
                    let mut client = Client::connect(address);
                    client.greeting();
                    assert_eq!(client.say("word"), "word");
                    assert_eq!(client.say("quit"), "");
                }
            });
        }
        // One reload after the other, as fast as the master can.
        let mut generation = 1;
        while left.load(SeqCst) > 0 {
            daemon.signal(Signal::SIGHUP);
            generation += 1;
            daemon.wait_for(&format!("reloaded, generation {generation}"));
        }
        assert!(generation > 10, "only {generation} generations");
    });
}

pub fn a_worker_that_was_taken_over_is_confined() {
    let cell = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    // as root the daemon would serve as nobody, for whom the folders are closed anyway
    for folder in [cell.path(), outside.path()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o777)).expect("mode");
    }
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "x").expect("written");
    let deeds = [
        format!("read {}", secret.display()),
        format!("write {}", outside.path().join("new").display()),
        "exec /bin/true".to_owned(),
        "listen 127.0.0.1:0".to_owned(),
        "read /etc/passwd".to_owned(),
        format!("ask {}", cell.path().join("control").display()),
    ];
    let control = format!("idle=1 control={}/control", cell.path().display());
    let daemon = Daemon::start(&control);
    let mut client = daemon.connect();
    client.greeting();
    for deed in &deeds {
        assert_eq!(client.say(deed), "done", "{deed}, without confinement");
    }
    std::fs::remove_file(outside.path().join("new")).expect("removed");

    drop(daemon);
    let daemon = Daemon::start(&format!("{control} cell={}", cell.path().display()));
    let mut client = daemon.connect();
    client.greeting();
    for deed in &deeds {
        assert_eq!(client.say(deed), "PermissionDenied", "{deed}");
    }
    assert!(!outside.path().join("new").exists());
    let own = cell.path().join("own");
    assert_eq!(client.say(&format!("write {}", own.display())), "done");
    assert_eq!(client.say(&format!("read {}", own.display())), "done");
}
