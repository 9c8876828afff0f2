//! The data phase as a machine: the result does not depend on how the bytes are cut, and only CRLF.CRLF ends it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd::smtp::{Intake, Step};

#[derive(Debug, PartialEq)]
enum Outcome {
    Ended(Vec<u8>, Vec<u8>),
    Bare,
    Waiting,
}

fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, bare: bool) -> Outcome {
    let mut intake = Intake::new(bare);
    let (mut buffer, mut stored, mut ended) = (Vec::new(), Vec::new(), false);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        while !ended {
            match intake.step(&buffer) {
                Step::Text { text, ends, used } => {
                    assert!(used > 0 && text.iter().all(|byte| !matches!(byte, b'\r' | b'\n')));
                    stored.extend_from_slice(text);
                    if ends {
                        stored.push(b'\n');
                    }
                    buffer.drain(..used);
                }
                Step::End { used } => {
                    buffer.drain(..used);
                    ended = true;
                }
                Step::Bare => return Outcome::Bare,
                Step::More => break,
            }
        }
    }
    match ended {
        true => Outcome::Ended(stored, buffer),
        false => Outcome::Waiting,
    }
}

/// What RFC 5321 makes of the bytes, if there is no bare newline in them.
fn expected(sent: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let (mut stored, mut rest) = (Vec::new(), sent);
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let (line, more) = rest.split_at(end);
        rest = more.strip_prefix(b"\r\n")?;
        if line == b"." {
            return Some((stored, rest));
        }
        stored.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        stored.push(b'\n');
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (cuts, text) = qpsmtpd_fuzz::list(bytes);
    for bare in [false, true] {
        let whole = run(std::iter::once(text), bare);
        let mut sizes = qpsmtpd_fuzz::cuts(cuts).into_iter().cycle();
        let mut rest = text;
        let pieces = std::iter::from_fn(|| {
            let (piece, more) = rest.split_at(sizes.next().unwrap_or(1).min(rest.len()));
            rest = more;
            (!piece.is_empty()).then_some(piece)
        });
        assert_eq!(run(pieces, bare), whole);
        assert_eq!(run(text.chunks(1), bare), whole);
        if let Some((stored, left)) = expected(text) {
            assert_eq!(whole, Outcome::Ended(stored, left.to_vec()));
        }
        if let (Outcome::Ended(_, left), true) = (&whole, true) {
            let end = &text[..text.len() - left.len()];
            assert!(end == b".\r\n" || end.ends_with(b"\r\n.\r\n"));
        }
    }
});
