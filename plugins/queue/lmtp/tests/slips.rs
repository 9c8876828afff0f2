//! Answers that are not one for each recipient, in their order.

use super::super::super::client::fake::left;
use super::super::super::client::memory::Packets;
use super::*;

/// Answers that are not one for each recipient, and what is known of each: nothing, behind an answer that makes no
/// sense; nothing at all if there are too many.
#[test]
fn answers_that_slip() {
    let long: &'static str = format!("{}250 2.0.0 <a> saved\r\n", "250-2.0.0 x\r\n".repeat(200)).leak();
    for (first, second) in [
        ("250 <a> saved\r\n250 <a> saved\r\n", "552 5.2.2 <b> full\r\n"),
        ("250 <a> saved\r\n", "552 5.2.2 <b> full\r\n250 <c> saved\r\n"),
        ("552 5.2.2 <a> full\r\n", "250 <b> saved\r\n250"),
        ("552 5.2.2 <a> full\r\n", "552 5.2.2 <b> full\r\n552 5.2.2 <c> full\r\n"),
        ("250 <a> saved\r\n", "250 <b> saved\r\n\r\n"),
        ("junk\r\n250 <a> saved\r\n", "552 5.2.2 <b> full\r\n"),
        ("354 what\r\n", "250 <b> saved\r\n"),
        (
            "250-<a>\r\n552 5.2.2 what\r\n250 <a> saved\r\n",
            "552 5.2.2 <b> full\r\n",
        ),
        (long, "552 5.2.2 <b> full\r\n"),
    ] {
        let script: &[(&str, Act)] = &[("dot", Say(first)), ("dot2", Say(second))];
        let (port, server) = server(&[script]);
        let mut t = kit(port, "keep 3600");
        let outcome = t.ask(Event::Queue);
        outcome
            .is(Verdict::DenySoft)
            .status("4.4.2")
            .says("has not confirmed the message");
        let log = t.logged();
        let said = |line: &String| line.contains("has not confirmed the message: ");
        assert!(log.iter().any(said), "{first:?}: {log:?}");
        // and the connection is not kept, while its plugin lives
        let seen = left(server).remove(0);
        assert!(["DATA", "QUIT"].contains(&&**seen.commands.last().unwrap()), "{seen:?}");
        // nor is one told what another was to be told
        let (port, server) = self::server(&[script]);
        let mut t = kit(port, "");
        t.s.lmtp = true;
        t.ask(Event::Queue);
        let outcomes = &t.s.transaction.as_ref().unwrap().outcomes;
        let each: Vec<Verdict> = outcomes.values().map(|one| one.verdict).collect();
        assert_eq!(each, [Verdict::DenySoft; 2], "{first:?}");
        server.join().unwrap();
    }
}

#[test]
fn answers_before_one_that_makes_no_sense_count() {
    for (step, said, have_it) in [
        ("dot2", "junk\r\n552 5.2.2 <b> full\r\n", "a"),
        ("dot3", "354 what\r\n", "ab"),
        ("dot3", "junk\r\n", "ab"),
    ] {
        let (port, smtp) = server(&[&[]]);
        let script: &[(&str, Act)] = &[(step, Say(said))];
        let (to, server) = server(&[script]);
        let mut t = kit(to, &format!("keep 3600 bounces 127.0.0.1:{port}"));
        t.accept("c@x.example");
        t.ask(Event::Queue).ok();
        let report = smtp.join().unwrap().remove(0).message.unwrap();
        for who in ["a", "b", "c"] {
            let part = format!("Final-Recipient: rfc822; {who}@x.example\r\nAction: failed\r\nStatus: 4.4.2\r\n");
            assert_eq!(!report.contains(&part), have_it.contains(who), "{report}");
        }
        // what may yet come could be anything
        assert_eq!(left(server)[0].commands.last().unwrap(), "DATA");
    }
}

/// What is there when all answers are due counts, in whatever packets it came; that the server leaves does not matter.
#[test]
fn what_is_behind_the_last_answer() {
    for (behind, verdict) in [
        ("!552 5.2.2 full\r\n", Verdict::DenySoft),
        ("!2", Verdict::DenySoft),
        ("552 5.2.2 full\r\n", Verdict::Ok),
        ("!", Verdict::Ok),
    ] {
        let memory = Memory::new(&[&[&GO[..], &["250 a\r\n", "250 b\r\n", behind]].concat()]);
        let t = &mut kit(1, "");
        t.dial().leave_to(memory);
        assert_eq!(t.ask(Event::Queue).verdict, verdict, "{behind:?}");
    }
}

/// Two messages to a server that answers the first one once too often, when all answers are read: what was told to it
/// in each connection.
fn late(packets: Packets<'_>) -> Vec<String> {
    let good = [&GO[..], &["250 a\r\n", "552 5.2.2 full\r\n"]].concat();
    let first = [&GO[..], &["250 a\r\n", "250 a\r\n"]].concat();
    let memory = Memory::new(&[&first, &good]);
    let mut t = kit(1, "keep 3600");
    t.dial().leave_to(memory.clone());
    t.ask(Event::Queue).ok();
    packets.iter().for_each(|packet| memory.says(packet));
    // the report finds nobody
    t.ask(Event::Queue).denied("delivered, but not to <b@x.example>");
    memory.told()
}

/// An answer too many that comes late is not taken for one of the next message.
#[test]
fn answers_that_come_late() {
    // before the next message: no word more to that server
    let told = late(&["!250 b\r\n"]);
    assert!(told[0].ends_with("\r\n.\r\n") && told.len() == 2, "{told:?}");
    // with that message's first command
    let told = late(&["250 b\r\n250 reset\r\n"]);
    assert!(told[0].ends_with("\r\n.\r\nRSET\r\n") && told.len() == 2, "{told:?}");
    // at the worst all answers slip, and the message is not sent without a go-ahead
    let told = late(&[
        "250 b\r\n",
        "250 reset\r\n",
        "250 mail\r\n",
        "250 a\r\n",
        "250 b\r\n",
        "354 go\r\n",
    ]);
    assert!(told[0].ends_with("DATA\r\n") && told.len() == 2, "{told:?}");
}
