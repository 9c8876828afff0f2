//! The body of a message: in memory while it is small, in a spool file when it grows (catalogue 1.5, item 6).
//!
//! What has been written last always lies in memory, so a small write never costs a system call, and a reader sees
//! file and memory as one. A body that fits in the buffer for writing needs no file, whatever the threshold says; it
//! gets one when a plugin asks for its path. One that should stay in memory gets one, too, if there is no memory for it.
//! The file vanishes with the body.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

mod reader;

use super::spare::Spares;
use super::spool::SpoolFile;
pub use super::spool::{Spool, is_full, sweep};
pub use reader::BodyReader;

/// How much is collected for one write to the spool file, and read from it at once, in bytes.
const CHUNK: usize = 64 * 1024;
/// The first size of the buffer.
const FIRST: usize = 4 * 1024;
/// The largest buffer that is kept for the next message.
const KEEP: usize = 2 * CHUNK;
/// The buffers of earlier bodies, for the next.
static SPARES: Spares = Spares::new();

/// The body of a message.
#[derive(Debug)]
pub struct Body {
    spool: Arc<Spool>,
    file: Option<SpoolFile>,
    /// How many bytes are in the file.
    filed: u64,
    /// What comes after those.
    memory: Vec<u8>,
}

impl Body {
    /// An empty body.
    pub fn new(spool: &Arc<Spool>) -> Body {
        Body {
            spool: Arc::clone(spool),
            file: None,
            filed: 0,
            memory: Vec::new(),
        }
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The spool file cannot be made or written; see [`is_full`]. The body is then of no more use.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.memory.capacity() == 0 {
            self.memory = SPARES.take().unwrap_or_else(|| Vec::with_capacity(FIRST));
        }
        let fits = self.memory.len() + bytes.len() <= CHUNK;
        if !fits && (self.file.is_some() || self.len() + bytes.len() as u64 >= self.spool.threshold) {
            self.flush()?;
            if bytes.len() >= CHUNK {
                return self.write_file(bytes);
            }
        }
        // one message less in memory is better than a worker less
        if self.memory.try_reserve(bytes.len()).is_err() {
            self.flush()?;
            self.memory = Vec::new();
            return self.write_file(bytes);
        }
        self.memory.extend_from_slice(bytes);
        Ok(())
    }

    /// Appends a line and its LF; else as [`Body::write`].
    ///
    /// # Errors
    /// Those of [`Body::write`].
    pub fn write_line(&mut self, text: &[u8]) -> io::Result<()> {
        let end = self.memory.len() + text.len() + 1;
        if end > CHUNK || end > self.memory.capacity() {
            self.write(text)?;
            return self.write(b"\n");
        }
        self.memory.extend_from_slice(text);
        self.memory.push(b'\n');
        Ok(())
    }

    /// The size in bytes.
    pub fn len(&self) -> u64 {
        self.filed + self.memory.len() as u64
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is a spool file.
    pub fn is_spooled(&self) -> bool {
        self.file.is_some()
    }

    /// The spool this body belongs to.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// A reader at the start of the body. There may be several at a time.
    ///
    /// # Errors
    /// None at present.
    pub fn reader(&self) -> io::Result<BodyReader<'_>> {
        let file = self.file.as_ref().map(|spooled| &spooled.file);
        Ok(BodyReader::new(file, self.filed, &self.memory))
    }

