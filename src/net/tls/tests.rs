//! Handshakes with rustls's own client, and what the files of certificates may do.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tempfile::TempDir;

use super::*;
use crate::net::cert::{KeyKind, Order, Subject, make};
use crate::net::{NoEnding, PolledWire};
use crate::session::tls::AskAt;
use crate::session::wire::Heard;

/// A folder with a CA and certificates of it.
pub(super) struct Pki {
    dir: TempDir,
}

impl Pki {
    pub(super) fn new() -> Pki {
        let pki = Pki {
            dir: TempDir::new().expect("a folder"),
        };
        pki.certificate("mail.example.com", KeyKind::P256);
        pki
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Makes `qpsmtpd-server.crt` and its key anew.
    pub(super) fn certificate(&self, host: &str, key: KeyKind) {
        let order = Order {
            folder: self.dir.path().to_owned(),
            subject: Subject {
                host: host.to_owned(),
                ..Subject::default()
            },
            names: Vec::new(),
            key,
            force: true,
        };
        make(&order).expect("certificates");
    }

    /// Makes one and moves it into the folder of further ones.
    fn further(&self, name: &str, host: &str, key: KeyKind) {
        let keep = ["crt", "key"].map(|end| {
            (
                end,
                fs::read(self.file(&format!("qpsmtpd-server.{end}"))).expect("read"),
            )
        });
        self.certificate(host, key);
        fs::create_dir_all(self.file("more")).expect("a folder");
        for (end, old) in keep {
            let file = self.file(&format!("qpsmtpd-server.{end}"));
            fs::rename(&file, self.file(&format!("more/{name}.{end}"))).expect("moved");
            fs::write(&file, old).expect("written");
        }
    }

    pub(super) fn plan(&self) -> TlsPlan {
        TlsPlan {
            cert: self.file("qpsmtpd-server.crt"),
            key: self.file("qpsmtpd-server.key"),
            named: true,
            ca: Some(self.file("qpsmtpd-ca.crt")),
            ca_named: true,
            folder: Some(self.file("more")).filter(|folder| folder.exists()),
            suites: SUITES.iter().map(|(name, _)| *name).collect(),
            clients: Vec::new(),
        }
    }
}

pub(super) fn built(plan: &TlsPlan) -> Arc<dyn Encrypt> {
    match server(plan, &Keyring::default()) {
        (Some(server), troubles) if troubles.is_empty() => server,
        (_, troubles) => panic!("{troubles:?}"),
    }
}

fn asking(pki: &Pki, ask: Ask) -> Arc<dyn Encrypt> {
    built(&TlsPlan {
        clients: vec![AskAt {
            ip: None,
            port: None,
            ask,
        }],
        ..pki.plan()
    })
}

/// How a client behaves.
struct Client<'a> {
    pki: &'a Pki,
    sni: &'a str,
    versions: &'a [&'static SupportedProtocolVersion],
    shows: bool,
    suites: Vec<rustls::SupportedCipherSuite>,
}

