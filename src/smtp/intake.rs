//! The data phase as a machine over bytes: lines, dots, and the one true end (RFC 5321 4.1.1.4, 4.5.2).
//!
//! Only CRLF.CRLF ends the data. A bare LF or CR is reported, or taken as a line end where that is allowed; even then
//! it neither ends the data nor makes a dot special, so that no two servers can disagree about where a message ends
//! (SMTP smuggling). The result does not depend on how the bytes are cut into packets.

use memchr::memchr2;

/// What was found at the front of the input; `used` bytes have been dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Text of a line, without dot and line end; `ends` says whether the line is complete.
    Text {
        /// The bytes.
        text: &'a [u8],
        /// Whether the line ends here.
        ends: bool,
        /// How much of the input this took.
        used: usize,
    },
    /// The end of the data.
    End {
        /// How much of the input this took.
        used: usize,
    },
    /// A bare LF or CR: an error, unless bare ones are taken as line ends.
    Bare,
    /// More bytes are needed.
    More,
}

/// Where a line begins, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// After CRLF, or at the very start: a dot is special.
    LineStart,
    /// After a bare newline that was let pass: a dot is text.
    BareStart,
    /// Within a line.
    Inside,
}

/// The machine.
#[derive(Clone, Debug)]
pub struct Intake {
    at: At,
    bare_newlines: bool,
}

impl Intake {
    /// A machine at the start of the data; `bare_newlines` lets bare LF and CR pass as line ends.
    pub fn new(bare_newlines: bool) -> Intake {
        Intake {
            at: At::LineStart,
            bare_newlines,
        }
    }

    /// Looks at the front of `input`, which must begin where the last step ended.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        let mut skip = 0;
        if self.at == At::LineStart && input.first() == Some(&b'.') {
            match input {
                [_, b'\r', b'\n', ..] => return Step::End { used: 3 },
                [_] | [_, b'\r'] => return Step::More,
                [_, b'\n', ..] | [_, b'\r', ..] if !self.bare_newlines => return Step::Bare,
                // a lone dot before a bare newline is a line, not a stuffed dot
                [_, b'\n' | b'\r', ..] => {}
                _ => skip = 1,
            }
        }
        let rest = &input[skip..];
        let Some(end) = memchr2(b'\n', b'\r', rest) else {
            return self.piece(rest, skip, input.len());
        };
        match (rest[end], rest.get(end + 1)) {
            (b'\r', Some(b'\n')) => {
                self.at = At::LineStart;
                let text = &rest[..end];
                let used = skip + end + 2;
                Step::Text { text, ends: true, used }
            }
            // whether this CR is bare shows with the next byte; what stands before it can go
            (b'\r', None) => self.piece(&rest[..end], skip, skip + end),
            _ if !self.bare_newlines => Step::Bare,
            _ => {
                self.at = At::BareStart;
                let text = &rest[..end];
                let used = skip + end + 1;
                Step::Text { text, ends: true, used }
            }
        }
    }

    /// A part of a line whose end has not come yet.
    fn piece<'a>(&mut self, text: &'a [u8], skip: usize, used: usize) -> Step<'a> {
        if text.is_empty() && skip == 0 {
            return Step::More;
        }
        self.at = At::Inside;
        Step::Text {
            text,
            ends: false,
            used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Eq, Clone)]
    enum Outcome {
        /// The stored message and what was left over.
        Ended(Vec<u8>, Vec<u8>),
        Bare,
        Waiting(Vec<u8>),
    }

    /// Runs the machine over pieces, keeping what it has not used, as the data phase does.
    fn run<'a>(pieces: impl Iterator<Item = &'a [u8]>, bare: bool) -> Outcome {
        let mut intake = Intake::new(bare);
        let (mut buffer, mut stored, mut ended) = (Vec::new(), Vec::new(), false);
        for piece in pieces {
            buffer.extend_from_slice(piece);
            while !ended {
                match intake.step(&buffer) {
                    Step::Text { text, ends, used } => {
                        assert!(used > 0);
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
            false => Outcome::Waiting(stored),
        }
    }

    fn whole(text: &[u8], bare: bool) -> Outcome {
        run(std::iter::once(text), bare)
    }

    fn ended(stored: &[u8], left: &[u8]) -> Outcome {
        Outcome::Ended(stored.to_vec(), left.to_vec())
    }

    #[test]
    fn only_crlf_dot_crlf_ends_the_data() {
        assert_eq!(whole(b".\r\n", false), ended(b"", b""));
        assert_eq!(whole(b"a\r\n.\r\nQUIT\r\n", false), ended(b"a\n", b"QUIT\r\n"));
        for smuggled in [
            &b"a\n.\r\n"[..],
            b"a\r\n.\n",
            b"a\n.\n",
            b"a\r.\r\n",
            b"a\r\n.\rb",
            b"a\r.\r",
            b"a\r\r\n.\r\n",
            b"\n",
            b"a\rb",
        ] {
            assert_eq!(whole(smuggled, false), Outcome::Bare, "{smuggled:?}");
        }
    }

    #[test]
    fn dots_are_unstuffed_once() {
        assert_eq!(
            whole(b"..\r\n...x\r\n.y\r\na.b\r\n.\r\n", false),
            ended(b".\n..x\ny\na.b\n", b"")
        );
    }

    #[test]
    fn bare_newlines_that_are_let_pass_never_end_the_data() {
        assert_eq!(
            whole(b"a\n.\r\nb\r\n.\n..\r\n.\r\n", true),
            ended(b"a\n.\nb\n.\n..\n", b"")
        );
        assert_eq!(whole(b"a\rb\r\n.\r\n", true), ended(b"a\nb\n", b""));
        assert_eq!(whole(b"a\r.\r\nb\r\n.\r\n", true), ended(b"a\n.\nb\n", b""));
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_the_packets(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60),
            cuts in proptest::collection::vec(1usize..7, 1..60),
            bare: bool,
        ) {
            let expected = whole(&text, bare);
            let mut rest = &text[..];
            let mut cuts = cuts.into_iter().cycle();
            let mut pieces = Vec::new();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            prop_assert_eq!(run(pieces.into_iter(), bare), expected);
        }

        #[test]
        fn what_is_stuffed_comes_out_again(lines in proptest::collection::vec("[a.]{0,5}", 0..8)) {
            let mut sent = Vec::new();
            for line in &lines {
                if line.starts_with('.') {
                    sent.push(b'.');
                }
                sent.extend_from_slice(line.as_bytes());
                sent.extend_from_slice(b"\r\n");
            }
            sent.extend_from_slice(b".\r\n");
            let stored: String = lines.iter().map(|line| format!("{line}\n")).collect();
            prop_assert_eq!(whole(&sent, false), ended(stored.as_bytes(), b""));
        }
    }
}
