//! Certificates and keys from files.
//!
//! A daemon reads them as root and loads them again as the user who serves, at the start and at each HUP. What that
//! user may not read is kept as it was; the operator hears of it when the files have changed since.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::Trouble;

/// Modification time, size and inode.
type Stamp = (i64, i64, u64, u64);

struct Kept {
    bytes: Arc<[u8]>,
    stamp: Option<Stamp>,
}

#[derive(Default)]
struct State {
    loads: u32,
    files: HashMap<PathBuf, Kept>,
    folders: HashMap<PathBuf, Vec<PathBuf>>,
}

/// The files of certificates and keys as they were last read; lives as long as the daemon.
#[derive(Default)]
pub struct Keyring(Mutex<State>);

fn stamp(file: &Path) -> Option<Stamp> {
    let found = fs::metadata(file).ok()?;
    Some((found.mtime(), found.mtime_nsec(), found.size(), found.ino()))
}

impl Keyring {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name under which the next master gets the files.
    pub const KEPT: &'static str = "keys";

    /// The files as words for the next master.
    pub fn bequest(&self) -> (&'static str, Vec<u8>) {
        (Keyring::KEPT, self.state().parcel())
    }

    /// The files that a former master has left; an empty ring if this program does not understand them.
    pub fn left(words: &[u8]) -> Keyring {
        Keyring(Mutex::new(Parcel(words).state().unwrap_or_default()))
    }

    /// To be called when a configuration is about to be loaded. The second time follows the first at once, after
    /// root has been given up; nobody needs to be told then that root's files cannot be read.
    pub fn begin(&self) {
        self.state().loads += 1;
    }

    /// Reads files that belong together: all of them as they are now, or all as they were kept.
    fn together(&self, files: &[&Path], troubles: &mut Vec<Trouble>) -> Result<Vec<Arc<[u8]>>, Trouble> {
        let mut state = self.state();
        let mut read = Vec::new();
        for file in files {
            match fs::read(file) {
                Ok(bytes) => read.push(Kept {
                    bytes: bytes.into(),
                    stamp: stamp(file),
                }),
                Err(why) => return state.kept(files, file, &why, troubles),
            }
        }
        let all = read.iter().map(|kept| kept.bytes.clone()).collect();
        let paths = files.iter().map(|file| file.to_path_buf());
        state.files.extend(paths.zip(read));
        Ok(all)
    }

    /// The certificates of a file.
    ///
    /// # Errors
    /// It cannot be read, or holds none.
    pub(super) fn certificates(
        &self,
        file: &Path,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Vec<CertificateDer<'static>>, Trouble> {
        let bytes = self.together(&[file], troubles)?;
        certificates(file, &bytes[0])
    }

    /// The files of a folder and of its folders, in their order.
    pub(super) fn folder(&self, folder: &Path, troubles: &mut Vec<Trouble>) -> Result<Vec<PathBuf>, Trouble> {
        let mut state = self.state();
        match list(folder) {
            Ok(files) => {
                state.folders.insert(folder.to_owned(), files.clone());
                Ok(files)
            }
            Err(why) => match state.folders.get(folder) {
                Some(files) => {
                    if state.loads > 2 {
                        troubles.push(Trouble::warning(folder, format!("{why}; what was in it is used on")));
                    }
                    Ok(files.clone())
                }
                None => Err(Trouble::error(folder, format!("cannot be read: {why}"))),
            },
        }
    }
}

/// A keyring on its way from one master to the next: text and bytes, each behind its length.
struct Parcel<'a>(&'a [u8]);

