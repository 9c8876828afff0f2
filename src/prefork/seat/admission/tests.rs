//! Tests of the rule by which clients are let in.

use super::*;

fn seats(n: usize) -> Vec<Seat> {
    (0..n).map(|_| Seat::default()).collect()
}

fn come_by(seats: &[Seat], at: usize, tickets: &AtomicU64, from: (&str, usize), limits: Limits) -> Census {
    wait_by(seats, at, tickets, from, limits, PATIENCE)
}

fn wait_by(
    seats: &[Seat],
    at: usize,
    tickets: &AtomicU64,
    from: (&str, usize),
    limits: Limits,
    patience: Duration,
) -> Census {
    let client = Client {
        peer: SocketAddr::new(from.0.parse().unwrap(), 1000 + at as u16),
        listener: from.1 as u64,
        now: 7,
        patience,
    };
    let group = Grouping::new(64, (24, 48));
    admit(&seats[at], seats.iter(), tickets, group, client, limits)
}

fn come(seats: &[Seat], at: usize, tickets: &AtomicU64, ip: &str, limit: u32) -> Census {
    let limits = Limits {
        address: Some(limit),
        ..Limits::default()
    };
    come_by(seats, at, tickets, (ip, 0), limits)
}

#[test]
fn counts_ipv4_whole_and_ipv6_by_prefix() {
    let (seats, tickets) = (seats(8), AtomicU64::new(0));
    assert!(come(&seats, 0, &tickets, "192.0.2.1", 1).admitted());
    assert!(come(&seats, 1, &tickets, "192.0.2.2", 1).admitted());
    let refused = come(&seats, 2, &tickets, "192.0.2.1", 1);
    assert_eq!((refused.admitted(), refused.same, refused.all), (false, 1, 2));
    assert!(come(&seats, 2, &tickets, "2001:db8:0:1::1", 1).admitted());
    assert!(!come(&seats, 3, &tickets, "2001:db8:0:1:ffff::2", 1).admitted());
    assert!(come(&seats, 3, &tickets, "2001:db8:0:2::2", 1).admitted());
    assert!(come(&seats, 4, &tickets, "::1", 1).admitted());
    seats[0].clear();
    assert!(come(&seats, 5, &tickets, "192.0.2.1", 1).admitted());
}

#[test]
fn counts_networks_and_listeners() {
    let (seats, tickets) = (seats(8), AtomicU64::new(0));
    let limits = Limits {
        address: None,
        network: Some(2),
        listener: Some(3),
    };
    let come = |at, ip, listener| come_by(&seats, at, &tickets, (ip, listener), limits).exceeded;
    assert_eq!(come(0, "192.0.2.1", 0), None);
    assert_eq!(come(1, "192.0.2.1", 0), None, "no limit per address");
    assert_eq!(come(2, "192.0.2.200", 1), Some(Bound::Network));
    assert_eq!(come(2, "192.0.3.1", 0), None);
    assert_eq!(come(3, "2001:db8:1::1", 0), Some(Bound::Listener));
    assert_eq!(come(3, "2001:db8:1::1", 1), None);
    assert_eq!(come(4, "2001:db8:1:2::1", 1), None);
    assert_eq!(come(5, "2001:db8:1:3::1", 1), Some(Bound::Network));
    assert_eq!(come(5, "2001:db8:2::1", 1), None);
}

#[test]
fn tells_who_sits_there() {
    let (seats, tickets) = (seats(1), AtomicU64::new(41));
    assert_eq!(seats[0].occupant(), None);
    come(&seats, 0, &tickets, "192.0.2.9", 1);
    let peer = "192.0.2.9:1000".parse().unwrap();
    assert_eq!(
        seats[0].occupant(),
        Some(super::super::Occupant {
            number: 42,
            peer,
            since: 7
        })
    );
    seats[0].clear();
    assert_eq!(seats[0].occupant(), None);
}

