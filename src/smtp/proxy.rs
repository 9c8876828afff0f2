//! The header of the PROXY protocol, versions 1 and 2, in which a proxy tells whose connection it passes on
//! (https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt). The parser takes what there is and does no I/O.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::session::ProxiedTls;

/// The longest header of version 1 in bytes, CRLF included.
const LONGEST_LINE: usize = 107;
/// What a header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length.
const FIXED: usize = SIGNATURE.len() + 4;
/// The longest rest of a header of version 2 that is taken, in bytes. With a client's certificate in it, it has a few
/// thousand.
const LONGEST_REST: usize = 8192;
/// The longest unique id, in bytes.
const LONGEST_ID: usize = 128;

/// What a header says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// 1 or 2.
    pub(super) version: u8,
    /// The client and where it connected to; none if the connection is the proxy's own, or nothing is known of the
    /// client that has a meaning here.
    pub(super) client: Option<(SocketAddr, SocketAddr)>,
    /// Why there is no client: `LOCAL`, `UNKNOWN`, `UNSPEC`, `UNIX`.
    pub(super) word: &'static str,
    /// The host name the client wanted (SNI).
    pub(super) authority: Option<String>,
    /// The proxy's number for the connection.
    pub(super) unique_id: Option<String>,
    /// What the proxy and the client agreed on, if they speak TLS.
    pub(super) tls: Option<ProxiedTls>,
}

/// What there is of a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Not all of it.
    More,
    /// All of it, and how many bytes it takes.
    Header(Box<Header>, usize),
}

/// Looks for a header at the beginning of `bytes`. The result does not depend on how many bytes come at a time.
///
/// # Errors
/// Why there is none and never will be.
pub(super) fn look(bytes: &[u8]) -> Result<Look, String> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(a, b)| a == b);
    if begins(&SIGNATURE) {
        return second(bytes);
    }
    if begins(b"PROXY ") {
        return first(bytes);
    }
    Err("it does not begin with one".to_owned())
}

/// Version 1: a line of words.
fn first(bytes: &[u8]) -> Result<Look, String> {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.iter().position(|byte| *byte == b'\n') else {
        return match bytes.len() < LONGEST_LINE {
            true => Ok(Look::More),
            false => Err(format!("the line is longer than {LONGEST_LINE} bytes")),
        };
    };
    let line = within[..end]
        .strip_suffix(b"\r")
        .ok_or("the line does not end with CRLF")?;
    let line = std::str::from_utf8(line).map_err(|_| "the line is not ASCII")?;
    let mut words = line.split(' ').skip(1);
    let header = Header {
        version: 1,
        ..Header::default()
    };
    let family = match words.next() {
        Some("UNKNOWN") => {
            let word = "UNKNOWN";
            return Ok(Look::Header(Box::new(Header { word, ..header }), end + 1));
        }
        Some(word @ ("TCP4" | "TCP6")) => word,
        other => {
            return Err(format!(
                "unknown protocol '{}'",
                other.unwrap_or_default().escape_default()
            ));
        }
    };
    let mut word = |what: &'static str| words.next().ok_or(format!("no {what}"));
    let (from, to) = (word("source address")?, word("destination address")?);
    let (from_port, to_port) = (word("source port")?, word("destination port")?);
    if words.next().is_some() {
        return Err("there is more than addresses and ports".to_owned());
    }
    let from = SocketAddr::new(address(family, from)?, port(from_port)?);
    let to = SocketAddr::new(address(family, to)?, port(to_port)?);
    let client = Some((from, to));
    Ok(Look::Header(Box::new(Header { client, ..header }), end + 1))
}

fn address(family: &str, text: &str) -> Result<IpAddr, String> {
    let parsed = match family {
        "TCP4" => text.parse().ok().map(IpAddr::V4),
        _ => text.parse().ok().map(|ip: Ipv6Addr| ip.to_canonical()),
    };
    parsed.ok_or_else(|| format!("'{}' is no address of {family}", text.escape_default()))
}

fn port(text: &str) -> Result<u16, String> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let parsed = text.parse().ok().filter(|_| plain);
    parsed.ok_or_else(|| format!("'{}' is no port", text.escape_default()))
}