impl Parcel<'_> {
    fn put(bytes: &[u8], to: &mut Vec<u8>) {
        to.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        to.extend_from_slice(bytes);
    }

    fn take(&mut self) -> Option<&[u8]> {
        let (length, rest) = self.0.split_first_chunk::<8>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (bytes, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn path(&mut self) -> Option<PathBuf> {
        Some(PathBuf::from(OsStr::from_bytes(self.take()?)))
    }

    /// What follows: all files, an empty path, all folders.
    fn state(&mut self) -> Option<State> {
        let mut state = State {
            // the files of one who is root cannot be read again, and an operator knows of that only at changes
            loads: 2,
            ..State::default()
        };
        loop {
            let path = self.path()?;
            if path.as_os_str().is_empty() {
                break;
            }
            let bytes = self.take()?.into();
            let stamp: Vec<u64> = self
                .take()?
                .as_chunks()
                .0
                .iter()
                .map(|word| u64::from_le_bytes(*word))
                .collect();
            let stamp = <[u64; 4]>::try_from(stamp).ok();
            let stamp = stamp.map(|[time, nanos, size, inode]| (time.cast_signed(), nanos.cast_signed(), size, inode));
            state.files.insert(path, Kept { bytes, stamp });
        }
        while !self.0.is_empty() {
            let folder = self.path()?;
            let mut inside = Parcel(self.take()?);
            let mut files = Vec::new();
            while !inside.0.is_empty() {
                files.push(inside.path()?);
            }
            state.folders.insert(folder, files);
        }
        Some(state)
    }
}

impl State {
    fn parcel(&self) -> Vec<u8> {
        let mut whole = Vec::new();
        let path = |path: &Path, to: &mut Vec<u8>| Parcel::put(path.as_os_str().as_bytes(), to);
        for (file, kept) in &self.files {
            path(file, &mut whole);
            Parcel::put(&kept.bytes, &mut whole);
            let stamp = kept.stamp.map(|(time, nanos, size, inode)| {
                [time.cast_unsigned(), nanos.cast_unsigned(), size, inode].map(u64::to_le_bytes)
            });
            Parcel::put(stamp.as_ref().map_or(&[], |stamp| stamp.as_flattened()), &mut whole);
        }
        Parcel::put(&[], &mut whole);
        for (folder, files) in &self.folders {
            let mut inside = Vec::new();
            files.iter().for_each(|file| path(file, &mut inside));
            path(folder, &mut whole);
            Parcel::put(&inside, &mut whole);
        }
        whole
    }

    fn kept(
        &self,
        files: &[&Path],
        unread: &Path,
        why: &io::Error,
        troubles: &mut Vec<Trouble>,
    ) -> Result<Vec<Arc<[u8]>>, Trouble> {
        let kept: Option<Vec<&Kept>> = files.iter().map(|file| self.files.get(*file)).collect();
        let Some(kept) = kept else {
            return Err(Trouble::error(unread, format!("cannot be read: {why}")));
        };
        let mut pairs = files.iter().zip(&kept);
        let changed = pairs.any(|(file, kept)| kept.stamp.is_none() || stamp(file) != kept.stamp);
        if self.loads > 2 && changed {
            let words = format!("cannot be read: {why}; what was read before is used on");
            troubles.push(Trouble::warning(unread, words));
        }
        Ok(kept.iter().map(|kept| kept.bytes.clone()).collect())
    }
}

fn list(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => files.extend(list_files(&path)?),
            false => files.push(path),
        }
    }
    files.sort();
    Ok(files)
}

fn list_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries: io::Result<Vec<_>> = fs::read_dir(folder)?.collect();
    let paths = entries?.into_iter().map(|entry| entry.path());
    Ok(paths.filter(|path| path.is_file()).collect())
}

fn certificates(file: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match all {
        Ok(all) if all.is_empty() => Err(Trouble::error(file, "holds no certificate in PEM form")),
        Ok(all) => Ok(all),
        Err(why) => Err(Trouble::error(file, format!("no certificate in PEM form: {why}"))),
    }
}

/// A certificate with its key, ready to be shown.
pub(super) struct Identity {
    pub(super) key: Arc<CertifiedKey>,
    /// The hosts it is for, in lower case.
    pub(super) names: Vec<String>,
}

