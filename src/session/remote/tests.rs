//! Tests of connections that we make, over a wire in memory.

use super::super::memory::MemoryWire;
use super::*;
use crate::session::trust::Trust;

/// Connects to one wire, and has an encryption that changes nothing.
struct Memory(MemoryWire);

impl Dial for Memory {
    fn connect(&self, _: &Target, _: Instant) -> Result<Box<dyn Wire>, Lost> {
        Ok(Box::new(self.0.clone()))
    }
    fn encrypt(&self, clear: Box<dyn Wire>, how: &ClientTls, _: Instant) -> Result<(Box<dyn Wire>, RemoteTls), Lost> {
        let facts = RemoteTls {
            version: "TLSv1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            fingerprint: how.name.clone(),
        };
        match how.trust {
            Trust::Anyone => Ok((clear, facts)),
            _ => Err(Lost::because("not believed")),
        }
    }
}

fn remote() -> (MemoryWire, Remote) {
    let wire = MemoryWire::default();
    let dial: Arc<dyn Dial> = Arc::new(Memory(wire.clone()));
    let remote = Remote::connect(&dial, &Target::Unix("/x".into()), soon());
    (wire, remote.unwrap_or_else(|why| panic!("{why}")))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

#[test]
fn lines_and_bytes_come_as_they_are_asked_for() {
    let (wire, mut remote) = remote();
    for piece in ["220 he", "re\r", "\n\nbin", "ary\n25", "0 x\r\nthe", " rest"] {
        wire.say(piece);
    }
    wire.close();
    assert_eq!(remote.line(100, soon()), Ok(&b"220 here"[..]));
    assert_eq!(remote.line(100, soon()), Ok(&b""[..]));
    assert_eq!(remote.bytes(7, soon()), Ok(&b"binary\n"[..]));
    assert_eq!(remote.line(5, soon()), Ok(&b"250 x"[..]));
    assert_eq!(remote.rest(8, soon()), Ok(b"the rest".to_vec()));
    assert_eq!(remote.line(100, soon()), Err(Lost::Closed));
    assert_eq!(remote.write(b"x", soon()), Err(Lost::Closed));
}

#[test]
fn a_line_has_a_limit() {
    for (text, good) in [
        ("12345\r\n", true),
        ("123456\r\n", false),
        ("12345\n", true),
        ("1234567", false),
    ] {
        let (wire, mut remote) = remote();
        wire.say(text);
        let found = remote.line(5, soon()).map(<[u8]>::to_vec);
        assert_eq!(
            found,
            if good {
                Ok(b"12345".to_vec())
            } else {
                Err(Lost::TooLong)
            },
            "{text}"
        );
        assert_eq!(remote.write(b"x", soon()).is_ok(), good);
    }
    let (wire, mut remote) = remote();
    wire.say("abcdef");
    assert_eq!(remote.rest(5, soon()), Err(Lost::TooLong));
}

#[test]
fn silence_and_the_past_are_time_outs() {
    let (_wire, mut remote) = remote();
    assert_eq!(remote.line(5, soon()), Err(Lost::TimedOut));
    let (wire, mut remote) = self::remote();
    wire.say("endless");
    assert_eq!(remote.line(500, Instant::now()), Err(Lost::TimedOut));
}

#[test]
fn what_nobody_asked_for_is_seen() {
    let (wire, mut remote) = remote();
    assert_eq!(remote.look(), Ok(&b""[..]));
    wire.say("250 a\r\n421 b\r\n");
    assert_eq!(remote.line(5, soon()), Ok(&b"250 a"[..]));
    assert_eq!(remote.unread(), b"421 b\r\n");
    assert_eq!(remote.look(), Ok(&b"421 b\r\n"[..]));
    wire.close();
    assert_eq!(remote.look(), Err(Lost::Closed));
    assert_eq!(remote.line(5, soon()), Ok(&b"421 b"[..]));
}

#[test]
fn nothing_said_in_clear_lives_under_tls() {
    let anyone = ClientTls::new(Trust::Anyone, "mx.example");
    let (wire, mut remote) = remote();
    wire.say("220 go\r\n250 forged\r\n");
    assert_eq!(remote.line(100, soon()), Ok(&b"220 go"[..]));
    assert!(
        remote
            .encrypt(&anyone, soon())
            .is_err_and(|why| why.to_string().contains("in clear"))
    );
    let (_wire, mut remote) = self::remote();
    assert!(remote.tls().is_none());
    assert!(remote.encrypt(&anyone, soon()).is_ok());
    assert_eq!(
        remote.tls().map(ToString::to_string),
        Some("TLSv1.3 TLS_AES_128_GCM_SHA256".to_owned())
    );
    let (_wire, mut remote) = self::remote();
    let strict = ClientTls::new(Trust::Fingerprints(Vec::new()), "mx.example");
    assert_eq!(remote.encrypt(&strict, soon()), Err(Lost::because("not believed")));
    assert!(remote.write(b"in clear", soon()).is_err());
}

#[test]
fn targets() {
    let tcp = |host: &str, port| Ok(Target::Tcp(host.to_owned(), port));
    for (text, target) in [
        ("mx.example", tcp("mx.example", 25)),
        ("mx.example:24", tcp("mx.example", 24)),
        ("192.0.2.1:24", tcp("192.0.2.1", 24)),
        ("2001:db8::1", tcp("2001:db8::1", 25)),
        ("[2001:db8::1]", tcp("2001:db8::1", 25)),
        ("[IPv6:2001:db8::1]:24", tcp("2001:db8::1", 24)),
        ("[192.0.2.1]", tcp("192.0.2.1", 25)),
        ("/run/lmtp", Ok(Target::Unix("/run/lmtp".into()))),
        ("unix:/run/lmtp", Ok(Target::Unix("/run/lmtp".into()))),
    ] {
        assert_eq!(Target::parse(text, 25), target, "{text}");
    }
    for bad in [
        "", ":25", "mx:", "mx:smtp", "mx:99999", "mx:+25", "unix:", "unix:x/y", "a b", "a:b:c", "[::1",
    ] {
        assert!(Target::parse(bad, 25).is_err(), "{bad}");
    }
    assert_eq!(Target::Tcp("::1".into(), 25).to_string(), "[::1]:25");
}
