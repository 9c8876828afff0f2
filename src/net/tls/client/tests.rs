//! Handshakes of our client with our server, over sockets: whom it believes, and whom not.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::Sha512;

use super::super::tests::{Pki, built};
use super::*;
use crate::net::cert::KeyKind;
use crate::net::{Dialler, NoEnding, PolledWire};
use crate::session::remote::{Dial, Remote, Target};
use crate::session::tls::TlsPlan;
use crate::session::trust::{Roots, Tlsa};
use crate::session::wire::Heard;

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

/// Greets one client under TLS and repeats what it says; gives why the handshake failed, or the name it was called.
fn serve(plan: &TlsPlan, listener: UnixListener) -> JoinHandle<Result<Option<String>, String>> {
    let server = built(plan);
    std::thread::spawn(move || {
        let (socket, _) = listener.accept().map_err(|why| why.to_string())?;
        socket.set_nonblocking(true).map_err(|why| why.to_string())?;
        let clear = Box::new(PolledWire::new(socket, Arc::new(NoEnding)));
        let (mut wire, facts) = server.accept(clear, (None, 25), soon())?;
        wire.write(b"220 hello\r\n", soon()).map_err(|why| why.to_string())?;
        let mut buffer = vec![0; 1 << 16];
        while let Ok(Heard::Bytes(count)) = wire.read(&mut buffer, soon(), true) {
            wire.write(&buffer[..count], soon()).map_err(|why| why.to_string())?;
        }
        Ok(facts.sni)
    })
}

/// What comes of a connection with this trust to a server called `name`.
fn meet(
    pki: &Pki,
    plan: &TlsPlan,
    trust: Trust,
    name: &str,
) -> (Result<RemoteTls, Lost>, Result<Option<String>, String>) {
    let path = pki.file("socket");
    let _ = fs::remove_file(&path);
    let server = serve(plan, UnixListener::bind(&path).expect("bound"));
    let dialler: Arc<dyn Dial> = Arc::new(Dialler);
    let mut remote = Remote::connect(&dialler, &Target::Unix(path), soon()).unwrap_or_else(|why| panic!("{why}"));
    let facts = remote.encrypt(&ClientTls::new(trust, name), soon()).cloned();
    if facts.is_ok() {
        assert_eq!(remote.line(100, soon()), Ok(&b"220 hello"[..]));
        assert_eq!(remote.look(), Ok(&b""[..]));
        let long = vec![b'x'; 50_000];
        remote.write(&long, soon()).expect("written");
        assert_eq!(remote.bytes(long.len(), soon()).map(<[u8]>::to_vec), Ok(long));
    }
    drop(remote);
    (facts, server.join().expect("joined"))
}

fn der(pki: &Pki, file: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(pki.file(file)).expect("a certificate")
}

fn believed(pki: &Pki, trust: Trust, name: &str) -> bool {
    let (ours, theirs) = meet(pki, &pki.plan(), trust, name);
    assert_eq!(ours.is_ok(), theirs.is_ok(), "{ours:?} {theirs:?}");
    ours.is_ok()
}

#[test]
fn a_ca_vouches_for_the_name() {
    let pki = Pki::new();
    let roots = || Trust::Roots(Roots::read(&pki.file("qpsmtpd-ca.crt")).expect("roots"));
    let (facts, sni) = meet(&pki, &pki.plan(), roots(), "mail.example.com.");
    let facts = facts.expect("encrypted");
    assert_eq!((facts.version, facts.cipher), ("TLSv1.3", "TLS_AES_256_GCM_SHA384"));
    assert_eq!(facts.fingerprint.len(), 95);
    assert_eq!(sni, Ok(Some("mail.example.com".to_owned())));
    let (facts, seen) = meet(&pki, &pki.plan(), roots(), "other.example.com");
    let why = facts.expect_err("another name").to_string();
    assert!(
        why.starts_with("TLS: the certificate is not believed: ") && why.contains("other.example.com"),
        "{why}"
    );
    assert!(seen.is_err());
    let other = Pki::new();
    let strangers = Trust::Roots(Roots::read(&other.file("qpsmtpd-ca.crt")).expect("roots"));
    assert!(!believed(&pki, strangers, "mail.example.com"));
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (facts, _) = meet(
        &pki,
        &pki.plan(),
        Trust::Roots(Roots(garbage.into())),
        "mail.example.com",
    );
    assert!(facts.is_err());
}

#[test]
fn anyone_will_do_where_nobody_is_asked_for() {
    let pki = Pki::new();
    for name in ["mail.example.com", "whoever.example", "127.0.0.1", "::1"] {
        assert!(believed(&pki, Trust::Anyone, name), "{name}");
    }
    let old = TlsPlan {
        suites: vec!["ECDHE-ECDSA-AES128-GCM-SHA256"],
        ..pki.plan()
    };
    let (facts, _) = meet(&pki, &old, Trust::Anyone, "mail.example.com");
    assert_eq!(facts.map(|facts| facts.version), Ok("TLSv1.2"));
}