/// Why there is no identity.
pub(super) enum Unusable {
    /// A file cannot be read.
    Unreadable(Trouble),
    /// What it holds is of no use.
    Bad(Trouble),
}

/// Reads a certificate and its key; `cas` complete the chain.
pub(super) fn identity(
    (cert, key): (&Path, &Path),
    cas: &[CertificateDer<'static>],
    ring: &Keyring,
    provider: &CryptoProvider,
    troubles: &mut Vec<Trouble>,
) -> Result<Identity, Unusable> {
    let files = ring.together(&[cert, key], troubles).map_err(Unusable::Unreadable)?;
    let mut chain = certificates(cert, &files[0]).map_err(Unusable::Bad)?;
    complete(&mut chain, cas);
    let bad = |file: &Path, why: String| Unusable::Bad(Trouble::error(file, why));
    let names = match X509Certificate::from_der(&chain[0]) {
        Ok((_, parsed)) => {
            troubles.extend(expired(cert, &parsed));
            names(&parsed)
        }
        Err(why) => return Err(bad(cert, format!("no certificate: {why}"))),
    };
    let private = private_key(&files[1]).map_err(|why| bad(key, why))?;
    match CertifiedKey::from_der(chain, private, provider) {
        Ok(whole) => Ok(Identity {
            key: Arc::new(whole),
            names,
        }),
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(bad(key, format!("is not the key of {}", cert.display())))
        }
        Err(why) => Err(bad(
            key,
            format!("no usable key: {why} (RSA keys need at least 2048 bits)"),
        )),
    }
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if pem.windows(9).any(|word| word == b"ENCRYPTED") {
        return Err("the key is encrypted, and nobody could be asked for its password; \
                    `openssl pkey -in KEY -out NEW` makes one without"
            .to_owned());
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|why| match why {
        rustls::pki_types::pem::Error::NoItemsFound => "holds no key in PEM form".to_owned(),
        other => format!("no key in PEM form: {other}"),
    })
}

/// Adds what stands between the certificate and a CA that clients know, if `cas` has it.
fn complete(chain: &mut Vec<CertificateDer<'static>>, cas: &[CertificateDer<'static>]) {
    while let Some(last) = chain.last() {
        let Ok((_, last)) = X509Certificate::from_der(last) else {
            return;
        };
        let issuer = last.issuer().as_raw();
        let issued = |ca: &&CertificateDer<'static>| {
            let parsed = X509Certificate::from_der(ca);
            // a root need not be sent: who does not know it will not believe it
            parsed.is_ok_and(|(_, ca)| ca.subject().as_raw() == issuer && ca.issuer().as_raw() != issuer)
        };
        match cas.iter().find(issued) {
            Some(next) if !chain.contains(next) => chain.push(next.clone()),
            _ => return,
        }
    }
}

fn expired(file: &Path, cert: &X509Certificate<'_>) -> Option<Trouble> {
    let validity = cert.validity();
    let now = x509_parser::time::ASN1Time::now();
    let why = if now < validity.not_before {
        format!("is not valid before {}", validity.not_before)
    } else if now > validity.not_after {
        format!("has expired, {}", validity.not_after)
    } else {
        return None;
    };
    Some(Trouble::warning(file, why))
}

/// The names and mail addresses of a certificate; the common name where there are no others.
pub(super) fn names(cert: &X509Certificate<'_>) -> Vec<String> {
    let alternatives = cert.subject_alternative_name().ok().flatten();
    let alternatives = alternatives.map(|found| found.value.general_names.as_slice());
    let names = alternatives.unwrap_or_default().iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::RFC822Name(name) => Some((*name).to_owned()),
        _ => None,
    });
    let names: Vec<String> = names.collect();
    if !names.is_empty() {
        return names;
    }
    let common = cert.subject().iter_common_name().filter_map(|name| name.as_str().ok());
    common.map(str::to_ascii_lowercase).collect()
}
