//! Messages that come by DATA, and by BDAT in parts of any size: the outcome is the same.

use std::sync::PoisonError;

use qpsmtpd::config::Lookup;
use qpsmtpd::mail::Extensions;

use super::cast::{Queue, keeper, scripted};
use super::moods::Pieces;
use super::stage::{self, Set};

/// What became of a message: the reply that decided, and what was queued, without the fields that the server adds.
#[derive(Debug, PartialEq)]
struct Outcome {
    reply: String,
    queued: Vec<Vec<u8>>,
}

fn outcome(message: &[u8], sent: &[u8], size: usize, bare: bool) -> Outcome {
    let lookup = Lookup::in_memory();
    lookup.set("me", &["mx.example.org"]);
    lookup.set("me-auth-results", &["none"]);
    lookup.set("max_header_size", &["60"]);
    lookup.set("max_data_line", &["1500"]);
    lookup.set("max_errors", &["0"]);
    if bare {
        lookup.set("bare_newlines", &["192.0.2.0/24"]);
    }
    let queue = Queue::default();
    let plugins = [
        "received_line OK x",
        "data_post FIELD if=from@ X-Asked: yes",
        "data_headers_end DENY_DISCONNECT if=never",
    ];
    let mut plugins: Vec<_> = plugins.iter().map(|line| scripted(line).expect("a plugin")).collect();
    plugins.push(keeper(queue.clone(), Extensions::default()));
    let start = "EHLO client.example\r\nMAIL FROM:<from@b.example>\r\nRCPT TO:<x@y.example>\r\n";
    let wire = Pieces::new([start.as_bytes(), sent].concat(), &[size]);
    stage::session(lookup, plugins, Box::new(wire.clone()), Set::quiet());
    let heard = String::from_utf8_lossy(&wire.heard()).into_owned();
    let replies = heard.lines().skip_while(|line| !line.contains("recipient ok")).skip(1);
    let mut replies = replies.filter(|line| !line.starts_with("354") && !line.ends_with("bytes received"));
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(queue.len() <= 1, "{message:?}");
    Outcome {
        reply: replies.next().unwrap_or_default().to_owned(),
        queued: queue.iter().map(|kept| kept.message.clone()).collect(),
    }
}

/// A message as DATA wants it.
fn by_data(message: &[u8]) -> Vec<u8> {
    let mut sent = b"DATA\r\n".to_vec();
    let mut start = true;
    for (at, byte) in message.iter().enumerate() {
        if start && *byte == b'.' {
            sent.push(b'.');
        }
        sent.push(*byte);
        start = message[..=at].ends_with(b"\r\n");
    }
    if !start {
        sent.extend_from_slice(b"\r\n");
    }
    sent.extend_from_slice(b".\r\nQUIT\r\n");
    sent
}

fn by_bdat(message: &[u8], cuts: &[usize], empty_last: bool) -> Vec<u8> {
    let mut sent = Vec::new();
    let mut rest = message;
    for cut in cuts {
        let (part, more) = rest.split_at((*cut).min(rest.len()));
        sent.extend_from_slice(format!("BDAT {}\r\n", part.len()).as_bytes());
        sent.extend_from_slice(part);
        rest = more;
    }
    if empty_last {
        sent.extend_from_slice(format!("BDAT {}\r\n", rest.len()).as_bytes());
        sent.extend_from_slice(rest);
        rest = b"";
    }
    sent.extend_from_slice(format!("BDAT {} LAST\r\n", rest.len()).as_bytes());
    sent.extend_from_slice(rest);
    sent.extend_from_slice(b"QUIT\r\n");
    sent
}

/// Sends a message by DATA, and by BDAT in parts of these sizes and packets of that one; what is not the same, if
/// anything. `bare` is whether bare newlines are taken.
pub fn same(message: &[u8], cuts: &[usize], empty_last: bool, size: usize, bare: bool) -> Result<(), String> {
    // a dot after a bare newline is DATA's own affair, and so is one at the end
    let alone = message.ends_with(b"\r") || (message.ends_with(b"\n") && !message.ends_with(b"\r\n"));
    let bare = bare && !alone && !message.windows(2).any(|two| matches!(two, b"\n." | b"\r."));
    let want = outcome(message, &by_data(message), usize::MAX, bare);
    let got = outcome(message, &by_bdat(message, cuts, empty_last), size, bare);
    let same = match !want.reply.starts_with('2') && got.reply.starts_with('5') {
        // of several faults the first is told, and which that is may depend on the parts
        true => got.queued.is_empty(),
        false => got == want,
    };
    // whatever it holds, a message is one message
    match same && got.queued.len() == usize::from(got.reply.starts_with("250 2.6.0")) {
        true => Ok(()),
        false => Err(format!("by DATA {want:?}, by BDAT {got:?}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let line = |text: &'static str| Just(text.as_bytes().to_vec());
        let piece = prop_oneof![
            8 => line("Subject: x\r\n"),
            4 => line("text\r\n"),
            6 => line("\r\n"),
            3 => line(".\r\n"),
            2 => line("..text\r\n"),
            2 => line(" folded\r\n"),
            1 => line("QUIT\r\n"),
            1 => vec(any::<u8>().prop_filter("no line end, no dot", |byte| !b"\r\n.".contains(byte)), 0..9),
            1 => Just(vec![b'x'; 1300]),
            1 => Just([&b"X:"[..], &[b'y'; 40]].concat()),
            1 => prop_oneof![line("\n"), line("\r"), line("a\nb"), line("\r\r\n")],
        ];
        vec(piece, 0..9).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn by_bdat_comes_what_comes_by_data(
            message in message(),
            cuts in vec(prop_oneof![4 => 0usize..20, 1 => 1000usize..1400], 0..8),
            empty_last: bool,
            size in prop_oneof![1usize..30, Just(usize::MAX)],
            bare: bool,
        ) {
            if let Err(why) = same(&message, &cuts, empty_last, size, bare) {
                return Err(TestCaseError::fail(why));
            }
        }
    }
}