/// Version 2: bytes.
fn second(bytes: &[u8]) -> Result<Look, String> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else {
        return Ok(Look::More);
    };
    let &[command, family, high, low] = &fixed[SIGNATURE.len()..] else {
        return Ok(Look::More);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 {
        return Err(format!("unknown version {}", command >> 4));
    }
    if length > LONGEST_REST {
        return Err(format!("{length} bytes of it are more than {LONGEST_REST}"));
    }
    let Some(rest) = rest.get(..length) else {
        return Ok(Look::More);
    };
    let mut header = Header {
        version: 2,
        ..Header::default()
    };
    match command & 15 {
        // the proxy itself, as for a health check; whatever else it says is of no meaning
        0 => header.word = "LOCAL",
        1 => tell(&mut header, family, rest)?,
        other => return Err(format!("unknown command {other}")),
    }
    Ok(Look::Header(Box::new(header), FIXED + length))
}

/// Takes the addresses and what is told besides.
fn tell(header: &mut Header, family: u8, rest: &[u8]) -> Result<(), String> {
    if family & 15 > 1 {
        return Err(format!("transport {} is no stream", family & 15));
    }
    let few = || format!("{} bytes are too few for its addresses", rest.len());
    let split = |size: usize| rest.split_at_checked(size).ok_or_else(few);
    let more = match family >> 4 {
        0 => {
            header.word = "UNSPEC";
            rest
        }
        1 => {
            let (addresses, more) = split(12)?;
            header.client = pair::<4>(addresses);
            more
        }
        2 => {
            let (addresses, more) = split(36)?;
            header.client = pair::<16>(addresses);
            more
        }
        3 => {
            header.word = "UNIX";
            split(216)?.1
        }
        other => return Err(format!("unknown address family {other}")),
    };
    for_each(more, |kind, value| {
        match kind {
            0x02 => header.authority = Some(text(value)),
            0x05 if value.len() > LONGEST_ID => return Err(format!("a unique id of {} bytes", value.len())),
            0x05 => header.unique_id = Some(text(value)),
            0x20 => header.tls = tls(value)?,
            _ => {}
        }
        Ok(())
    })
}

/// Two addresses of `N` bytes, then two ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    IpAddr: From<[u8; N]>,
{
    let (from, rest) = bytes.split_first_chunk::<N>()?;
    let (to, rest) = rest.split_first_chunk::<N>()?;
    let (from_port, rest) = rest.split_first_chunk::<2>()?;
    let to_port = rest.first_chunk::<2>()?;
    let address = |ip: [u8; N], port| SocketAddr::new(IpAddr::from(ip).to_canonical(), u16::from_be_bytes(port));
    Some((address(*from, *from_port), address(*to, *to_port)))
}

