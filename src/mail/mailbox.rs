//! The grammar of a path between its brackets: source route, local part, domain (RFC 5321, 4.1.2).

use super::address::{BadAddress, MAX_LOCAL, Syntax, bad};
use super::domain;

/// A character of an atom (RFC 5322, 3.2.3; with `utf8` also RFC 6532).
pub(super) fn is_atom(c: char, utf8: bool) -> bool {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' => true,
        '!' | '#'..='\'' | '*' | '+' | '-' | '/' | '=' | '?' | '^'..='`' | '{'..='~' => true,
        c => utf8 && !c.is_ascii() && !c.is_control(),
    }
}

/// One or more atoms with single dots between them.
pub(super) fn is_dot_string(text: &str) -> bool {
    text.split('.')
        .all(|atom| !atom.is_empty() && atom.chars().all(|c| is_atom(c, true)))
}

/// The length of the source route `@a,@b:` with its colon; 0 if there is none.
pub(super) fn source_route(inner: &str, syntax: Syntax) -> Result<usize, BadAddress> {
    if !inner.starts_with('@') {
        return Ok(0);
    }
    let mut at = 0;
    loop {
        // An IPv6 literal holds colons of its own.
        let hop = &inner[at + 1..];
        let literal = if hop.starts_with('[') {
            hop.find(']').unwrap_or(0)
        } else {
            0
        };
        let Some(end) = hop[literal..].find([',', ':']).map(|end| end + literal) else {
            return bad("the local part is missing", 1);
        };
        domain::check(&hop[..end], syntax).map_err(|(_, offset)| BadAddress {
            why: "bad domain in the source route",
            at: at + 2 + offset,
        })?;
        let next = at + 1 + end + 1;
        if hop.as_bytes()[end] == b':' {
            return Ok(next);
        }
        if !inner[next..].starts_with('@') {
            return bad("bad source route", next + 1);
        }
        at = next;
    }
}

/// Splits `local@domain` and takes the quotes off; `at` of an error counts from the start of `mailbox`.
pub(super) fn parse_mailbox(mailbox: &str, syntax: Syntax) -> Result<(String, String), BadAddress> {
    let (local, split) = if mailbox.starts_with('"') {
        quoted(mailbox, syntax)?
    } else {
        let Some(split) = mailbox.rfind('@') else {
            return bad("the domain is missing", mailbox.len());
        };
        check_local(&mailbox[..split], syntax)?;
        (mailbox[..split].to_owned(), split)
    };
    if local.len() > MAX_LOCAL {
        return bad("the local part is longer than 256 octets", MAX_LOCAL);
    }
    let host = &mailbox[split + 1..];
    domain::check(host, syntax).map_err(|(why, at)| BadAddress {
        why,
        at: split + 1 + at,
    })?;
    match domain::ascii_domain(host) {
        Some(host) => Ok((local, host.into_owned())),
        None => bad("no internationalized domain", split + 1),
    }
}

/// An unquoted local part.
fn check_local(local: &str, syntax: Syntax) -> Result<(), BadAddress> {
    let mut previous = '.';
    for (at, c) in local.char_indices() {
        if is_atom(c, syntax.utf8) || (c == '.' && (previous != '.' || (syntax.lenient_local && at > 0))) {
            previous = c;
            continue;
        }
        if c == '.' {
            return bad("misplaced dot in the local part", at);
        }
        let anything = syntax.lenient_local && at > 0 && !c.is_control() && !matches!(c, '<' | '>');
        if !anything || (!c.is_ascii() && !syntax.utf8) {
            return bad("character not allowed in the local part", at);
        }
        previous = c;
    }
    if local.is_empty() {
        return bad("the local part is missing", 0);
    }
    if previous == '.' && !syntax.lenient_local {
        return bad("misplaced dot in the local part", local.len() - 1);
    }
    Ok(())
}

/// A quoted local part: its text without quotes and backslashes, and where the `@` after it stands.
fn quoted(mailbox: &str, syntax: Syntax) -> Result<(String, usize), BadAddress> {
    let mut local = String::new();
    let mut chars = mailbox.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        let (at, c) = match c {
            '"' if mailbox[at + 1..].starts_with('@') => return Ok((local, at + 1)),
            '"' => return bad("no @ after the quoted local part", at + 1),
            '\\' => match chars.next() {
                Some(pair) => pair,
                None => break,
            },
            _ => (at, c),
        };
        if c.is_control() || (!c.is_ascii() && !syntax.utf8) {
            return bad("character not allowed in a quoted local part", at);
        }
        local.push(c);
    }
    bad("the quoted local part is not closed", mailbox.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::Address;

    #[test]
    fn atoms() {
        let found: String = (0..=0x7fu8).map(char::from).filter(|&c| is_atom(c, false)).collect();
        let letters = ('A'..='Z').chain('a'..='z').chain('0'..='9');
        let mut want: Vec<char> = "!#$%&'*+-/=?^_`{|}~".chars().chain(letters).collect();
        want.sort_unstable();
        assert_eq!(found, want.into_iter().collect::<String>());
        assert!(is_atom('\u{e9}', true) && !is_atom('\u{e9}', false) && !is_atom('\u{85}', true));
    }

    #[test]
    fn dot_strings() {
        for text in ["a", "a.b", "+.+"] {
            assert!(is_dot_string(text), "{text}");
        }
        for text in ["", ".", "a.", ".a", "a..b", "a b"] {
            assert!(!is_dot_string(text), "{text}");
        }
    }

    #[test]
    fn lengths() {
        let local = |n: usize| format!("<{}@b.c>", "a".repeat(n));
        assert!(Address::parse(&local(256), Syntax::default()).is_ok());
        assert!(Address::parse(&local(257), Syntax::default()).is_err());
        let long = Address::parse(&local(900), Syntax::default()).unwrap_err();
        assert_eq!(long.why, "the path is too long");
        assert_eq!(long.at, 900);
    }
}
