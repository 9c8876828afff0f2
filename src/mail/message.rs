//! A message: header and body, as the queue gets it (catalogue 1.5).

use std::io::{self, BufRead, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use super::body::{Body, BodyReader, Spool};
use super::header::Header;
use super::spool::SpoolFile;

/// A message. The body begins with the empty line that separates it from the header, if the message had one, so that
/// header and body, one after the other, are the message.
#[derive(Debug)]
pub struct Message {
    /// The fields, edited or not.
    pub header: Header,
    /// What follows them, separator line included.
    pub body: Body,
}

impl Message {
    /// A message without content.
    pub fn new(spool: &Arc<Spool>) -> Message {
        Message {
            header: Header::new(),
            body: Body::new(spool),
        }
    }

    /// Splits a whole message with LF line ends. If the header ends at a line that is neither a field nor empty, a
    /// separator is put in front of that line.
    ///
    /// # Errors
    /// The body cannot be spooled.
    pub fn parse(spool: &Arc<Spool>, text: &[u8]) -> io::Result<Message> {
        let (header, used) = Header::parse(text);
        let mut body = Body::new(spool);
        let rest = &text[used..];
        if !rest.is_empty() && !rest.starts_with(b"\n") {
            body.write(b"\n")?;
        }
        body.write(rest)?;
        Ok(Message { header, body })
    }

    /// Writes the whole message.
    ///
    /// # Errors
    /// Those of the spool file and of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        self.header.write_to(out)?;
        self.body.copy_to(out)
    }

    /// The size of the whole message in bytes.
    pub fn size(&self) -> u64 {
        self.header.bytes() as u64 + self.body.len()
    }

    /// A reader of the body after the separator line.
    ///
    /// # Errors
    /// The spool file cannot be read.
    pub fn body_text_reader(&self) -> io::Result<BodyReader<'_>> {
        let mut reader = self.body.reader()?;
        if reader.fill_buf()?.first() == Some(&b'\n') {
            reader.seek(SeekFrom::Start(1))?;
        }
        Ok(reader)
    }

    /// The whole message in a new file of the spool, for scanners that want a path. It is removed with the value that
    /// is returned.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn to_file(&self) -> io::Result<MessageFile> {
        let spooled = self.body.spool().create()?;
        let mut out = &spooled.file;
        let mut head = BufWriter::new(&mut out);
        self.header.write_to(&mut head)?;
        head.flush()?;
        drop(head);
        self.body.copy_to(&mut out)?;
        Ok(MessageFile(spooled))
    }
}

impl Message {
    /// Keeps a copy of the whole message in the spool under this name, unless there is one already.
    ///
    /// # Errors
    /// The file cannot be made or written.
    pub fn set_aside(&self, name: &str) -> io::Result<()> {
        let file = self.to_file()?;
        match std::fs::hard_link(file.path(), self.body.spool().dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }
}

/// A file that holds a whole message and vanishes with this value.
#[derive(Debug)]
pub struct MessageFile(SpoolFile);

impl MessageFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn parse(text: &str) -> Message {
        Message::parse(&Arc::new(Spool::in_memory()), text.as_bytes()).unwrap()
    }

    fn written(message: &Message) -> String {
        let mut out = Vec::new();
        message.write_to(&mut out).unwrap();
        assert_eq!(out.len() as u64, message.size());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn goes_out_as_it_came() {
        for text in [
            "",
            "\n",
            "A: b\n",
            "A: b\n\n",
            "A: b\n\nbody\n",
            "\nbody\n",
            "\n\n\n",
            "A: b\n c\n\n\nx",
        ] {
            assert_eq!(written(&parse(text)), text);
        }
        assert_eq!(written(&parse("A: b\nno field\n")), "A: b\n\nno field\n");
        assert_eq!(written(&parse("no field\n")), "\nno field\n");
    }

    #[test]
    fn text_of_the_body() {
        for (text, want) in [
            ("A: b\n\n\nx\n", "\nx\n"),
            ("A: b\n", ""),
            ("A: b\n\n", ""),
            ("x\n", "x\n"),
        ] {
            let mut body = String::new();
            parse(text)
                .body_text_reader()
                .unwrap()
                .read_to_string(&mut body)
                .unwrap();
            assert_eq!(body, want);
        }
        let mut message = parse("");
        message.body.write(b"no separator").unwrap();
        let mut body = String::new();
        message.body_text_reader().unwrap().read_to_string(&mut body).unwrap();
        assert_eq!(body, "no separator");
    }

    #[test]
    fn as_a_file() {
        let dir = tempfile::tempdir().unwrap();
        for threshold in [0, u64::MAX] {
            let spool = Arc::new(Spool {
                dir: dir.path().to_owned(),
                threshold,
                perms: 0o700,
            });
            let text = format!("A: b\n\n{}\n", "x".repeat(100_000));
            let message = Message::parse(&spool, text.as_bytes()).unwrap();
            let file = message.to_file().unwrap();
            assert_eq!(std::fs::read_to_string(file.path()).unwrap(), text);
            drop((file, message));
            assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }
}
