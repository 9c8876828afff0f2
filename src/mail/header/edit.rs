//! Changing a header: adding, replacing, removing and renaming fields (catalogue 10.4).
//!
//! Values may hold what clients sent, so they are made safe here, once for all callers.

use super::{Field, Header, Span, is_blank, is_name};

impl Header {
    /// Adds a field above all others. The value is made safe: no CR, no NUL, no line end but folding. Returns whether
    /// the name is one; a field without a proper name is not added.
    pub fn add_top(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let done = self.push_checked(name, value.as_ref());
        if done {
            self.spans.rotate_right(1);
        }
        done
    }

    /// Adds a field below all others; else as [`Header::add_top`].
    pub fn add_bottom(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        self.push_checked(name, value.as_ref())
    }

    /// Gives the first field of this name another value, or adds it on top if there is none; else as
    /// [`Header::add_top`].
    pub fn replace(&mut self, name: &str, value: impl AsRef<[u8]>) -> bool {
        let Some(at) = self.position(name) else {
            return self.add_top(name, value);
        };
        let done = self.push_checked(name, value.as_ref());
        if done {
            self.spans.swap_remove(at);
        }
        done
    }

    /// Removes all fields of this name and tells how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        self.retain(|field| !field.is(name))
    }

    /// Removes the `nth` field of this name, counting from 0 at the top. Returns whether there was one.
    pub fn remove_nth(&mut self, name: &str, nth: usize) -> bool {
        let mut at = (0..self.spans.len()).filter(|&at| self.field(&self.spans[at]).is(name));
        let found = at.nth(nth);
        drop(at);
        found.map(|at| self.spans.remove(at)).is_some()
    }

    /// Keeps the fields for which `keep` says so and tells how many went.
    pub fn retain(&mut self, mut keep: impl FnMut(&Field<'_>) -> bool) -> usize {
        let before = self.spans.len();
        let raw = &self.raw;
        self.spans.retain(|span| keep(&span.field(raw)));
        before - self.spans.len()
    }

    /// Renames all fields of this name where they stand, values untouched, and tells how many there were.
    pub fn rename(&mut self, name: &str, new: &str) -> usize {
        if !is_name(new.as_bytes()) {
            return 0;
        }
        let mut renamed = 0;
        for at in 0..self.spans.len() {
            let span = self.spans[at];
            if !span.field(&self.raw).is(name) {
                continue;
            }
            let start = self.raw.len();
            self.raw.extend_from_slice(new.as_bytes());
            self.raw.push(b':');
            let value = self.raw.len();
            self.raw.extend_from_within(span.value..span.end);
            self.spans[at] = Span {
                start,
                name: value - 1,
                value,
                end: self.raw.len(),
            };
            renamed += 1;
        }
        renamed
    }

    fn push_checked(&mut self, name: &str, value: &[u8]) -> bool {
        is_name(name.as_bytes()) && {
            self.push(name.as_bytes(), value);
            true
        }
    }
}

/// Appends a value that may hold anything: CR and NUL are dropped, a line end stays only as folding, that is before a
/// blank and something visible; elsewhere it is a space, at the end nothing.
pub(super) fn sanitise(value: &[u8], out: &mut Vec<u8>) {
    let mut rest = value;
    while let Some(at) = rest.iter().position(|b| matches!(b, b'\r' | b'\n' | b'\0')) {
        out.extend_from_slice(&rest[..at]);
        let found = rest[at];
        rest = &rest[at + 1..];
        if found != b'\n' {
            continue;
        }
        let Some(skip) = rest.iter().position(|b| !b" \t\r\n\0".contains(b)) else {
            return;
        };
        let blanks = rest[..skip].iter().rev().take_while(|b| is_blank(**b));
        let blanks = blanks.count();
        out.push(if blanks > 0 { b'\n' } else { b' ' });
        rest = &rest[skip - blanks..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{parse, written};
    use super::*;

    #[test]
    fn edits() {
        let mut header = parse("A: 1\nB: 2\nA: 3\nB : 4\n 5\n");
        assert!(header.add_top("Received", "from x\n by y"));
        assert!(header.add_bottom("Z", "end"));
        assert!(header.replace("b", "two"));
        assert!(header.replace("New", "n"));
        assert_eq!(
            written(&header),
            "New: n\nReceived: from x\n by y\nA: 1\nb: two\nA: 3\nB : 4\n 5\nZ: end\n"
        );
        assert_eq!(header.rename("B", "Old-B"), 2);
        assert!(header.remove_nth("a", 1));
        assert!(!header.remove_nth("a", 1));
        assert_eq!(
            written(&header),
            "New: n\nReceived: from x\n by y\nA: 1\nOld-B: two\nOld-B: 4\n 5\nZ: end\n"
        );
        assert_eq!(header.remove("old-b"), 2);
        assert_eq!(header.retain(|field| field.name() != "Z"), 1);
        assert_eq!(header.remove("none"), 0);
        assert_eq!(written(&header), "New: n\nReceived: from x\n by y\nA: 1\n");
    }

    #[test]
    fn unsafe_values() {
        for (value, want) in [
            ("a\r\nB: c", "X: a B: c\n"),
            ("a\r\n b\r\n", "X: a\n b\n"),
            ("a\n\nbody", "X: a body\n"),
            ("a\n \n", "X: a\n"),
            ("a\n \n b", "X: a\n b\n"),
            ("a\0b\rc", "X: abc\n"),
            ("\n", "X: \n"),
            ("", "X: \n"),
        ] {
            let mut header = Header::new();
            assert!(header.add_top("X", value));
            assert_eq!(written(&header), want, "{value:?}");
        }
        let mut header = parse("A: 1\n");
        for name in ["", "a b", "a:", "a\n", "\u{e9}"] {
            assert!(!header.add_top(name, "x") && !header.add_bottom(name, "x") && !header.replace(name, "x"));
            assert_eq!(header.rename("A", name), 0);
        }
        assert_eq!(written(&header), "A: 1\n");
    }

    proptest! {
        #[test]
        fn what_is_added_is_one_field(value in any::<Vec<u8>>(), line in "[a\\r\\n\\x00 \\t]{0,20}") {
            for value in [value, line.into_bytes()] {
                let mut header = Header::parse(b"A: 1\nB: 2\n").0;
                header.add_top("Top", &value);
                header.replace("B", &value);
                header.add_bottom("End", &value);
                let mut out = Vec::new();
                header.write_to(&mut out).unwrap();
                let (again, used) = Header::parse(&out);
                prop_assert_eq!(used, out.len());
                let names: Vec<&str> = again.iter().map(|field| field.name()).collect();
                prop_assert_eq!(names, ["Top", "A", "B", "End"]);
                prop_assert!(!out.contains(&b'\r') && !out.contains(&0));
            }
        }
    }
}
