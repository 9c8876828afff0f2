//! Messages that are easily damaged, and how to find out whether they were.

use std::collections::HashMap;
use std::path::Path;

/// A message of the corpus.
pub struct Item {
    /// Its name, also the start of its recipients' addresses.
    pub name: &'static str,
    /// Its lines, with LF.
    pub text: Vec<u8>,
    /// How many copies a client sends.
    pub copies: usize,
}

impl Item {
    /// How it must lie in the maildir, without what was added at the top. A message that does not begin with a header
    /// gets the empty line that separates header and body.
    pub fn stored(&self) -> Vec<u8> {
        match self.name {
            "no-header" => [b"\n", &self.text[..]].concat(),
            _ => self.text.clone(),
        }
    }
}

/// The corpus.
pub fn corpus() -> Vec<Item> {
    let item = |name, text: Vec<u8>, copies| Item { name, text, copies };
    let small = |name, text: &str| item(name, text.as_bytes().to_vec(), 20);
    let mut eight_bit = b"Subject: \xe4\xf6\xfc\nX-Folded: a\n\tb\n c\n\n".to_vec();
    for byte in (1..=255u8).filter(|byte| !b"\r\n".contains(byte)) {
        eight_bit.extend_from_slice(&[byte, byte, b'\n']);
    }
    let mut long = b"Subject: long lines\n\n".to_vec();
    for length in [997, 998, 999, 1000, 4095, 4096, 65_535, 65_536, 200_000] {
        long.extend(std::iter::repeat_n(b'x', length).chain([b'\n']));
    }
    let mut large = b"Subject: large\n\n".to_vec();
    let mut line = 0u32;
    while large.len() < 10 * 1024 * 1024 {
        line += 1;
        large.extend_from_slice(format!(".line {line} of a large message\n").as_bytes());
    }
    vec![
        small("plain", "Subject: plain\nFrom: a@example.net\n\nText.\n"),
        item("eight-bit", eight_bit, 20),
        small("dots", "Subject: dots\n\n.\n..\n...\n.x\nx.\n . \n\n.\n\n..\n"),
        item("long-lines", long, 20),
        item("large", large, 2),
        small("empty", ""),
        small("header-only", "Subject: nothing more\nX-Last: yes\n"),
        small("no-body", "Subject: nothing more\n\n"),
        small("no-header", "This is text, not a header.\n\nMore of it.\n"),
        small("only-body", "\nText.\n\n\n"),
    ]
}

/// The messages of a maildir by their recipients, each without the fields that were added at the top.
pub fn delivered(maildir: &Path) -> HashMap<String, Vec<Vec<u8>>> {
    let mut messages: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
    for entry in std::fs::read_dir(maildir.join("new")).expect("a maildir") {
        let text = std::fs::read(entry.expect("an entry").path()).expect("a message");
        let (recipient, rest) = without_added(&text);
        messages.entry(recipient).or_default().push(rest.to_vec());
    }
    assert_eq!(
        std::fs::read_dir(maildir.join("tmp")).expect("tmp").count(),
        0,
        "left in tmp"
    );
    messages
}

/// Takes off what the daemon has added, and checks its order.
fn without_added(text: &[u8]) -> (String, &[u8]) {
    let rest = field(text, "Return-Path").expect("Return-Path").1;
    let (recipient, rest) = field(rest, "Delivered-To").expect("Delivered-To");
    let rest = field(rest, "Authentication-Results").map_or(rest, |(_, rest)| rest);
    let mut rest = field(rest, "Received").expect("Received").1;
    // of the daemon in front, if there was one
    while let Some((_, more)) = field(rest, "Original-Authentication-Results").or(field(rest, "Received")) {
        rest = more;
    }
    (recipient, rest)
}

/// The value of the first field, if it has this name, and what follows the field.
fn field<'a>(text: &'a [u8], name: &str) -> Option<(String, &'a [u8])> {
    let value = text.strip_prefix(format!("{name}: ").as_bytes())?;
    let ends = |at: &usize| value[*at] == b'\n' && !matches!(value.get(at + 1), Some(b' ' | b'\t'));
    let end = (0..value.len()).find(ends)?;
    Some((String::from_utf8_lossy(&value[..end]).into_owned(), &value[end + 1..]))
}

/// Checks that this recipient has got exactly this message, and once.
pub fn check(messages: &mut HashMap<String, Vec<Vec<u8>>>, recipient: &str, want: &[u8]) {
    let found = messages.remove(recipient).unwrap_or_default();
    assert_eq!(found.len(), 1, "copies for {recipient}");
    if found[0] != want {
        let same = found[0].iter().zip(want).take_while(|(a, b)| a == b).count();
        let part = |text: &[u8]| {
            String::from_utf8_lossy(&text[same.min(text.len())..])
                .chars()
                .take(60)
                .collect::<String>()
        };
        panic!(
            "{recipient}: differs at byte {same}: {:?}, not {:?}",
            part(&found[0]),
            part(want)
        );
    }
}