/// Goes through type, length, value, type, length, value ...
fn for_each(mut bytes: &[u8], mut each: impl FnMut(u8, &[u8]) -> Result<(), String>) -> Result<(), String> {
    while !bytes.is_empty() {
        let [kind, high, low, rest @ ..] = bytes else {
            return Err(format!("{} bytes are left behind its fields", bytes.len()));
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let (value, rest) = rest
            .split_at_checked(length)
            .ok_or_else(|| format!("field {kind:#04x} is longer than the header"))?;
        each(*kind, value)?;
        bytes = rest;
    }
    Ok(())
}

/// The field about TLS; none if the client does not speak it.
fn tls(value: &[u8]) -> Result<Option<ProxiedTls>, String> {
    let [client, v0, v1, v2, v3, fields @ ..] = value else {
        return Err("the field about TLS is too short".to_owned());
    };
    let (encrypted, certificate) = (client & 1 != 0, client & 6 != 0);
    let mut tls = ProxiedTls {
        verified: certificate && u32::from_be_bytes([*v0, *v1, *v2, *v3]) == 0,
        certificate,
        ..ProxiedTls::default()
    };
    for_each(fields, |kind, value| {
        match kind {
            0x21 => tls.version = text(value),
            0x22 => tls.common_name = Some(text(value)),
            0x23 => tls.cipher = text(value),
            _ => {}
        }
        Ok(())
    })?;
    Ok(encrypted.then_some(tls))
}

/// Text for logs and headers: printable ASCII, anything else as `?`.
fn text(bytes: &[u8]) -> String {
    let plain = |byte: &u8| {
        if (b' '..=b'~').contains(byte) {
            *byte as char
        } else {
            '?'
        }
    };
    bytes.iter().take(255).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2 with this command, family and rest.
    fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn field(kind: u8, value: &[u8]) -> Vec<u8> {
        [&[kind][..], &(value.len() as u16).to_be_bytes(), value].concat()
    }

    fn header(bytes: &[u8]) -> Header {
        match look(bytes) {
            Ok(Look::Header(header, used)) if used == bytes.len() => *header,
            other => panic!("{other:?}"),
        }
    }

    fn client(from: &str, to: &str) -> Option<(SocketAddr, SocketAddr)> {
        Some((from.parse().expect("an address"), to.parse().expect("an address")))
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0x12, 0x34, 0, 25];

    #[test]
    fn lines_of_version_1() {
        let of = |line: &str| header(format!("PROXY {line}\r\n").as_bytes());
        let four = of("TCP4 192.0.2.7 198.51.100.1 4660 25");
        assert_eq!(
            (four.version, four.client),
            (1, client("192.0.2.7:4660", "198.51.100.1:25"))
        );
        let six = of("TCP6 2001:db8::7 ::ffff:198.51.100.1 65535 0");
        assert_eq!(six.client, client("[2001:db8::7]:65535", "198.51.100.1:0"));
        for line in [
            "UNKNOWN",
            "UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535 and more",
        ] {
            assert_eq!((of(line).client, of(line).word), (None, "UNKNOWN"));
        }
    }

    #[test]
    fn lines_that_are_none() {
        for (line, why) in [
            ("EHLO client\r\n", "does not begin"),
            ("PROXYTCP4 192.0.2.7\r\n", "does not begin"),
            ("proxy TCP4 192.0.2.7\r\n", "does not begin"),
            ("PROXY \r\n", "unknown protocol ''"),
            ("PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "unknown protocol ''"),
            ("PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n", "unknown protocol 'TCP5'"),
            ("PROXY TCP4\r\n", "no source address"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n", "no destination port"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n", "more than addresses"),
            ("PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n", "'1.1.1' is no address of TCP4"),
            ("PROXY TCP4 ::1 2.2.2.2 1 2\r\n", "'::1' is no address of TCP4"),
            ("PROXY TCP6 1.1.1.1 ::1 1 2\r\n", "'1.1.1.1' is no address of TCP6"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n", "'+1' is no port"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n", "'01' is no port"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n", "'65536' is no port"),
            ("PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n", "does not end with CRLF"),
            ("PROXY \u{e9} 1.1.1.1 2.2.2.2 1 2\r\n", "unknown protocol '\\u{e9}'"),
        ] {
            let told = look(line.as_bytes()).expect_err(line);
            assert!(told.contains(why), "{line:?}: {told}");
        }
        assert!(look(b"PROXY \xff\r\n").is_err_and(|why| why.contains("not ASCII")));
        // the longest there can be
        let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        let longest = format!("PROXY UNKNOWN {address} {address} 65535 65535\r\n");
        assert_eq!(longest.len(), LONGEST_LINE);
        assert_eq!(header(longest.as_bytes()).word, "UNKNOWN");
        let longer = longest.replace("65535\r", "65535 \r");
        assert!(look(longer.as_bytes()).is_err_and(|why| why.contains("longer than 107")));
    }

    #[test]
    fn headers_of_version_2() {
        let four = header(&binary(0x21, 0x11, &FOUR));
        assert_eq!(
            (four.version, four.client),
            (2, client("192.0.2.7:4660", "198.51.100.1:25"))
        );
        let mut six = [0; 36];
        (six[15], six[31], six[33], six[35]) = (1, 2, 80, 25);
        assert_eq!(header(&binary(0x21, 0x21, &six)).client, client("[::1]:80", "[::2]:25"));
        for (command, family, rest, word) in [
            (0x20, 0x00, &[][..], "LOCAL"),
            (0x20, 0x11, b"whatever", "LOCAL"),
            (0x21, 0x00, &[], "UNSPEC"),
            (0x21, 0x31, &[0; 216], "UNIX"),
        ] {
            let header = header(&binary(command, family, rest));
            assert_eq!((header.client, header.word), (None, word));
        }
    }

    #[test]
    fn fields_of_version_2() {
        let about = [
            field(0x21, b"TLSv1.3"),
            field(0x22, b"client"),
            field(0x23, b"TLS_AES_128_GCM_SHA256"),
        ];
        let tls = |client: u8, verify: u32| {
            let value = [&[client][..], &verify.to_be_bytes(), &about.concat()].concat();
            let fields = [
                field(0x02, b"mx.example.com"),
                field(0x04, b"\0\0"),
                field(0x05, b"a\xff"),
                field(0x20, &value),
            ];
            header(&binary(0x21, 0x11, &[&FOUR[..], &fields.concat()].concat()))
        };
        let told = tls(3, 0);
        assert_eq!(told.authority.as_deref(), Some("mx.example.com"));
        assert_eq!(told.unique_id.as_deref(), Some("a?"));
        let facts = told.tls.expect("facts of TLS");
        assert_eq!((&*facts.version, &*facts.cipher), ("TLSv1.3", "TLS_AES_128_GCM_SHA256"));
        assert_eq!((facts.common_name.as_deref(), facts.verified), (Some("client"), true));
        assert!(tls(3, 1).tls.is_some_and(|facts| facts.certificate && !facts.verified));
        assert!(tls(1, 0).tls.is_some_and(|facts| !facts.certificate && !facts.verified));
        assert_eq!(tls(0, 0).tls, None);
    }

    #[test]
    fn headers_of_version_2_that_are_none() {
        let with = |fields: &[u8]| binary(0x21, 0x11, &[&FOUR[..], fields].concat());
        let huge = [&SIGNATURE[..], &[0x21, 0x11, 0xff, 0xff]].concat();
        for (bytes, why) in [
            (binary(0x11, 0x11, &FOUR), "unknown version 1"),
            (binary(0x22, 0x11, &FOUR), "unknown command 2"),
            (binary(0x21, 0x41, &FOUR), "unknown address family 4"),
            (binary(0x21, 0x12, &FOUR), "transport 2"),
            (binary(0x21, 0x11, &FOUR[..11]), "11 bytes are too few"),
            (binary(0x21, 0x21, &FOUR), "12 bytes are too few"),
            (binary(0x21, 0x31, &FOUR), "12 bytes are too few"),
            (with(&[1, 0]), "2 bytes are left"),
            (with(&[2, 0, 2, b'a']), "field 0x02 is longer"),
            (with(&field(5, &[b'x'; 129])), "unique id of 129"),
            (with(&field(0x20, &[1, 0])), "about TLS is too short"),
            (with(&field(0x20, &[1, 0, 0, 0, 0, 0x21, 0, 9])), "field 0x21 is longer"),
            (huge, "65535 bytes"),
        ] {
            let told = look(&bytes).expect_err(why);
            assert!(told.contains(why), "{told}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_in_pieces_is_the_same(
            from: [u8; 4], to: [u8; 4], ports: [u16; 2], fields in proptest::collection::vec((0u8..0x30, "[a-z]{0,9}"), 0..5),
            behind in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let (from_ip, to_ip) = (IpAddr::from(from), IpAddr::from(to));
            let line = format!("PROXY TCP4 {from_ip} {to_ip} {} {}\r\n", ports[0], ports[1]);
            let fields = fields.iter().filter(|(kind, _)| *kind != 0x20);
            let fields: Vec<u8> = fields.flat_map(|(kind, value)| field(*kind, value.as_bytes())).collect();
            let ports_bytes = [ports[0].to_be_bytes(), ports[1].to_be_bytes()].concat();
            let second = binary(0x21, 0x11, &[&from[..], &to, &ports_bytes, &fields].concat());
            for header in [line.into_bytes(), second] {
                let mut all = header.clone();
                all.extend_from_slice(&behind);
                for cut in 0..header.len() {
                    prop_assert_eq!(look(&all[..cut]), Ok(Look::More), "{} bytes", cut);
                }
                let Ok(Look::Header(found, used)) = look(&all) else { panic!("no header") };
                prop_assert_eq!(used, header.len());
                let client = (SocketAddr::new(from_ip, ports[0]), SocketAddr::new(to_ip, ports[1]));
                prop_assert_eq!(found.client, Some(client));
            }
        }

        #[test]
        fn anything_is_looked_at(bytes: Vec<u8>, sort in 0..3) {
            let start: &[u8] = [&b""[..], b"PROXY ", &SIGNATURE][sort as usize];
            let all = [start, &bytes].concat();
            match look(&all) {
                Ok(Look::Header(_, used)) => {
                    prop_assert!(used <= all.len() && used <= FIXED + LONGEST_REST);
                    prop_assert!(look(&all[..used]).is_ok_and(|look| look != Look::More));
                }
                // what is wrong does not become right
                Err(_) => prop_assert!(look(&[&all[..], b"more\r\n"].concat()).is_err()),
                Ok(Look::More) => prop_assert!(all.len() < FIXED + LONGEST_REST),
            }
        }
    }
}