impl<'a> Client<'a> {
    fn new(pki: &'a Pki) -> Client<'a> {
        Client {
            pki,
            sni: "mail.example.com",
            versions: rustls::ALL_VERSIONS,
            shows: false,
            suites: default_provider().cipher_suites,
        }
    }

    /// Connects, says a line, and gives what it has heard, and the name in the server's certificate.
    fn talk(self, socket: UnixStream) -> JoinHandle<Result<String, String>> {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(self.pki.file("qpsmtpd-ca.crt")).expect("the CA");
        roots.add(ca).expect("a root");
        let provider = CryptoProvider {
            cipher_suites: self.suites,
            ..default_provider()
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(self.versions)
            .expect("versions")
            .with_root_certificates(roots);
        let config = match self.shows {
            false => builder.with_no_client_auth(),
            true => {
                let own = CertificateDer::from_pem_file(self.pki.file("qpsmtpd-server.crt")).expect("a certificate");
                let key = PrivateKeyDer::from_pem_file(self.pki.file("qpsmtpd-server.key")).expect("a key");
                builder.with_client_auth_cert(vec![own], key).expect("a pair")
            }
        };
        let name = ServerName::try_from(self.sni.to_owned()).expect("a name");
        let connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        std::thread::spawn(move || {
            let mut stream = StreamOwned::new(connection, socket);
            let words = |why: std::io::Error| why.to_string();
            stream.write_all(b"hello\r\n").map_err(words)?;
            let mut heard = String::new();
            stream.read_to_string(&mut heard).map_err(words)?;
            Ok(heard)
        })
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// A session of one line; the facts, or why there was none, and what became of the client.
fn meet(server: &Arc<dyn Encrypt>, client: Client<'_>) -> (Result<Tls, String>, Result<String, String>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("nonblocking");
    let client = client.talk(theirs);
    let clear = Box::new(PolledWire::new(ours, Arc::new(NoEnding)));
    let facts = server.accept(clear, (None, 25), soon()).map(|(mut wire, facts)| {
        let mut buffer = [0; 64];
        assert_eq!(wire.read(&mut buffer, soon(), false).ok(), Some(Heard::Bytes(7)));
        assert_eq!(&buffer[..7], b"hello\r\n");
        // more than the buffers of rustls and of the socket hold
        wire.write(&[b'x'; 300_000], soon()).expect("written");
        facts
    });
    (facts, client.join().expect("the client"))
}

#[test]
fn both_versions_are_spoken_and_the_newer_is_preferred() {
    let pki = Pki::new();
    let server = built(&pki.plan());
    let (facts, heard) = meet(&server, Client::new(&pki));
    let facts = facts.expect("TLS");
    assert_eq!(heard.map(|text| text.len()), Ok(300_000));
    assert_eq!((&*facts.version, &*facts.cipher), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"));
    assert_eq!(facts.group.as_deref(), Some("X25519MLKEM768"));
    assert_eq!(facts.sni.as_deref(), Some("mail.example.com"));
    assert!(facts.client.is_none() && facts.binding.is_some_and(|binding| binding != [0; 32]));
    let old = Client {
        versions: &[&TLS12],
        ..Client::new(&pki)
    };
    let facts = meet(&server, old).0.expect("TLS");
    assert_eq!(
        (&*facts.version, &*facts.cipher),
        ("TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384")
    );
    assert!(facts.binding.is_none());
}

#[test]
fn only_the_suites_of_the_plan_are_spoken() {
    let pki = Pki::new();
    let only = |suites: &[&'static str]| {
        built(&TlsPlan {
            suites: suites.to_vec(),
            ..pki.plan()
        })
    };
    let new = only(&["TLS_CHACHA20_POLY1305_SHA256"]);
    let facts = meet(&new, Client::new(&pki)).0.expect("TLS");
    assert_eq!(facts.cipher, "TLS_CHACHA20_POLY1305_SHA256");
    let old = Client {
        versions: &[&TLS12],
        ..Client::new(&pki)
    };
    let (facts, client) = meet(&new, old);
    assert!(facts.is_err_and(|why| why.contains("speaks neither TLS 1.2 nor 1.3, or not the one")));
    assert!(client.is_err());
    let facts = meet(&only(&["ECDHE-ECDSA-AES128-GCM-SHA256"]), Client::new(&pki))
        .0
        .expect("TLS");
    assert_eq!(
        (&*facts.version, &*facts.cipher),
        ("TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")
    );
}

#[test]
fn the_certificate_follows_the_name_and_the_client_s_abilities() {
    let pki = Pki::new();
    pki.further("other", "other.example.com", KeyKind::P256);
    pki.further("wild", "*.example.net", KeyKind::P256);
    pki.further("old", "mail.example.com", KeyKind::Rsa);
    let server = built(&pki.plan());
    for sni in [
        "other.example.com",
        "OTHER.example.com",
        "a.example.net",
        "mail.example.com",
    ] {
        let client = Client {
            sni,
            ..Client::new(&pki)
        };
        // the client checks the name
        assert!(meet(&server, client).1.is_ok(), "{sni}");
    }
    let unknown = Client {
        sni: "unknown.example.org",
        ..Client::new(&pki)
    };
    let (_, client) = meet_failing(&server, unknown);
    assert!(
        client.is_err_and(|why| why.contains("mail.example.com")),
        "the usual one is shown"
    );
    let rsa = |suite: &rustls::SupportedCipherSuite| format!("{suite:?}").contains("RSA_WITH");
    let mut suites = default_provider().cipher_suites;
    suites.retain(|suite| rsa(suite) && !format!("{suite:?}").contains("ECDSA"));
    let only_rsa = Client {
        versions: &[&TLS12],
        suites,
        ..Client::new(&pki)
    };
    let facts = meet(&server, only_rsa).0.expect("TLS");
    assert_eq!(facts.cipher, "ECDHE-RSA-AES256-GCM-SHA384");
}

/// As `meet`, with a client that may leave at any time.
fn meet_failing(server: &Arc<dyn Encrypt>, client: Client<'_>) -> (Result<(), String>, Result<String, String>) {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("nonblocking");
    let client = client.talk(theirs);
    let clear = Box::new(PolledWire::new(ours, Arc::new(NoEnding)));
    let met = server.accept(clear, (None, 25), soon()).map(|_| ());
    (met, client.join().expect("the client"))
}

#[test]
fn clients_show_certificates_where_they_are_asked() {
    let pki = Pki::new();
    let showing = |shows| Client {
        shows,
        ..Client::new(&pki)
    };
    let request = asking(&pki, Ask::Request);
    assert!(meet(&request, showing(false)).0.expect("TLS").client.is_none());
    let shown = meet(&request, showing(true))
        .0
        .expect("TLS")
        .client
        .expect("a certificate");
    assert!(
        shown.verified && shown.subject.contains("CN=mail.example.com"),
        "{shown:?}"
    );
    assert_eq!(shown.names, ["mail.example.com"]);
    assert_eq!(shown.fingerprint.len(), 95);
    let require = asking(&pki, Ask::Require);
    assert!(meet(&require, showing(true)).0.is_ok());
    let (facts, _) = meet_failing(&require, showing(false));
    assert!(facts.is_err_and(|why| why.starts_with("the client showed no certificate")));
    // a stranger: another CA with the same files
    let stranger = Pki::new();
    fs::copy(pki.file("qpsmtpd-ca.crt"), stranger.file("qpsmtpd-ca.crt")).expect("copied");
    let of_stranger = || Client {
        shows: true,
        ..Client::new(&stranger)
    };
    let shown = meet(&request, of_stranger())
        .0
        .expect("TLS")
        .client
        .expect("a certificate");
    assert!(!shown.verified);
    assert!(meet_failing(&require, of_stranger()).0.is_err());
}

#[test]
fn a_handshake_that_fails_says_why() {
    let pki = Pki::new();
    let server = built(&pki.plan());
    let refused = |bytes: &[u8]| {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).expect("nonblocking");
        theirs.write_all(bytes).expect("written");
        theirs.shutdown(std::net::Shutdown::Write).expect("shut down");
        let clear = Box::new(PolledWire::new(ours, Arc::new(NoEnding)));
        let why = server.accept(clear, (None, 25), soon()).map(|_| ()).unwrap_err();
        let mut answer = Vec::new();
        theirs.read_to_end(&mut answer).expect("read");
        (why, answer)
    };
    assert_eq!(refused(b"").0, "the client closed the connection");
    let (why, answer) = refused(b"EHLO client.example\r\nQUIT\r\n");
    assert!(why.starts_with("what the client sent is no TLS"), "{why}");
    // an alert and nothing in clear
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    let (ours, _theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("nonblocking");
    let clear = Box::new(PolledWire::new(ours, Arc::new(NoEnding)));
    let why = server.accept(clear, (None, 25), Instant::now() + Duration::from_millis(5));
    assert_eq!(why.map(|_| ()).unwrap_err(), "not done in time");
}

fn troubles(plan: &TlsPlan) -> Vec<(bool, String)> {
    let (server, troubles) = server(plan, &Keyring::default());
    assert!(server.is_none());
    troubles
        .into_iter()
        .map(|trouble| (trouble.error, trouble.why))
        .collect()
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let pki = Pki::new();
    let told = |plan: &TlsPlan, part: &str| {
        let troubles = troubles(plan);
        assert!(
            troubles.len() == 1 && troubles[0].0 && troubles[0].1.contains(part),
            "{troubles:?}"
        );
    };
    let with_key = |name: &str, text: &str| {
        fs::write(pki.file(name), text).expect("written");
        TlsPlan {
            key: pki.file(name),
            ..pki.plan()
        }
    };
    told(&with_key("empty.key", ""), "empty.key: holds no key in PEM form");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    told(&with_key("enc.key", encrypted), "enc.key: the key is encrypted");
    let other = Pki::new();
    let foreign = fs::read_to_string(other.file("qpsmtpd-server.key")).expect("read");
    told(&with_key("other.key", &foreign), "other.key: is not the key of");
    let missing = TlsPlan {
        key: pki.file("missing.key"),
        ..pki.plan()
    };
    told(&missing, "missing.key: cannot be read: No such file");
    let no_cert = TlsPlan {
        cert: pki.file("qpsmtpd-server.key"),
        ..pki.plan()
    };
    told(&no_cert, "holds no certificate");
    // nobody has named them: a remark, and no TLS
    let usual = TlsPlan {
        named: false,
        ..missing
    };
    let troubles = troubles(&usual);
    assert!(!troubles[0].0, "{troubles:?}");
    let no_ca = TlsPlan {
        ca: Some(pki.file("missing.crt")),
        ca_named: false,
        ..pki.plan()
    };
    assert!(server(&no_ca, &Keyring::default()).0.is_some());
    let required = TlsPlan {
        clients: vec![AskAt {
            ip: None,
            port: Some(465),
            ask: Ask::Require,
        }],
        ..no_ca
    };
    told(&required, "no CA to check");
}

#[test]
fn what_cannot_be_read_again_is_kept() {
    let pki = Pki::new();
    let ring = Keyring::default();
    let plan = pki.plan();
    let load = || {
        ring.begin();
        let (server, troubles) = server(&plan, &ring);
        assert!(server.is_some(), "{troubles:?}");
        troubles
    };
    let subject = |server: &Arc<dyn Encrypt>| meet(server, Client::new(&pki)).1.is_ok();
    assert_eq!(load(), []);
    hide(&plan.key);
    // root has been given up
    assert_eq!(load(), []);
    assert!(subject(&server(&plan, &ring).0.expect("a server")));
    // a renewal that cannot be read: neither key nor certificate is taken
    fs::remove_dir(&plan.key).expect("removed");
    pki.certificate("mail.example.com", KeyKind::P256);
    hide(&plan.key);
    let troubles = load();
    assert!(
        troubles[0].why.contains("what was read before is used on"),
        "{troubles:?}"
    );
    assert!(!troubles[0].error);
    assert!(subject(&server(&plan, &ring).0.expect("a server")));
    // one that can
    fs::remove_dir(&plan.key).expect("removed");
    pki.certificate("mail.example.com", KeyKind::P256);
    assert_eq!(load(), []);
}

/// Makes a file unreadable, even for root: puts a folder in its place.
fn hide(file: &Path) {
    fs::remove_file(file).expect("removed");
    fs::create_dir(file).expect("a folder");
}

#[test]
fn a_ring_goes_from_master_to_master() {
    let pki = Pki::new();
    let (cert, folder) = (pki.plan().cert, pki.dir.path().to_owned());
    let ring = Keyring::default();
    let certificates = |ring: &Keyring| ring.certificates(&cert, &mut Vec::new()).map_err(|trouble| trouble.why);
    let inside = |ring: &Keyring| ring.folder(&folder, &mut Vec::new()).map_err(|trouble| trouble.why);
    let (first, files) = (certificates(&ring).expect("read"), inside(&ring).expect("read"));
    let (_, words) = ring.bequest();
    drop(pki);
    let next = Keyring::left(&words);
    assert_eq!((certificates(&next), inside(&next)), (Ok(first), Ok(files)));
    for cut in [0, 7, 100, words.len() - 1] {
        assert!(certificates(&Keyring::left(&words[..cut])).is_err());
    }
}
