//! Reading a body, wherever it lies.

use std::fs::File;
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use super::CHUNK;

/// Reads a [`Body`] from its file and from memory as one.
#[derive(Debug)]
pub struct BodyReader<'a> {
    file: Option<&'a File>,
    filed: u64,
    memory: &'a [u8],
    at: u64,
    /// A piece of the file, and where it lies there.
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> BodyReader<'a> {
    /// A reader of the first `filed` bytes of a file and of `memory` after them.
    pub(super) fn new(file: Option<&'a File>, filed: u64, memory: &'a [u8]) -> BodyReader<'a> {
        BodyReader {
            file,
            filed,
            memory,
            at: 0,
            chunk: Vec::new(),
            chunk_at: 0,
        }
    }

    fn len(&self) -> u64 {
        self.filed + self.memory.len() as u64
    }

    /// Reads the piece of the file that begins at the present position.
    fn load(&mut self, file: &File) -> io::Result<()> {
        let want = (self.filed - self.at).min(CHUNK as u64) as usize;
        self.chunk.resize(want, 0);
        let got = loop {
            match file.read_at(&mut self.chunk, self.at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.chunk.truncate(*got.as_ref().unwrap_or(&0));
        self.chunk_at = self.at;
        // Somebody has cut the file; better an error than half a message.
        if got? == 0 {
            Err(io::ErrorKind::UnexpectedEof.into())
        } else {
            Ok(())
        }
    }
}

impl BufRead for BodyReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if let Some(file) = self.file.filter(|_| self.at < self.filed) {
            let loaded = self.chunk_at <= self.at && self.at < self.chunk_at + self.chunk.len() as u64;
            if !loaded {
                self.load(file)?;
            }
            return Ok(&self.chunk[(self.at - self.chunk_at) as usize..]);
        }
        let at = usize::try_from(self.at.saturating_sub(self.filed)).unwrap_or(usize::MAX);
        Ok(self.memory.get(at..).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.at += amount as u64;
    }
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let n = available.len().min(buffer.len());
        buffer[..n].copy_from_slice(&available[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl Seek for BodyReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.len().checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
