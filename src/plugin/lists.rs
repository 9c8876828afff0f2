//! What the lists in configuration files are made of: an entry and a text, a ruling, domains.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Answer, answer};
use crate::config::{Fault, Lines, Map};
use crate::mail::ascii_domain;
use crate::session::Verdict;

/// The first word of a line, and what follows it.
pub fn entry(line: &str) -> (&str, &str) {
    let line = line.trim_ascii();
    match line.split_once(|c: char| c.is_ascii_whitespace()) {
        Some((entry, text)) => (entry, text.trim_ascii_start()),
        None => (line, ""),
    }
}

/// A verdict, by its name, and words for the client: `DENYSOFT come back later`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// The verdict.
    pub verdict: Verdict,
    /// The words; may be empty.
    pub text: Box<str>,
}

impl Ruling {
    /// Reads a verdict and the words behind it.
    ///
    /// # Errors
    /// The first word is no verdict.
    pub fn parse(text: &str) -> Result<Ruling, String> {
        let (code, text) = entry(text);
        if code.is_empty() {
            return Err("the verdict is missing".to_owned());
        }
        Ok(Ruling {
            verdict: code.parse()?,
            text: text.into(),
        })
    }

    /// As [`Ruling::parse`], for hooks at which the client waits for a reply: DONE, which sends none, is refused.
    ///
    /// # Errors
    /// The first word is no verdict that gives a reply.
    pub fn parse_reply(text: &str) -> Result<Ruling, String> {
        match Ruling::parse(text)? {
            ruling if ruling.verdict == Verdict::Done => Err("DONE would leave the client without a reply".to_owned()),
            ruling => Ok(ruling),
        }
    }

    /// The ruling as a plugin's answer.
    pub fn answer(&self) -> Answer {
        answer(self.verdict, Cow::Owned(self.text.to_string()))
    }
}

/// Domains, and `.suffix` entries that stand for all domains below one (catalogue 7, rcpthosts).
#[derive(Debug, Default)]
pub struct Domains(HashSet<Box<str>>);

impl Domains {
    /// The first words of `lines`; what is not ASCII is compared in its ASCII form, as in addresses.
    pub fn read(lines: &Lines) -> Domains {
        let first = |line: &crate::config::Line| ascii_entry(&entry(line).0.to_lowercase()).into();
        Domains(lines.iter().map(first).collect())
    }

    /// Whether a domain, which must be in lower case, is among them.
    pub fn contains(&self, domain: &str) -> bool {
        !self.0.is_empty() && with_suffixes(domain, |name| self.0.contains(name))
    }
}

/// A domain, or a dot and a domain, in ASCII; as it is where that is not possible.
pub(super) fn ascii_entry(entry: &str) -> String {
    let (dot, domain) = match entry.strip_prefix('.') {
        Some(domain) => (".", domain),
        None => ("", entry),
    };
    ascii_domain(domain).map_or_else(|| entry.to_owned(), |ascii| format!("{dot}{ascii}"))
}

/// Calls `known` with a domain and every `.suffix` of it, the longest first, until it says yes.
pub fn with_suffixes(domain: &str, mut known: impl FnMut(&str) -> bool) -> bool {
    known(domain) || domain.match_indices('.').any(|(at, _)| known(&domain[at..]))
}

/// Whether a map has any of the keys that `walk` asks for one after the other, as [`with_suffixes`] does.
///
/// # Errors
/// The map is damaged.
pub fn any_in(map: &Map, walk: impl FnOnce(&mut dyn FnMut(&str) -> bool) -> bool) -> Result<bool, Fault> {
    let mut wrong = None;
    let found = !map.is_empty()
        && walk(&mut |key| match map.get(key.as_bytes()) {
            Ok(value) => value.is_some(),
            Err(why) => {
                wrong = Some(why);
                true
            }
        });
    match wrong {
        None => Ok(found),
        Some(why) => Err(why),
    }
}

/// The text in lower case; a copy only if that changes it.
pub fn lower(text: &str) -> Cow<'_, str> {
    match text.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        true => Cow::Owned(text.to_lowercase()),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_their_texts() {
        assert_eq!(entry("a@b.c \t no such  user"), ("a@b.c", "no such  user"));
        assert_eq!(entry("a@b.c"), ("a@b.c", ""));
        assert_eq!(entry(" a \t"), ("a", ""));
        assert_eq!(entry(""), ("", ""));
    }

    #[test]
    fn rulings() {
        let ruling = Ruling::parse("DENYHARD go away");
        let text = "go away".into();
        let verdict = Verdict::DenyDisconnect;
        assert_eq!(ruling, Ok(Ruling { verdict, text }));
        assert_eq!(Ruling::parse("OK").map(|ruling| ruling.text), Ok("".into()));
        assert!(Ruling::parse("").is_err());
        assert!(Ruling::parse("deny").is_err());
        assert!(Ruling::parse("DONE").is_ok());
        assert!(Ruling::parse_reply("DONE").is_err());
        assert!(Ruling::parse_reply("OK").is_ok());
    }

    #[test]
    fn domains_and_what_lies_below() {
        let domains = Domains::read(&Lines::of(
            "rcpthosts",
            ["Example.COM", ".example.net", "[192.0.2.1]", "Bücher.de", ".é.fr"],
        ));
        for name in [
            "xn--bcher-kva.de",
            "a.xn--9ca.fr",
            "example.com",
            "a.example.net",
            "a.b.example.net",
            "[192.0.2.1]",
        ] {
            assert!(domains.contains(name), "{name}");
        }
        for name in [
            "a.example.com",
            "example.net",
            "badexample.net",
            "com",
            "",
            "[192.0.2.2]",
        ] {
            assert!(!domains.contains(name), "{name}");
        }
        assert!(!Domains::default().contains("example.com"));
    }

    #[test]
    fn lower_case_costs_nothing_where_it_is() {
        assert!(matches!(lower("example.com"), Cow::Borrowed(_)));
        assert_eq!(lower("Example.COM"), "example.com");
        assert_eq!(lower("BÜCHER.example"), "bücher.example");
    }
}
