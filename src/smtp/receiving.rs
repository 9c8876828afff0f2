//! A message that is coming in: where its header ends, its limits, how fast it comes (catalogue 1.5).

use std::io;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::mail::{Body, Header};
use crate::session::Transaction;

/// The minimum data rate holds from here on.
const RATE_GRACE: Duration = Duration::from_secs(60);
/// A line that is still open and longer than this must at least begin like a header field to be one.
const OPEN_LINE: usize = 1000;

/// What is wrong with a message that is still coming in: it is read to its end and then refused.
#[derive(Debug)]
pub(super) enum Trouble {
    TooBig,
    HeaderTooBig,
    LineTooLong,
    Spool(io::Error),
    /// A plugin could not look at the header.
    Plugin,
}

/// How fast a message comes.
pub(super) struct Pace {
    pub(super) began: Instant,
    pub(super) came: u64,
    /// Bytes per second that are wanted at least.
    pub(super) least: u64,
}

/// A message that is coming in.
pub(super) struct Receiving {
    pub(super) head: Vec<u8>,
    /// Where the current line begins in `head`; none once the header is complete.
    pub(super) line_start: Option<usize>,
    pub(super) line_length: usize,
    pub(super) stored: u64,
    pub(super) trouble: Option<Trouble>,
    pub(super) most: u64,
    pub(super) most_header: usize,
    pub(super) most_line: usize,
    pub(super) most_fields: usize,
    /// The body is taken byte by byte.
    pub(super) binary: bool,
}

impl Pace {
    pub(super) fn is_too_slow(&mut self, count: usize, now: Instant) -> bool {
        self.came += count as u64;
        let time = now.saturating_duration_since(self.began);
        time > RATE_GRACE && self.came / time.as_secs().max(1) < self.least
    }
}

impl Receiving {
    pub(super) fn new(settings: &Settings, most: u64) -> Receiving {
        Receiving {
            head: Vec::new(),
            line_start: Some(0),
            line_length: 0,
            stored: 0,
            trouble: None,
            most,
            most_header: settings.limits.max_header_size,
            most_line: settings.limits.max_data_line,
            most_fields: settings.limits.max_header_count,
            binary: false,
        }
    }

    /// Takes a piece of a line; true when it completed the header.
    pub(super) fn take(&mut self, text: &[u8], ends: bool, transaction: &mut Transaction) -> bool {
        self.line_length += text.len();
        // the limit counts CRLF
        if self.line_length + 2 > self.most_line {
            self.trouble.get_or_insert(Trouble::LineTooLong);
        }
        self.stored += text.len() as u64 + u64::from(ends);
        if self.stored > self.most {
            self.trouble.get_or_insert(Trouble::TooBig);
        }
        let complete = match self.line_start {
            _ if self.trouble.is_some() => false,
            Some(start) => self.head_piece(start, text, ends, transaction),
            None => {
                self.write(&mut transaction.message.body, text, ends);
                false
            }
        };
        if ends {
            self.line_length = 0;
        }
        complete
    }

    /// Whether what comes now is taken as it is.
    pub(super) fn is_raw(&self) -> bool {
        self.binary && self.line_start.is_none()
    }

    /// Takes bytes as they are.
    pub(super) fn take_raw(&mut self, bytes: &[u8], transaction: &mut Transaction) {
        self.stored += bytes.len() as u64;
        if self.stored > self.most {
            self.trouble.get_or_insert(Trouble::TooBig);
        }
        if self.trouble.is_none() {
            self.write(&mut transaction.message.body, bytes, false);
        }
    }

    fn write(&mut self, body: &mut Body, text: &[u8], ends: bool) {
        let done = if ends { body.write_line(text) } else { body.write(text) };
        if let Err(why) = done {
            self.trouble.get_or_insert(Trouble::Spool(why));
        }
    }

    /// A piece that may belong to the header.
    fn head_piece(&mut self, start: usize, text: &[u8], ends: bool, transaction: &mut Transaction) -> bool {
        self.head.extend_from_slice(text);
        if ends {
            self.head.push(b'\n');
        }
        let line = &self.head[start..];
        if ends && line == b"\n" {
            self.complete_header(start, false, transaction);
            return true;
        }
        // of a short line that is still open nobody can say whether it belongs to the header
        let told = ends || line.len() > OPEN_LINE;
        if told && !is_head_line(line, start == 0) {
            self.complete_header(start, true, transaction);
            return true;
        }
        if told && self.head.len() > self.most_header {
            self.trouble.get_or_insert(Trouble::HeaderTooBig);
            self.head = Vec::new();
        }
        if ends {
            self.line_start = Some(self.head.len());
        }
        false
    }

    /// The header ends at `end`; what follows there belongs to the body, which begins with a separator line.
    pub(super) fn complete_header(&mut self, end: usize, separate: bool, transaction: &mut Transaction) {
        let head = std::mem::take(&mut self.head);
        let (header, used) = Header::parse(&head[..end]);
        if header.len() > self.most_fields {
            self.trouble.get_or_insert(Trouble::HeaderTooBig);
        }
        transaction.message.header = header;
        self.line_start = None;
        let body = &mut transaction.message.body;
        let separate = separate || used < end;
        if separate {
            self.write(body, b"", true);
        }
        match self.binary && separate {
            false => self.write(body, &head[used..], false),
            // these are no header lines, so their CRLF belongs to the body
            true => {
                for line in head[used..].split_inclusive(|byte| *byte == b'\n') {
                    let text = line.strip_suffix(b"\n");
                    self.write(body, text.unwrap_or(line), false);
                    self.write(body, if text.is_some() { b"\r\n" } else { b"" }, false);
                }
            }
        }
    }
}

/// Whether a line, perhaps still open, can belong to a header: a field, a continuation, or a first mbox line.
fn is_head_line(line: &[u8], first: bool) -> bool {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return !first;
    }
    if first && line.starts_with(b"From ") {
        return true;
    }
    let name = line.iter().position(|byte| *byte == b':');
    name.is_some_and(|end| {
        // one that is longer is none, in however many pieces it comes
        (1..=OPEN_LINE).contains(&end)
            && line[..end]
                .trim_ascii_end()
                .iter()
                .all(|byte| (33..=126).contains(byte))
    })
}
