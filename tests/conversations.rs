//! Whole sessions in memory: the conversations of `tests/conversations/*.talk`, and sessions made at random.
//!
//! `tests/talk/script.rs` explains the files. `TALK=words cargo test --test conversations` runs those files alone
//! whose names contain the words.

mod talk;

use std::path::{Path, PathBuf};

use talk::player::Mode;
use talk::script::Script;
use talk::stage;

/// All conversation files, in the order of their names.
fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversations");
    let entries = std::fs::read_dir(folder).expect("the folder of the conversations");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "talk"));
    files.sort();
    files
}

#[test]
fn every_conversation_goes_as_written() {
    let wanted = std::env::var("TALK").unwrap_or_default();
    let mut failures = Vec::new();
    let mut played = 0;
    for path in files() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.contains(&wanted) {
            continue;
        }
        played += 1;
        let text = std::fs::read_to_string(&path).expect("a readable conversation");
        let script = match Script::parse(&format!("tests/conversations/{name}"), &text) {
            Ok(script) => script,
            Err(why) => {
                failures.push(why);
                continue;
            }
        };
        for mode in Mode::ALL {
            if let Err(why) = stage::play(&script, mode) {
                failures.push(format!("{why}\n(played {})", mode.words()));
                break;
            }
        }
    }
    assert!(played > 0, "no conversation is named like '{wanted}'");
    assert!(
        failures.is_empty(),
        "{} of {played} conversations failed:\n\n{}",
        failures.len(),
        failures.join("\n\n")
    );
}

#[test]
fn there_are_enough_of_them_and_each_says_what_it_shows() {
    let files = files();
    assert!(files.len() >= 80, "{} conversations", files.len());
    for path in files {
        let text = std::fs::read_to_string(&path).expect("a readable conversation");
        assert!(text.starts_with("# "), "{} does not say what it shows", path.display());
    }
}

/// A conversation that goes otherwise must be noticed, or all of the above means nothing.
#[test]
fn what_goes_otherwise_is_noticed() {
    for (wrong, why) in [
        ("S: 220\nC: NOOP\nS: 251\n", "expected `251`"),
        ("S: 220\nC: NOOP\nS: 250 2.0.0 OK\n", "expected `250 2.0.0 OK`"),
        ("S: 220\nC: NOOP\nS: 250\nS: 250\n", "nothing more was said"),
        ("S: 220\nC: NOOP\n", "unexpected reply"),
        ("S: 220\nC: QUIT\nS: 221\n", "the server closed"),
        ("S: 220\nC: NOOP\nS: 250\nS!\n", "still listens"),
        ("S: 220\nC: QUIT\nS: 221\nS!\nL: no such words\n", "is not in the log"),
        ("S: 220\nC: QUIT\nS: 221\nS!\nL! dispatching QUIT\n", "is in the log"),
        (
            "S: 220\nC: QUIT\nS: 221\nS!\nqueued: <> to <a@b>\n",
            "messages were queued",
        ),
        ("S: 220\nC: QUIT\nS: 221\nS!\nhooks: quit\n", "hooks"),
        (
            "S: 220\nC\\ NOOP\\r\\nNOOP\\r\\n\nS~ ^250 .*\nS~ ^251\n",
            "expected `^251`",
        ),
    ] {
        let script = Script::parse("wrong.talk", wrong).expect("a conversation");
        let outcome = stage::play(&script, Mode::AsWritten);
        let said = outcome.expect_err(wrong);
        assert!(said.contains(why), "{wrong}\n{said}");
    }
    for wrong in [
        "X: y\n",
        "S: 220\nO: 500 for no reason\n",
        "C: NOOP\nO: 500 RFC 0\n",
        "S: 220\nO: 500 RFC 0\nO: 500 RFC 0\n",
        "O! for no reason\n",
        "O queued: RFC 0\n",
    ] {
        assert!(Script::parse("wrong.talk", wrong).is_err(), "{wrong}");
    }
}
