//! From the bytes of a file to its entries: comments, blanks and line ends (catalogue 2.2).

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use super::fault::Fault;
use super::lines::{Line, Place};

/// The entries of a file: trimmed, neither blank nor comments, each with a warning if it is not UTF-8. Such bytes
/// become U+FFFD.
pub(super) fn entries<'a>(bytes: &'a [u8], file: &'a Arc<Path>) -> impl Iterator<Item = (Line, Option<Fault>)> + 'a {
    // Some editors open a file with a byte order mark.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(move |(at, raw)| entry(raw, at, file))
}

fn entry(raw: &[u8], at: usize, file: &Arc<Path>) -> Option<(Line, Option<Fault>)> {
    let (indent, trimmed) = trim(raw);
    if trimmed.is_empty() || trimmed[0] == b'#' {
        return None;
    }
    let text = String::from_utf8_lossy(trimmed);
    let number = |count: usize| u32::try_from(count + 1).unwrap_or(u32::MAX);
    let line = Line {
        text: Box::from(&*text),
        place: Place {
            file: file.clone(),
            line: number(at),
        },
        column: number(indent),
    };
    let fault = matches!(text, Cow::Owned(_)).then(|| {
        let bad = text.find('\u{fffd}').unwrap_or(0);
        line.fault(bad..bad + 3, "bytes that are not UTF-8").as_warning()
    });
    Some((line, fault))
}

/// The path an include line names; `None` if the line is no include.
pub(super) fn include_path(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("$include")?;
    (rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_whitespace())).then(|| rest.trim())
}

/// How many blanks come first, and the text without blanks (CR among them) around it.
fn trim(raw: &[u8]) -> (usize, &[u8]) {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0x0b;
    let start = raw.iter().position(|byte| !blank(byte)).unwrap_or(raw.len());
    let end = raw.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    (start, &raw[start..end])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Vec<(Line, Option<Fault>)> {
        entries(bytes, &Arc::from(Path::new("config/x"))).collect()
    }

    #[test]
    fn drops_comments_blanks_and_carriage_returns() {
        let text = "\u{feff}# comment\r\n\r\n  one two \t\r\n\t# indented\n   \nthree # no comment\n\u{b}four";
        let lines = read(text.as_bytes());
        let told: Vec<_> = lines
            .iter()
            .map(|(line, _)| (&*line.text, line.place.line, line.column))
            .collect();
        assert_eq!(told, [("one two", 3, 3), ("three # no comment", 6, 1), ("four", 7, 2)]);
        assert!(lines.iter().all(|(_, fault)| fault.is_none()));
    }

    #[test]
    fn bytes_that_are_no_text_are_a_warning() {
        let lines = read(b"good\n ab\xffcd\xfe");
        assert_eq!(&*lines[1].0.text, "ab\u{fffd}cd\u{fffd}");
        let fault = lines[1].1.as_ref().expect("a fault");
        assert_eq!(fault.headline(), "config/x:2:4: warning: bytes that are not UTF-8");
        assert_eq!(lines[0].1, None);
    }

    #[test]
    fn includes_are_told_from_words_that_begin_alike() {
        assert_eq!(include_path("$include  a b"), Some("a b"));
        assert_eq!(include_path("$include\t/x"), Some("/x"));
        assert_eq!(include_path("$include"), Some(""));
        assert_eq!(include_path("$included x"), None);
        assert_eq!(include_path("x $include y"), None);
    }

    proptest! {
        /// Any bytes give lines that are trimmed, no comments, and stand where they say.
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(prop_oneof![
            Just(b'\n'), Just(b'\r'), Just(b' '), Just(b'\t'), Just(b'#'), any::<u8>()
        ], 0..400)) {
            let whole: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
            for (line, _) in read(&bytes) {
                prop_assert!(!line.is_empty() && !line.starts_with('#'));
                let raw = &whole[line.place.line as usize - 1][line.column as usize - 1..];
                let there = String::from_utf8_lossy(raw);
                let rest = there.strip_prefix(&*line.text);
                prop_assert!(rest.is_some_and(|rest| rest.bytes().all(|byte| b" \t\r\x0b\x0c".contains(&byte))));
            }
        }
    }
}