#[test]
fn prefixes_of_all_lengths() {
    for (prefix, same) in [(0, true), (1, true), (32, true), (33, false), (128, false)] {
        let group = Grouping::new(prefix, (0, 0)).client;
        let one = number("2001:db8:8000::1".parse().unwrap());
        let two = number("2001:db8::1".parse().unwrap());
        assert_eq!(group.key(one) == group.key(two), same, "/{prefix}");
    }
}

/// A seat whose process died in the middle delays others, and does not stop them.
#[test]
fn waits_for_a_dead_one_no_longer_than_patience() {
    let (seats, tickets) = (seats(2), AtomicU64::new(0));
    come(&seats, 0, &tickets, "192.0.2.1", 1);
    seats[0].word.store(ARRIVING, SeqCst);
    assert!(come(&seats, 1, &tickets, "192.0.2.2", 1).admitted());
    let limits = Limits {
        address: Some(1),
        ..Limits::default()
    };
    let patience = Duration::from_millis(50);
    assert!(!wait_by(&seats, 1, &tickets, ("192.0.2.1", 0), limits, patience).admitted());
}

/// Threads come and go at three addresses, `limit` of each let in at a time. Returns the refusals.
fn storm(limit: u32, address_of: fn(usize, usize) -> usize) -> i64 {
    use std::sync::atomic::AtomicI64;
    let (seats, tickets, refused) = (seats(24), AtomicU64::new(0), AtomicI64::new(0));
    let inside: Vec<AtomicI64> = (0..3).map(|_| AtomicI64::new(0)).collect();
    let visit = |at: usize, address: usize| {
        if !come(&seats, at, &tickets, &format!("192.0.2.{address}"), limit).admitted() {
            refused.fetch_add(1, SeqCst);
            return;
        }
        let now = inside[address].fetch_add(1, SeqCst) + 1;
        assert!(now <= i64::from(limit), "{now} are in");
        std::thread::yield_now();
        inside[address].fetch_sub(1, SeqCst);
        seats[at].clear();
    };
    std::thread::scope(|scope| {
        for at in 0..24 {
            let visit = &visit;
            scope.spawn(move || (0..300).for_each(|round| visit(at, address_of(at, round))));
        }
    });
    assert!(seats.iter().all(|seat| seat.occupant().is_none()));
    refused.into_inner()
}

#[test]
fn never_one_too_many() {
    storm(2, |at, round| (at + round) % 3);
}

/// Threads of many addresses, by three listeners: as many of each as allowed.
#[test]
fn never_one_too_many_by_a_listener() {
    use std::sync::atomic::AtomicI64;
    let (seats, tickets) = (seats(24), AtomicU64::new(0));
    let inside: Vec<AtomicI64> = (0..3).map(|_| AtomicI64::new(0)).collect();
    let limits = Limits {
        listener: Some(2),
        ..Limits::default()
    };
    let visit = |at: usize, listener: usize| {
        let from = format!("192.0.2.{at}");
        if come_by(&seats, at, &tickets, (&from, listener), limits).admitted() {
            assert!(inside[listener].fetch_add(1, SeqCst) < 2);
            std::thread::yield_now();
            inside[listener].fetch_sub(1, SeqCst);
            seats[at].clear();
        }
    };
    std::thread::scope(|scope| {
        for at in 0..24 {
            let visit = &visit;
            scope.spawn(move || (0..300).for_each(|round| visit(at, (at + round) % 3)));
        }
    });
}

/// Eight threads to an address, eight allowed: whoever is refused was wronged.
#[test]
fn never_one_too_few() {
    assert_eq!(storm(8, |at, _| at % 3), 0);
}

