//! The parts of a message that BDAT brings, as a machine over bytes (RFC 3030).
//!
//! Here no dot is special: how long a part is stands in the command. Line ends are those of the data phase: CRLF, and
//! a bare CR or LF is reported, or taken as a line end where that is allowed. A CRLF may be cut anywhere, also between
//! two parts.

use memchr::memchr2;

use super::intake::Step;

/// The machine.
#[derive(Clone, Debug)]
pub struct Lines {
    /// The last byte was a CR.
    cr: bool,
    bare_newlines: bool,
}

impl Lines {
    /// A machine at the start of a message; `bare_newlines` lets bare LF and CR pass as line ends.
    pub fn new(bare_newlines: bool) -> Lines {
        let cr = false;
        Lines { cr, bare_newlines }
    }

    /// Looks at the front of `input`, which must begin where the last step ended and end where the part does, or
    /// before. Never says [`Step::End`]; after [`Step::More`] all of the input has been used.
    pub fn step<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        let Some(first) = input.first() else {
            return Step::More;
        };
        if self.cr {
            let used = usize::from(*first == b'\n');
            if used == 0 && !self.bare_newlines {
                return Step::Bare;
            }
            self.cr = false;
            return line(b"", used);
        }
        let Some(end) = memchr2(b'\n', b'\r', input) else {
            return piece(input, input.len());
        };
        match (input[end], input.get(end + 1)) {
            (b'\r', Some(b'\n')) => line(&input[..end], end + 2),
            (b'\r', None) => {
                self.cr = true;
                piece(&input[..end], end + 1)
            }
            // what stands before it may end the header, and then, in a binary body, nothing is wrong with it
            _ if !self.bare_newlines && end > 0 => piece(&input[..end], end),
            _ if !self.bare_newlines => Step::Bare,
            _ => line(&input[..end], end + 1),
        }
    }

    /// Whether a CR was the last byte, and what it means is still open; forgets it.
    pub fn take_cr(&mut self) -> bool {
        std::mem::take(&mut self.cr)
    }
}

fn line(text: &[u8], used: usize) -> Step<'_> {
    let ends = true;
    Step::Text { text, ends, used }
}

fn piece(text: &[u8], used: usize) -> Step<'_> {
    let ends = false;
    Step::Text { text, ends, used }
}

/// The argument of BDAT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How many bytes follow the command.
    pub size: u64,
    /// Whether they are the end of the message.
    pub last: bool,
}

impl Part {
    /// Reads `SIZE` or `SIZE LAST`.
    pub fn parse(rest: &str) -> Option<Part> {
        let mut words = rest.split_ascii_whitespace();
        let digits = words.next()?;
        let last = match (words.next(), words.next()) {
            (None, _) => false,
            (Some(word), None) if word.eq_ignore_ascii_case("LAST") => true,
            _ => return None,
        };
        let size = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse());
        Some(Part {
            size: size?.ok()?,
            last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is stored of a message that comes in parts; none if a bare newline is refused.
    fn stored<'a>(parts: impl Iterator<Item = &'a [u8]>, bare: bool) -> Option<Vec<u8>> {
        let (mut lines, mut stored, mut open) = (Lines::new(bare), Vec::new(), false);
        for mut input in parts {
            loop {
                match lines.step(input) {
                    Step::Text { text, ends, used } => {
                        stored.extend_from_slice(text);
                        open = (open || !text.is_empty()) && !ends;
                        if ends {
                            stored.push(b'\n');
                        }
                        input = &input[used..];
                    }
                    Step::Bare => return None,
                    Step::More => break,
                    Step::End { .. } => unreachable!("no dot is special"),
                }
            }
        }
        match (lines.take_cr(), open) {
            (true, _) if !bare => return None,
            (false, false) => {}
            _ => stored.push(b'\n'),
        }
        Some(stored)
    }

    fn whole(text: &[u8], bare: bool) -> Option<Vec<u8>> {
        stored(std::iter::once(text), bare)
    }

    #[test]
    fn no_dot_is_special() {
        assert_eq!(whole(b"..\r\n.\r\na", false).unwrap(), b"..\n.\na\n");
        assert_eq!(whole(b"", false).unwrap(), b"");
    }

    #[test]
    fn bare_newlines_are_refused_or_are_line_ends() {
        for text in [&b"a\nb"[..], b"a\rb", b"a\r", b"\n", b"a\r\r\n"] {
            assert_eq!(whole(text, false), None, "{text:?}");
        }
        assert_eq!(whole(b"a\nb\rc\r\r\nd\r", true).unwrap(), b"a\nb\nc\n\nd\n");
    }

    #[test]
    fn arguments() {
        let part = |size, last| Some(Part { size, last });
        for (rest, want) in [
            ("10", part(10, false)),
            ("0 last", part(0, true)),
            ("  86  LAST ", part(86, true)),
            ("18446744073709551615", part(u64::MAX, false)),
            ("18446744073709551616", None),
            ("", None),
            ("LAST", None),
            ("+1", None),
            ("-1", None),
            ("1e3", None),
            ("0x10", None),
            ("10 FIRST", None),
            ("10 LAST LAST", None),
            ("10,LAST", None),
        ] {
            assert_eq!(Part::parse(rest), want, "{rest}");
        }
    }

    proptest! {
        #[test]
        fn the_result_does_not_depend_on_the_parts(
            text in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'a')], 0..60),
            cuts in proptest::collection::vec(0usize..7, 1..60),
            bare: bool,
        ) {
            let mut rest = &text[..];
            let mut pieces = Vec::new();
            for cut in cuts {
                let (piece, more) = rest.split_at(cut.min(rest.len()));
                pieces.push(piece);
                rest = more;
            }
            pieces.push(rest);
            prop_assert_eq!(stored(pieces.into_iter(), bare), whole(&text, bare));
        }
    }
}
