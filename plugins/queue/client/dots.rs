//! The message as SMTP sends it after DATA: lines end CRLF, a dot at the start of a line is doubled, and a line with
//! nothing but a dot is the end (RFC 5321 4.5.2).

use std::io::{self, Write};

use crate::plugin::memchr;

/// How much is collected for one write, in bytes.
const CHUNK: usize = 64 * 1024;

/// Writes a message with LF line ends to `out` in the form of SMTP.
pub struct Dots<W> {
    out: W,
    buffer: Vec<u8>,
    /// Whether the next byte begins a line.
    fresh: bool,
}

impl<W: Write> Dots<W> {
    /// At the start of a message.
    pub fn new(out: W) -> Dots<W> {
        Dots {
            out,
            buffer: Vec::with_capacity(CHUNK + 1024),
            fresh: true,
        }
    }

    /// The writer behind.
    pub fn out(&mut self) -> &mut W {
        &mut self.out
    }

    /// Writes the end of the message.
    ///
    /// # Errors
    /// Those of the writer behind. Then the end was not written, or not wholly.
    pub fn finish(mut self) -> io::Result<()> {
        if !self.fresh {
            self.buffer.extend_from_slice(b"\r\n");
        }
        self.buffer.extend_from_slice(b".\r\n");
        self.flush()
    }

    /// Takes a piece of a line, without its end.
    fn piece(&mut self, text: &[u8]) -> io::Result<()> {
        if self.fresh && text.first() == Some(&b'.') {
            self.buffer.push(b'.');
        }
        self.fresh = self.fresh && text.is_empty();
        for part in text.chunks(CHUNK) {
            if self.buffer.len() + part.len() > CHUNK {
                self.flush()?;
            }
            self.buffer.extend_from_slice(part);
        }
        Ok(())
    }
}

impl<W: Write> Write for Dots<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            self.piece(&rest[..end])?;
            self.buffer.extend_from_slice(b"\r\n");
            self.fresh = true;
            rest = &rest[end + 1..];
        }
        self.piece(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.out.write_all(&self.buffer);
        self.buffer.clear();
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(pieces: &[&str]) -> String {
        let mut out = Vec::new();
        let mut dots = Dots::new(&mut out);
        pieces
            .iter()
            .for_each(|piece| dots.write_all(piece.as_bytes()).unwrap());
        dots.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_and_dots() {
        for (text, want) in [
            ("", ".\r\n"),
            ("\n", "\r\n.\r\n"),
            ("a\n.\n..b\n\n", "a\r\n..\r\n...b\r\n\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("a\nb", "a\r\nb\r\n.\r\n"),
            ("a.\n b.", "a.\r\n b.\r\n.\r\n"),
        ] {
            assert_eq!(sent(&[text]), want, "{text:?}");
            let bytes: Vec<String> = text.chars().map(String::from).collect();
            assert_eq!(
                sent(&bytes.iter().map(String::as_str).collect::<Vec<_>>()),
                want,
                "{text:?}"
            );
        }
    }

    #[test]
    fn long_lines_and_long_messages() {
        let line = "x".repeat(3 * CHUNK + 1);
        assert_eq!(sent(&[&line, "\n", ".y\n"]), format!("{line}\r\n..y\r\n.\r\n"));
        let many = ".\n".repeat(CHUNK);
        assert_eq!(sent(&[&many]), format!("{}.\r\n", "..\r\n".repeat(CHUNK)));
    }
}