#[test]
fn a_fingerprint_is_of_one_certificate() {
    let pki = Pki::new();
    let own: [u8; 32] = Sha256::digest(der(&pki, "qpsmtpd-server.crt")).into();
    assert!(believed(
        &pki,
        Trust::Fingerprints(vec![[0; 32], own]),
        "whoever.example"
    ));
    let (facts, _) = meet(
        &pki,
        &pki.plan(),
        Trust::Fingerprints(vec![[0; 32]]),
        "mail.example.com",
    );
    let why = facts.expect_err("another").to_string();
    assert!(why.contains("its fingerprint is "), "{why}");
}

#[test]
fn tlsa_records() {
    let pki = Pki::new();
    let (own, ca) = (der(&pki, "qpsmtpd-server.crt"), der(&pki, "qpsmtpd-ca.crt"));
    let key = |cert: &CertificateDer<'_>| {
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, parsed) = X509Certificate::from_der(cert).expect("parsed");
        parsed.public_key().raw.to_vec()
    };
    // the CA is a root, which our server does not send by itself
    let chain = [
        fs::read(pki.file("qpsmtpd-server.crt")),
        fs::read(pki.file("qpsmtpd-ca.crt")),
    ];
    let chain: Vec<u8> = chain.into_iter().flat_map(|part| part.expect("read")).collect();
    fs::write(pki.file("qpsmtpd-server.crt"), chain).expect("written");
    let record = |usage, selector, matching, data: Vec<u8>| Tlsa {
        usage,
        selector,
        matching,
        data,
    };
    let fits = |records: &[Tlsa], name: &str| believed(&pki, Trust::Dane(records.to_vec()), name);
    let whole = |cert: &CertificateDer<'_>| cert.to_vec();
    let mail = "mail.example.com";
    for (good, usage, selector, matching, data) in [
        (true, 3, 0, 0, whole(&own)),
        (true, 3, 0, 1, Sha256::digest(&own).to_vec()),
        (true, 3, 0, 2, Sha512::digest(&own).to_vec()),
        (true, 3, 1, 0, key(&own)),
        (true, 3, 1, 1, Sha256::digest(key(&own)).to_vec()),
        (true, 2, 0, 1, Sha256::digest(&ca).to_vec()),
        (true, 2, 1, 2, Sha512::digest(key(&ca)).to_vec()),
        (true, 2, 0, 0, whole(&ca)),
        (false, 3, 0, 1, Sha256::digest(&ca).to_vec()),
        (false, 3, 1, 1, vec![7; 32]),
        (false, 2, 0, 1, Sha256::digest(&own).to_vec()),
        (false, 2, 0, 0, whole(&own)),
    ] {
        assert_eq!(
            fits(&[record(usage, selector, matching, data)], mail),
            good,
            "{usage} {selector} {matching}"
        );
    }
    let wrong = || record(3, 1, 1, vec![7; 32]);
    let of_ca = record(2, 0, 1, Sha256::digest(&ca).to_vec());
    let of_own = record(3, 0, 1, Sha256::digest(&own).to_vec());
    assert!(fits(&[wrong(), of_ca.clone()], mail));
    assert!(!fits(&[wrong(), of_ca], "other.example.com"));
    assert!(fits(&[wrong(), of_own], "other.example.com"));
    // what cannot be used asks for encryption and no more
    assert!(fits(
        &[
            record(1, 0, 1, vec![7; 32]),
            record(3, 0, 1, vec![7; 31]),
            record(3, 2, 1, vec![7; 32])
        ],
        mail
    ));
}

#[test]
fn servers_that_know_no_tls_or_leave_or_are_silent() {
    let (far, dialler) = (soon(), Dialler);
    let try_with = |act: fn(UnixStream), until: Instant| {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("nonblocking");
        let server = std::thread::spawn(move || act(theirs));
        let clear = Box::new(PolledWire::new(ours, Arc::new(NoEnding)));
        let done = dialler.encrypt(clear, &ClientTls::new(Trust::Anyone, "mail.example.com"), until);
        server.join().expect("joined");
        done.map(|_| ()).expect_err("no TLS").to_string()
    };
    let garbage = try_with(
        |mut server| server.write_all(b"220 what?\r\n500 what?\r\n").expect("written"),
        far,
    );
    assert_eq!(garbage, "TLS: what the server sent is no TLS");
    let left = try_with(
        |mut server| {
            let _ = server.read(&mut [0; 1 << 16]);
        },
        far,
    );
    assert_eq!(left, "TLS: the server closed the connection");
    let silent = try_with(
        |mut server| {
            let _ = server.read_to_end(&mut Vec::new());
        },
        Instant::now() + Duration::from_millis(20),
    );
    assert_eq!(silent, "TLS: not done in time");
}

#[test]
fn a_key_of_rsa_will_do() {
    let pki = Pki::new();
    pki.certificate("mail.example.com", KeyKind::Rsa);
    let roots = Trust::Roots(Roots::read(&pki.file("qpsmtpd-ca.crt")).expect("roots"));
    assert!(believed(&pki, roots, "mail.example.com"));
}
