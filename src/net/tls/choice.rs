//! Which certificate a client is shown: by the name it calls us (SNI), and by the signatures it understands.
//!
//! A client that calls us by a name we have no certificate for, or by none, is shown the one that was named first.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::Trouble;
use super::keys::{Identity, Keyring, Unusable, identity};
use crate::session::tls::TlsPlan;

/// All certificates of a server.
#[derive(Debug)]
pub(super) struct Choice {
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    usual: Vec<Arc<CertifiedKey>>,
}

impl Choice {
    /// Reads the certificates of a plan; none if there is none, or if one is faulty.
    pub(super) fn load(
        plan: &TlsPlan,
        cas: &[CertificateDer<'static>],
        ring: &Keyring,
        provider: &CryptoProvider,
        troubles: &mut Vec<Trouble>,
    ) -> Option<Choice> {
        let mut pairs = vec![(plan.cert.clone(), plan.key.clone())];
        if let Some(folder) = &plan.folder {
            match ring.folder(folder, troubles) {
                Ok(files) => pairs.extend(pairs_of(&files, troubles)),
                Err(why) => troubles.push(why),
            }
        }
        let mut all = Vec::new();
        for (number, (cert, key)) in pairs.iter().enumerate() {
            match identity((cert, key), cas, ring, provider, troubles) {
                Ok(identity) => all.push(identity),
                // what nobody has asked for by name need not be there
                Err(Unusable::Unreadable(why)) if number == 0 && !plan.named => {
                    troubles.push(Trouble { error: false, ..why })
                }
                Err(Unusable::Unreadable(why) | Unusable::Bad(why)) => troubles.push(why),
            }
        }
        if troubles.iter().any(|trouble| trouble.error) {
            return None;
        }
        Choice::of(all)
    }

    fn of(all: Vec<Identity>) -> Option<Choice> {
        let first = all.first()?.names.clone();
        let mut choice = Choice {
            by_name: HashMap::new(),
            usual: Vec::new(),
        };
        for (number, one) in all.into_iter().enumerate() {
            if number == 0 || one.names.iter().any(|name| first.contains(name)) {
                choice.usual.push(one.key.clone());
            }
            for name in one.names {
                choice.by_name.entry(name).or_default().push(one.key.clone());
            }
        }
        // the cheapest first
        let cost = |one: &Arc<CertifiedKey>| one.key.algorithm() == SignatureAlgorithm::RSA;
        choice.usual.sort_by_key(cost);
        choice.by_name.values_mut().for_each(|some| some.sort_by_key(cost));
        Some(choice)
    }

    /// The certificates for a name.
    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        self.by_name.get(&name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_name.get(&format!("*.{parent}"))
        })
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.named(name));
        let all = named.into_iter().flatten().chain(&self.usual);
        let understood = |one: &&Arc<CertifiedKey>| one.key.choose_scheme(hello.signature_schemes()).is_some();
        all.into_iter().find(understood).cloned()
    }
}

/// The certificates of a folder with their keys: `NAME.crt` or `NAME.pem` with `NAME.key`, `NAME.pem` with the key in
/// it, or `fullchain.pem` with `privkey.pem`.
fn pairs_of(files: &[PathBuf], troubles: &mut Vec<Trouble>) -> Vec<(PathBuf, PathBuf)> {
    let has = |file: &Path| files.iter().any(|one| one == file);
    let mut pairs = Vec::new();
    for file in files {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let key = match (name, file.extension().and_then(|end| end.to_str())) {
            ("fullchain.pem", _) => file.with_file_name("privkey.pem"),
            // what ACME clients put beside it
            ("privkey.pem" | "cert.pem" | "chain.pem", _) => continue,
            (_, Some("crt" | "pem")) => file.with_extension("key"),
            _ => continue,
        };
        if has(&key) {
            pairs.push((file.clone(), key));
        } else if name.ends_with(".pem") && name != "fullchain.pem" {
            pairs.push((file.clone(), file.clone()));
        } else {
            troubles.push(Trouble::error(file, format!("its key {} is missing", key.display())));
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_of_a_folder_find_their_keys() {
        let files = [
            "a.crt",
            "a.key",
            "b.pem",
            "c.pem",
            "c.key",
            "README",
            "x/fullchain.pem",
            "x/privkey.pem",
            "y/chain.pem",
        ];
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let mut troubles = Vec::new();
        let pairs: Vec<(String, String)> = pairs_of(&files, &mut troubles)
            .iter()
            .map(|(cert, key)| (cert.display().to_string(), key.display().to_string()))
            .collect();
        let expected = [
            ("a.crt", "a.key"),
            ("b.pem", "b.pem"),
            ("c.pem", "c.key"),
            ("x/fullchain.pem", "x/privkey.pem"),
        ];
        assert_eq!(pairs, expected.map(|(cert, key)| (cert.to_owned(), key.to_owned())));
        assert_eq!(troubles, []);
        pairs_of(&[PathBuf::from("d.crt")], &mut troubles);
        assert_eq!(troubles[0].why, "d.crt: its key d.key is missing");
    }
}
