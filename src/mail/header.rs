//! The header of a message: a list of fields over raw bytes (RFC 5322, 2.2; catalogue 1.5 and 10.4).
//!
//! All bytes lie in one buffer, a field is a range of it, and an edit appends to the buffer, so that reading a header
//! costs one copy and no allocation per field. What is not edited goes out byte for byte as it came in, folding and
//! order included. Line ends are LF.

use std::borrow::Cow;
use std::io::{self, Write};

use memchr::memchr;

mod edit;

use edit::sanitise;

/// The fields above the body.
#[derive(Clone, Debug, Default)]
pub struct Header {
    raw: Vec<u8>,
    spans: Vec<Span>,
}

/// Where a field lies in the buffer.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: usize,
    /// The end of the name, which begins at `start`.
    name: usize,
    /// The first byte after the colon.
    value: usize,
    /// After the last line's LF.
    end: usize,
}

/// One field of a [`Header`].
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    raw: &'a [u8],
    name: usize,
    value: usize,
}

impl<'a> Field<'a> {
    /// The name as it is written.
    pub fn name(&self) -> &'a str {
        // Names are checked to be ASCII when a field is made.
        std::str::from_utf8(&self.raw[..self.name]).unwrap_or_default()
    }

    /// Whether this is the name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.raw[..self.name].eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value as it is written, with its folding, without the blanks after the colon and the last line end.
    pub fn value(&self) -> &'a [u8] {
        let value = &self.raw[self.value..self.raw.len() - 1];
        let blanks = value.iter().take_while(|b| is_blank(**b)).count();
        &value[blanks..]
    }

    /// The value unfolded and trimmed. Bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> Cow<'a, str> {
        let value = self.value().trim_ascii();
        if memchr(b'\n', value).is_none() {
            return String::from_utf8_lossy(value);
        }
        let unfolded: Vec<u8> = value.iter().copied().filter(|&b| b != b'\n').collect();
        Cow::Owned(String::from_utf8_lossy(&unfolded).into_owned())
    }

    /// The whole field as it goes out, name, colon and last line end included.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }
}

impl Header {
    /// A header without fields.
    pub fn new() -> Header {
        Header::default()
    }

    /// Reads the fields at the start of `block` and tells how many of its bytes they are.
    ///
    /// The first line that is no field ends the header, be it empty or not, and belongs to the body with all that
    /// follows. If it is not empty, the body needs a separator line in front of it. An mbox line `From ` at the very
    /// top becomes a field `Mail-From`. A last line without LF gets one.
    pub fn parse(block: &[u8]) -> (Header, usize) {
        let mut used = 0;
        let mut header = Header {
            raw: Vec::with_capacity(block.len() + 512),
            spans: Vec::with_capacity(32),
        };
        if let Some(rest) = block
            .strip_prefix(b"From ")
            .filter(|_| split_name(line_of(block)).is_none())
        {
            let line = line_of(rest);
            header.push(b"Mail-From", line.strip_suffix(b"\n").unwrap_or(line));
            used = b"From ".len() + line.len();
        }
        let offset = header.raw.len();
        let first = used;
        while used < block.len() {
            let line = line_of(&block[used..]);
            if is_blank(line[0]) {
                let Some(span) = header.spans.last_mut() else {
                    break;
                };
                span.end += line.len();
            } else {
                let Some((name, value)) = split_name(line) else {
                    break;
                };
                let start = used - first + offset;
                header.spans.push(Span {
                    start,
                    name: start + name,
                    value: start + value,
                    end: start + line.len(),
                });
            }
            used += line.len();
        }
        header.raw.extend_from_slice(&block[first..used]);
        if used > 0 && header.raw.last() != Some(&b'\n') {
            header.raw.push(b'\n');
            if let Some(span) = header.spans.last_mut() {
                span.end += 1;
            }
        }
        (header, used)
    }

    /// The fields from top to bottom.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Field<'_>> {
        self.spans.iter().map(|span| self.field(span))
    }

    /// The first field of this name.
    pub fn get(&self, name: &str) -> Option<Field<'_>> {
        self.position(name).map(|at| self.field(&self.spans[at]))
    }

    /// All fields of this name, from top to bottom.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = Field<'a>> {
        self.iter().filter(move |field| field.is(name))
    }

    /// How many fields of this name there are.
    pub fn count(&self, name: &str) -> usize {
        self.get_all(name).count()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many bytes [`Header::write_to`] writes.
    pub fn bytes(&self) -> usize {
        self.spans.iter().map(|span| span.end - span.start).sum()
    }

    /// Writes all fields, without the empty line after them.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        // Fields that lie side by side go out in one write; an unedited header in a single one.
        let mut spans = self.spans.iter();
        let Some(first) = spans.next() else {
            return Ok(());
        };
        let (mut start, mut end) = (first.start, first.end);
        for span in spans {
            if span.start != end {
                out.write_all(&self.raw[start..end])?;
                start = span.start;
            }
            end = span.end;
        }
        out.write_all(&self.raw[start..end])
    }

    fn field(&self, span: &Span) -> Field<'_> {
        span.field(&self.raw)
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.spans.iter().position(|span| self.field(span).is(name))
    }

    /// Appends a field to the buffer and to the list.
    fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.raw.len();
        self.raw.extend_from_slice(name);
        self.raw.extend_from_slice(b": ");
        sanitise(value, &mut self.raw);
        self.raw.push(b'\n');
        let name = start + name.len();
        self.spans.push(Span {
            start,
            name,
            value: name + 1,
            end: self.raw.len(),
        });
    }
}