    /// The whole body, if it lies in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        (self.filed == 0).then_some(self.memory.as_slice())
    }

    /// The path of a file that holds the whole body; it is made if there is none.
    ///
    /// # Errors
    /// The spool file cannot be made or written.
    pub fn path(&mut self) -> io::Result<&Path> {
        self.flush()?;
        match &self.file {
            Some(spooled) => Ok(&spooled.path),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Writes the whole body to `out`, from file to file within the kernel where it can do that.
    ///
    /// # Errors
    /// Those of reading the spool file and of `out`.
    pub fn copy_to(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(spooled) = self.file.as_ref().filter(|_| self.filed > 0) {
            // A file of its own has a position of its own, so readers and copies do not disturb each other.
            let copied = io::copy(&mut File::open(&spooled.path)?.take(self.filed), out)?;
            if copied != self.filed {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        out.write_all(&self.memory)
    }

    /// Puts what `source` yields in place of the body. If that fails, the body stays as it was.
    ///
    /// # Errors
    /// Those of `source` and of [`Body::write`].
    pub fn replace_with(&mut self, mut source: impl Read) -> io::Result<()> {
        self.rewrite(|_, new| {
            let mut chunk = vec![0; CHUNK];
            loop {
                match source.read(&mut chunk) {
                    Ok(0) => return Ok(()),
                    Ok(n) => new.write(&chunk[..n])?,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        })
    }

    /// Puts in place of the body what `rewrite` makes of it. If that fails, the body stays as it was.
    ///
    /// # Errors
    /// Those of `rewrite`.
    pub fn rewrite(&mut self, rewrite: impl FnOnce(BodyReader<'_>, &mut Body) -> io::Result<()>) -> io::Result<()> {
        let mut new = Body::new(&self.spool);
        rewrite(self.reader()?, &mut new)?;
        *self = new;
        Ok(())
    }

    /// Empties the body; its file is removed.
    pub fn clear(&mut self) {
        self.file = None;
        self.filed = 0;
        self.memory.clear();
    }

    /// Moves what is in memory to the file, which is made if there is none.
    fn flush(&mut self) -> io::Result<()> {
        let memory = std::mem::take(&mut self.memory);
        let result = self.write_file(&memory);
        self.memory = memory;
        self.memory.clear();
        result
    }

    fn write_file(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match &self.file {
            Some(spooled) => &spooled.file,
            None => &self.file.insert(self.spool.create()?).file,
        };
        file.write_all(bytes)?;
        self.filed += bytes.len() as u64;
        Ok(())
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if (1..=KEEP).contains(&self.memory.capacity()) {
            self.memory.clear();
            SPARES.give(std::mem::take(&mut self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Seek, SeekFrom};

    use proptest::prelude::*;

    use super::*;

    struct Place {
        dir: tempfile::TempDir,
        spool: Arc<Spool>,
    }

    fn place(threshold: u64) -> Place {
        let dir = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool {
            dir: dir.path().to_owned(),
            threshold,
            perms: 0o700,
        });
        Place { dir, spool }
    }

    impl Place {
        fn body(&self, content: &[u8]) -> Body {
            let mut body = Body::new(&self.spool);
            body.write(content).unwrap();
            body
        }

        fn files(&self) -> usize {
            std::fs::read_dir(self.dir.path()).unwrap().count()
        }
    }

    fn read(body: &Body) -> Vec<u8> {
        let mut content = Vec::new();
        body.reader().unwrap().read_to_end(&mut content).unwrap();
        content
    }

    #[test]
    fn threshold() {
        let cases = [
            (0, 0, 0),
            (0, CHUNK, 0),
            (0, CHUNK + 1, 1),
            (100_000, 99_999, 0),
            (100_000, 100_000, 1),
            (u64::MAX, 200_000, 0),
        ];
        for (threshold, size, files) in cases {
            let place = place(threshold);
            let body = place.body(&vec![b'x'; size]);
            assert_eq!(
                (place.files(), body.is_spooled(), body.len()),
                (files, files == 1, size as u64)
            );
            assert_eq!(read(&body).len(), size);
            drop(body);
            assert_eq!(place.files(), 0);
        }
    }

    #[test]
    fn a_path_holds_everything() {
        let place = place(1000);
        let mut body = place.body(b"hello ");
        let path = body.path().unwrap().to_owned();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello ");
        body.write(b"world").unwrap();
        assert_eq!(read(&body), b"hello world");
        assert_eq!(body.path().unwrap(), path);
        assert_eq!(std::fs::read(&path).unwrap(), b"hello world");
        body.clear();
        assert!(body.is_empty() && !path.exists());
    }

    #[test]
    fn readers_seek_and_do_not_disturb_each_other() {
        let place = place(0);
        let content: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        let mut body = place.body(&content[..150_000]);
        body.write(&content[150_000..]).unwrap();
        assert!(body.filed > 0 && !body.memory.is_empty());
        let (mut one, mut two) = (body.reader().unwrap(), body.reader().unwrap());
        let mut byte = [0];
        for at in [0, 1, 65_535, 65_536, 149_999, 150_000, 199_999, 3] {
            one.seek(SeekFrom::Start(at)).unwrap();
            one.read_exact(&mut byte).unwrap();
            assert_eq!(byte[0], content[at as usize], "{at}");
            two.read_exact(&mut byte).unwrap();
        }
        assert_eq!(two.stream_position().unwrap(), 8);
        assert_eq!(one.seek(SeekFrom::End(-1)).unwrap(), 199_999);
        assert_eq!(one.seek(SeekFrom::End(5)).unwrap(), 200_005);
        assert_eq!(one.read(&mut byte).unwrap(), 0);
        assert!(one.seek(SeekFrom::Current(-200_006)).is_err());
    }

    #[test]
    fn copies() {
        for threshold in [0, u64::MAX] {
            let place = place(threshold);
            let content = vec![b'y'; 100_000];
            let body = place.body(&content);
            let mut out = Vec::new();
            body.copy_to(&mut out).unwrap();
            assert_eq!(out, content);
            let path = place.dir.path().join("copy");
            let mut file = File::create(&path).unwrap();
            file.write_all(b"head").unwrap();
            body.copy_to(&mut file).unwrap();
            body.copy_to(&mut file).unwrap();
            assert_eq!(std::fs::read(&path).unwrap().len(), 4 + 200_000);
        }
    }

    #[test]
    fn replacing_is_all_or_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let place = place(0);
        let mut body = place.body(b"old");
        body.path().unwrap();
        assert!(body.replace_with(b"new".as_slice().chain(Broken)).is_err());
        assert_eq!((read(&body), place.files()), (b"old".to_vec(), 1));
        body.replace_with(b"new".as_slice()).unwrap();
        assert_eq!((read(&body), place.files()), (b"new".to_vec(), 0));
        body.rewrite(|old, new| {
            old.lines()
                .try_for_each(|line| new.write(line?.to_uppercase().as_bytes()))
        })
        .unwrap();
        assert_eq!(read(&body), b"NEW");
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let place = place(10);
        let mut body = place.body(b"small");
        std::fs::remove_dir(place.dir.path()).unwrap();
        assert!(body.write(&[b'x'; CHUNK]).is_err());
        assert!(place.body(b"small").path().is_err());
    }

    #[test]
    fn a_file_that_was_cut_is_an_error() {
        let place = place(0);
        let mut body = place.body(b"content");
        let path = body.path().unwrap().to_owned();
        File::options().write(true).open(path).unwrap().set_len(3).unwrap();
        assert!(body.reader().unwrap().read_to_end(&mut Vec::new()).is_err());
        assert!(body.copy_to(&mut Vec::new()).is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn what_goes_in_comes_out(sizes in prop::collection::vec(prop_oneof![0usize..100, 0usize..100_000], 0..12), threshold in 0u64..150_000) {
            let place = place(threshold);
            let mut body = Body::new(&place.spool);
            let mut want = Vec::new();
            for (n, size) in sizes.iter().enumerate() {
                let piece = vec![n as u8; *size];
                body.write(&piece).unwrap();
                want.extend_from_slice(&piece);
            }
            prop_assert_eq!(body.len(), want.len() as u64);
            prop_assert!(read(&body) == want);
            let mut copy = Vec::new();
            body.copy_to(&mut copy).unwrap();
            prop_assert!(copy == want);
            prop_assert!(std::fs::read(body.path().unwrap()).unwrap() == want);
        }
    }
}