/// Of those that are not decided yet, later ones do not count and earlier ones are waited for.
#[test]
fn who_is_undecided_counts_by_turn() {
    let (seats, tickets) = (seats(2), AtomicU64::new(4));
    come(&seats, 1, &tickets, "192.0.2.1", 1);
    let phase = |at: usize| seats[at].word.load(SeqCst) & 0xff;
    seats[1].word.store(9 << 8 | WAITING, SeqCst);
    assert!(come(&seats, 0, &tickets, "192.0.2.1", 1).admitted(), "it came first");
    for (outcome, admitted) in [(FREE, true), (ADMITTED, false)] {
        seats[0].clear();
        seats[1].word.store(5 << 8 | WAITING, SeqCst);
        let decide = || {
            while phase(0) != WAITING {
                std::thread::yield_now();
            }
            seats[1].word.store(5 << 8 | outcome, SeqCst);
        };
        std::thread::scope(|scope| {
            scope.spawn(decide);
            assert_eq!(come(&seats, 0, &tickets, "192.0.2.1", 1).admitted(), admitted);
        });
    }
}

/// The client at a seat turns out to be another.
fn turn(seats: &[Seat], at: usize, tickets: &AtomicU64, ip: &str, limits: Limits) -> Census {
    let peer = SocketAddr::new(ip.parse().unwrap(), 4711);
    readmit(
        &seats[at],
        seats.iter(),
        tickets,
        Grouping::new(64, (24, 48)),
        peer,
        limits,
    )
}

#[test]
fn who_turns_out_to_be_another_counts_as_that_one() {
    let (seats, tickets) = (seats(4), AtomicU64::new(0));
    let limits = Limits {
        address: Some(1),
        ..Limits::default()
    };
    for at in 0..3 {
        assert!(come_by(&seats, at, &tickets, ("192.0.2.1", 0), Limits::default()).admitted());
    }
    let first = turn(&seats, 0, &tickets, "198.51.100.7", limits);
    assert_eq!((first.exceeded, first.same, first.all), (None, 0, 2));
    let occupant = seats[0].occupant().unwrap();
    assert_eq!((occupant.number, occupant.since), (1, 7), "the session is the same");
    assert_eq!(occupant.peer.to_string(), "198.51.100.7:4711");
    assert_eq!(
        turn(&seats, 1, &tickets, "198.51.100.7", limits).exceeded,
        Some(Bound::Address)
    );
    assert_eq!(seats[1].occupant(), None);
    assert!(turn(&seats, 2, &tickets, "198.51.100.8", limits).admitted());
    // one that comes by itself
    assert!(!come(&seats, 3, &tickets, "198.51.100.7", 1).admitted());
    // and back again
    assert!(turn(&seats, 0, &tickets, "192.0.2.1", limits).admitted());
    assert!(come(&seats, 3, &tickets, "198.51.100.7", 1).admitted());
}

/// Half of the clients come by a proxy, the others by themselves; never too many of an address, nor by the listener.
#[test]
fn never_one_too_many_of_those_that_move() {
    use std::sync::atomic::AtomicI64;
    let (seats, tickets) = (seats(24), AtomicU64::new(0));
    let inside: Vec<AtomicI64> = (0..4).map(|_| AtomicI64::new(0)).collect();
    let listening = AtomicI64::new(0);
    let by_listener = Limits {
        listener: Some(6),
        ..Limits::default()
    };
    let all = Limits {
        address: Some(2),
        ..by_listener
    };
    let visit = |at: usize, address: usize| {
        let ip = format!("192.0.2.{address}");
        let (from, limits) = match at % 2 {
            0 => ("203.0.113.1", by_listener),
            _ => (&*ip, all),
        };
        if !come_by(&seats, at, &tickets, (from, 0), limits).admitted() {
            return;
        }
        if at % 2 == 1 || turn(&seats, at, &tickets, &ip, all).admitted() {
            assert!(inside[address].fetch_add(1, SeqCst) < 2);
            assert!(listening.fetch_add(1, SeqCst) < 6);
            std::thread::yield_now();
            listening.fetch_sub(1, SeqCst);
            inside[address].fetch_sub(1, SeqCst);
        }
        seats[at].clear();
    };
    std::thread::scope(|scope| {
        for at in 0..24 {
            let visit = &visit;
            scope.spawn(move || (0..300).for_each(|round| visit(at, (at / 2 + round) % 4)));
        }
    });
    assert!(seats.iter().all(|seat| seat.occupant().is_none()));
}
