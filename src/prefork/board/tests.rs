//! Tests of the scoreboard.

use super::super::canary::Outcome;
use super::super::sys;
use super::*;

fn only(address: u32) -> Limits {
    Limits {
        address: Some(address),
        ..Limits::default()
    }
}

#[test]
fn rows_hold_what_was_written() {
    let board = Board::new(2, 1, 64).unwrap();
    board.engage(1, 5);
    assert_eq!(board.rows()[1].state(), State::Starting);
    assert_eq!(board.rows()[1].generation(), 5);
    assert_eq!(board.rows()[0].state(), State::None);
    board.rows()[1].count_session();
    assert_eq!(board.rows()[1].served(), 1);
    let present = |living, idle, leaving| Present { living, idle, leaving };
    assert_eq!(board.present(5), present(1, 1, 0));
    assert_eq!(board.present(4), present(0, 0, 0));
    board.rows()[1].set_state(State::Busy);
    assert_eq!(board.present(5), present(1, 0, 0));
    board.rows()[1].set_state(State::Idle);
    assert!(board.give(1, Order::Retire, Instant::now()));
    assert!(!board.give(1, Order::Retire, Instant::now()), "no news");
    assert_eq!(board.present(5), present(0, 0, 1), "in the way of others");
    board.clear(1);
    assert_eq!(board.present(5), Present::default());
    assert_eq!(board.rows()[1].state(), State::None);
    assert_eq!(board.rows()[1].served(), 0);
}

#[test]
fn those_that_leave_count_by_their_sessions() {
    let board = Board::new(4, 10, 64).unwrap();
    let leaving = |sessions: [u64; 3]| {
        for (row, on) in sessions.into_iter().enumerate() {
            board.engage(row, 1);
            board.rows()[row].set_sessions(on);
            board.give(row, Order::Retire, Instant::now());
        }
        board.present(2).leaving
    };
    assert_eq!(leaving([0, 0, 0]), 0);
    assert_eq!(leaving([1, 1, 1]), 0, "one slow client each");
    assert_eq!(leaving([9, 9, 1]), 1);
    assert_eq!(leaving([10, 10, 10]), 3);
}

#[test]
fn rows_are_claimed_once_and_free_again_when_they_are_cleared() {
    let board = Board::new(2, 1, 64).unwrap();
    assert_eq!((board.claim(), board.claim(), board.claim()), (Some(0), Some(1), None));
    board.engage(0, 1);
    board.clear(0);
    assert_eq!(board.claim(), Some(0));
}

#[test]
fn what_came_of_sessions_is_added_up() {
    let board = Board::new(1, 1, 64).unwrap();
    let row = &board.rows()[0];
    let accepted = Outcome {
        accepted: true,
        ..Outcome::default()
    };
    row.conclude(accepted);
    row.conclude(Outcome {
        refused: true,
        failed: true,
        ..accepted
    });
    let score = row.score();
    assert_eq!((score.sessions, score.accepted, score.put_off), (2, 2, 0));
    assert_eq!((score.refused, score.failed), (1, 1));
    board.clear(0);
    assert_eq!(row.score().sessions, 0);
}

#[test]
fn a_lower_order_does_not_replace_a_higher() {
    let board = Board::new(1, 1, 64).unwrap();
    let soon = Instant::now() + Duration::from_secs(3);
    board.give(0, Order::Finish, soon);
    board.give(0, Order::Retire, soon + Duration::from_secs(60));
    assert_eq!(board.rows()[0].order(), Order::Finish);
    assert!(board.deadline(0) <= soon);
    board.give(0, Order::Now, soon);
    assert_eq!(board.rows()[0].order(), Order::Now);
}

#[test]
fn dropping_what_was_taken_frees_the_seat() {
    let board = Board::new(2, 1, 64).unwrap();
    let peer = "192.0.2.1:25".parse().unwrap();
    let first = board.take((0, 0), peer, 0, only(1));
    assert!(first.census.admitted());
    assert!(!board.take((1, 0), peer, 0, only(1)).census.admitted());
    drop(first);
    assert!(board.take((1, 0), peer, 0, only(1)).census.admitted());
}

/// 200 processes of one address storm a board at once: exactly the limit gets in.
#[test]
fn exact_across_processes() {
    use nix::sys::wait::{WaitStatus, waitpid};
    const PROCESSES: usize = 200;
    const LIMIT: u32 = 10;
    let board = Board::new(PROCESSES, 1, 64).unwrap();
    let other = Board::new(1, 1, 64).unwrap();
    let gate = &other.head;
    let peer = "192.0.2.1:25".parse().unwrap();
    let children: Vec<Pid> = (0..PROCESSES)
        .map(|row| {
            sys::fork_for_test(|| {
                gate[0].tickets.fetch_add(1, SeqCst);
                while gate[0].refused.load(SeqCst) == 0 {
                    std::thread::yield_now();
                }
                let taken = board.take((row, 0), peer, 0, only(LIMIT));
                let code = i32::from(taken.census.admitted());
                std::mem::forget(taken);
                code
            })
        })
        .collect();
    while gate[0].tickets.load(SeqCst) < PROCESSES as u64 {
        std::thread::yield_now();
    }
    gate[0].refused.store(1, SeqCst);
    let mut admitted = 0;
    for child in children {
        match waitpid(child, None).unwrap() {
            WaitStatus::Exited(_, code) => admitted += code,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(admitted, LIMIT as i32);
    let seated = (0..PROCESSES).filter(|row| board.seat(*row, 0).occupant().is_some());
    assert_eq!(seated.count(), LIMIT as usize);
}
