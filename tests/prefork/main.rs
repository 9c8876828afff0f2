//! The machinery of processes with something simpler than mail on top: a toy that speaks lines.
//!
//! The tests start this very program again as the daemon. A daemon may fork only while it has one
//! thread, which the usual harness of tests does not grant; so this program has its own, in [`main`].

mod company;
mod daemon;
mod ending;
mod last_words;
mod living;
#[path = "../daemon/process.rs"]
mod process;
mod toy;
mod waking;

use std::panic::catch_unwind;

/// Names the tests once; one that is forgotten here is an unused function to the compiler.
macro_rules! tests {
    ($($module:ident: $($name:ident)*;)*) => {
        &[$($((concat!(stringify!($module), "::", stringify!($name)), $module::$name),)*)*]
    };
}

const TESTS: &[(&str, fn())] = tests! {
    living: announces_in_order_and_serves_on_all
        ipv4_clients_of_a_socket_for_both_families_are_ipv4
        more_idle_ones_are_made_up_to_all
        a_killed_worker_is_replaced
        a_worker_that_was_taken_over_is_confined
        a_crash_ends_one_session_and_is_recorded
        a_worker_leaves_after_its_lifetime
        the_limit_per_address_is_exact_in_a_stampede
        networks_and_listeners_have_limits
        workers_that_die_young_are_not_replaced_at_once
        a_reload_replaces_the_idle_at_once_and_the_busy_afterwards
        a_bad_reload_changes_nothing_and_says_why
        loading_that_crashes_hurts_a_child_alone
        no_connection_is_lost_by_reloads;
    ending: term_lets_transactions_finish_and_says_goodbye_to_the_rest
        transactions_end_with_the_grace_time
        who_hears_nothing_is_killed
        a_second_interrupt_hastens
        connections_in_the_queue_are_told
        workers_do_not_outlive_their_master
        who_finishes_without_a_master_is_in_nobodys_way
        term_to_a_worker_ends_that_worker
        other_signals_to_a_worker_do_nothing
        faults_at_the_start_are_printed
        the_pid_file_keeps_a_second_one_out
        detaches_when_ready
        root_becomes_another_and_owns_its_directories;
    company: a_worker_fills_its_seats_and_others_wait
        workers_are_made_when_seats_become_few
        a_panic_ends_one_session_and_the_worker_leaves_after_the_others
        orders_reach_every_session
        sessions_do_not_outlive_the_master
        a_reload_lets_sessions_go_on
        slow_clients_of_an_old_generation_leave_the_new_one_all_its_workers
        the_slowest_go_when_too_many_workers_leave
        a_worker_leaves_after_its_lifetime_and_its_last_session
        a_worker_that_leaves_slowly_is_replaced
        the_limit_is_exact_over_threads_and_processes;
    last_words: a_crash_is_told_to_all_who_can_hear_of_it
        any_fault_is_told_and_the_worker_dies_of_it
        a_full_stack_is_told
        a_panic_is_told_to_the_one_it_befell
        nothing_is_said_where_words_are_unwanted;
    waking: one_connection_wakes_one_worker;
};

/// Runs the tests whose names contain one of the arguments, or, told so by a test, the daemon.
fn main() {
    if let Ok(options) = std::env::var(toy::OPTIONS) {
        std::process::exit(toy::run(&options).into());
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|f| name.contains(f.as_str()));
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let sound = catch_unwind(test).is_ok();
        println!("test {name} ... {}", if sound { "ok" } else { "FAILED" });
        failed += i32::from(!sound);
    }
    std::process::exit(if failed == 0 { 0 } else { 101 });
}
