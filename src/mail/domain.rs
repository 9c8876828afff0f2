//! The right-hand side of a mailbox: domain names and address literals (RFC 5321, 4.1.2 and 4.1.3).

use std::borrow::Cow;
use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::address::Syntax;

/// The longest domain in octets (RFC 5321, 4.5.3.1.2).
pub(super) const MAX_DOMAIN: usize = 255;
/// The longest label in octets (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// Checks a domain or an address literal. The error says why, and at which byte of `domain`.
pub(super) fn check(domain: &str, syntax: Syntax) -> Result<(), (&'static str, usize)> {
    if domain.is_empty() {
        return Err(("the domain is missing", 0));
    }
    if domain.len() > MAX_DOMAIN {
        return Err(("the domain is longer than 255 octets", MAX_DOMAIN));
    }
    if let Some(literal) = domain.strip_prefix('[') {
        let inner = literal
            .strip_suffix(']')
            .ok_or(("the address literal is not closed", domain.len()))?;
        return if is_literal(inner) {
            Ok(())
        } else {
            Err(("not an IP address in the literal", 1))
        };
    }
    let mut at = 0;
    for label in domain.split('.') {
        check_label(label, syntax).map_err(|(why, offset)| (why, at + offset))?;
        at += label.len() + 1;
    }
    Ok(())
}

/// A domain with its labels in ASCII (RFC 5891), so that there is one form to compare and to ask DNS for; as it is, if
/// it is ASCII. None if it is no domain.
pub fn ascii_domain(domain: &str) -> Option<Cow<'_, str>> {
    if domain.is_ascii() {
        return Some(Cow::Borrowed(domain));
    }
    let (all, hyphens) = (AsciiDenyList::EMPTY, Hyphens::CheckFirstLast);
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), all, hyphens, DnsLength::Verify)
        .ok()?;
    // what is not ASCII may stand for anything, also for an `@`
    let underscore = Syntax {
        underscore: true,
        ..Syntax::default()
    };
    check(&ascii, underscore).is_ok().then_some(ascii)
}

fn check_label(label: &str, syntax: Syntax) -> Result<(), (&'static str, usize)> {
    if label.is_empty() {
        return Err(("empty label in the domain", 0));
    }
    // how long one is that is not ASCII shows when it is made so
    if label.len() > MAX_LABEL && label.is_ascii() {
        return Err(("a label of the domain is longer than 63 octets", MAX_LABEL));
    }
    let allowed = |c: char| {
        c.is_ascii_alphanumeric()
            || c == '-'
            || (c == '_' && syntax.underscore)
            || (syntax.utf8 && !c.is_ascii() && !c.is_control() && !c.is_whitespace())
    };
    if let Some((at, _)) = label.char_indices().find(|&(_, c)| !allowed(c)) {
        return Err(("character not allowed in a domain", at));
    }
    if label.starts_with('-') {
        return Err(("a label of the domain begins with a hyphen", 0));
    }
    if label.ends_with('-') {
        return Err(("a label of the domain ends with a hyphen", label.len() - 1));
    }
    Ok(())
}

/// What may stand between the brackets: an IPv4 address, or `IPv6:` and an IPv6 address.
fn is_literal(inner: &str) -> bool {
    match inner.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("ipv6:") => inner[5..].parse::<Ipv6Addr>().is_ok(),
        _ => is_ipv4(inner),
    }
}

/// Four decimal numbers of one to three digits, each at most 255. The parser of std refuses leading zeros, which
/// the grammar of RFC 5321 (Snum) allows.
fn is_ipv4(text: &str) -> bool {
    let mut parts = 0;
    for part in text.split('.') {
        parts += 1;
        let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        if parts > 4 || !digits || part.parse::<u8>().is_err() {
            return false;
        }
    }
    parts == 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good(domain: &str) -> bool {
        check(domain, Syntax::default()).is_ok()
    }

    #[test]
    fn names() {
        for domain in ["localhost", "a.b", "1.2", "a-b.c", "xn--bcher-kva.example", "A.B"] {
            assert!(good(domain), "{domain}");
        }
        for domain in [
            "", ".", "a.", ".a", "a..b", "-a.b", "a-.b", "a_b.c", "a b", "a\n.b", "é.fr", "a@b",
        ] {
            assert!(!good(domain), "{domain}");
        }
        assert!(good(&"a".repeat(63)));
        assert!(!good(&"a".repeat(64)));
        let long = vec!["a".repeat(49); 6].join(".");
        assert!(!good(&long), "299 octets");
        assert!(good(&long[..255]));
    }

    #[test]
    fn switches() {
        let underscore = Syntax {
            underscore: true,
            ..Syntax::default()
        };
        assert!(check("_x_y_.z", underscore).is_ok());
        let utf8 = Syntax {
            utf8: true,
            ..Syntax::default()
        };
        assert!(check("bücher.example", utf8).is_ok());
        assert!(check("b\u{85}cher.example", utf8).is_err());
    }

    #[test]
    fn domains_in_ascii() {
        for (domain, want) in [
            ("Example.ORG", Some("Example.ORG")),
            ("bücher.example", Some("xn--bcher-kva.example")),
            ("BÜCHER.Example", Some("xn--bcher-kva.example")),
            ("bu\u{308}cher.example", Some("xn--bcher-kva.example")),
            ("例え.テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("例え。テスト", Some("xn--r8jz45g.xn--zckzah")),
            ("faß.example", Some("xn--fa-hia.example")),
            ("_ü.example", Some("xn--_-eha.example")),
            ("a\u{ff20}b.example", None),
            ("a\u{3000}b.example", None),
            ("-ü.example", None),
            ("ü..example", None),
            ("\u{200d}.example", None),
            ("ü\u{5d0}.example", None),
            ("xn--é.example", None),
        ] {
            assert_eq!(ascii_domain(domain).as_deref(), want, "{domain}");
        }
        assert_eq!(ascii_domain(&format!("{}.example", "ü".repeat(64))), None);
        let utf8 = Syntax {
            utf8: true,
            ..Syntax::default()
        };
        assert!(check(&format!("{}.example", "ü".repeat(40)), utf8).is_ok());
    }

    #[test]
    fn literals() {
        for domain in [
            "[127.0.0.1]",
            "[255.255.255.255]",
            "[010.1.1.1]",
            "[IPv6:::1]",
            "[ipv6:2001:db8::1.2.3.4]",
        ] {
            assert!(good(domain), "{domain}");
        }
        for domain in [
            "[]",
            "[1.2.3]",
            "[1.2.3.4.5]",
            "[256.1.1.1]",
            "[1.2.3.4",
            "1.2.3.4]",
            "[::1]",
            "[IPv6:]",
            "[IPv6:1]",
            "[+1.2.3.4]",
            "[undefined]",
        ] {
            assert!(!good(domain), "{domain}");
        }
    }

    #[test]
    fn place_of_the_fault() {
        assert_eq!(check("ab.c!d", Syntax::default()).unwrap_err().1, 4);
        assert_eq!(check("ab..d", Syntax::default()).unwrap_err().1, 3);
    }
}