impl Span {
    fn field<'a>(&self, raw: &'a [u8]) -> Field<'a> {
        Field {
            raw: &raw[self.start..self.end],
            name: self.name - self.start,
            value: self.value - self.start,
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The characters of a field name (RFC 5322, 2.2).
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| b.is_ascii_graphic() && *b != b':')
}

/// The first line of a text, with its LF.
fn line_of(text: &[u8]) -> &[u8] {
    memchr(b'\n', text).map_or(text, |end| &text[..=end])
}

/// The end of the name and the start of the value, if the line begins with a field name and a colon. Blanks between
/// them are obsolete but legal (RFC 5322, 4.5.8).
fn split_name(line: &[u8]) -> Option<(usize, usize)> {
    let colon = memchr(b':', line)?;
    let name = line[..colon].iter().rposition(|b| !is_blank(*b))? + 1;
    is_name(&line[..name]).then_some((name, colon + 1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn written(header: &Header) -> String {
        let mut out = Vec::new();
        header.write_to(&mut out).unwrap();
        assert_eq!(out.len(), header.bytes());
        String::from_utf8(out).unwrap()
    }

    pub(super) fn parse(text: &str) -> Header {
        Header::parse(text.as_bytes()).0
    }

    #[test]
    fn fields() {
        let text = "Subject: a\n\tb\n c \nfrom:  x@y\nX-Empty:\nSUBJECT : again\n\nbody: no\n";
        let (header, used) = Header::parse(text.as_bytes());
        assert_eq!(&text[used..], "\nbody: no\n");
        assert_eq!(header.len(), 4);
        let subject = header.get("subject").unwrap();
        assert_eq!((subject.name(), subject.value()), ("Subject", &b"a\n\tb\n c "[..]));
        assert_eq!(subject.text(), "a\tb c");
        assert_eq!(subject.raw(), b"Subject: a\n\tb\n c \n");
        assert_eq!(header.get("From").unwrap().text(), "x@y");
        assert_eq!(header.get("x-empty").unwrap().value(), b"");
        assert_eq!(header.count("subject"), 2);
        assert_eq!(header.get_all("subject").nth(1).unwrap().text(), "again");
        assert!(header.get("body").is_none());
        assert_eq!(written(&header), text[..used]);
    }

    #[test]
    fn where_it_ends() {
        for (block, fields, rest) in [
            ("", 0, ""),
            ("\n", 0, "\n"),
            ("\nA: b\n", 0, "\nA: b\n"),
            ("A: b\n", 1, ""),
            ("A: b\nno field\nC: d\n", 1, "no field\nC: d\n"),
            ("no field\nC: d\n", 0, "no field\nC: d\n"),
            (" folded\nC: d\n", 0, " folded\nC: d\n"),
            ("A: b\n \nC: d\n\n", 2, "\n"),
            (": x\n", 0, ": x\n"),
            ("a b: x\n", 0, "a b: x\n"),
            ("A: b\nFrom x\n", 1, "From x\n"),
        ] {
            let (header, used) = Header::parse(block.as_bytes());
            assert_eq!((header.len(), &block[used..]), (fields, rest), "{block:?}");
        }
    }

    #[test]
    fn mbox_line() {
        let (header, used) = Header::parse(b"From joe@x Mon Jan 1 10:00:00 2024\nA: b\n\n");
        assert_eq!(used, 40);
        assert_eq!(written(&header), "Mail-From: joe@x Mon Jan 1 10:00:00 2024\nA: b\n");
        assert_eq!(written(&parse("From : joe\n")), "From : joe\n");
    }

    #[test]
    fn last_line_without_end() {
        let mut header = parse("A: b");
        header.add_bottom("C", "d");
        assert_eq!(written(&header), "A: b\nC: d\n");
        assert_eq!(written(&parse("From x")), "Mail-From: x\n");
        assert_eq!(parse("A:").get("a").unwrap().value(), b"");
    }

    proptest! {
        #[test]
        fn identity(mut block in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b':'), Just(b' '), Just(b'a'), any::<u8>()], 0..200)) {
            block.push(b'\n');
            prop_assume!(!block.starts_with(b"From "));
            let (header, used) = Header::parse(&block);
            let mut out = Vec::new();
            header.write_to(&mut out).unwrap();
            out.extend_from_slice(&block[used..]);
            prop_assert_eq!(out, block);
        }
    }
}
