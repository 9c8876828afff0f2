//! Lists of mail addresses: whole ones, `@domain`, and regular expressions (catalogue 16.1, 17.2, 17.4).
//!
//! Case never matters. Whole addresses and domains lie in one hash table, so that only the patterns cost time in
//! proportion to their number. Of several lines that fit, the first counts.

use std::collections::HashMap;

use super::lists::ascii_entry;
use super::{Cached, Failure, Loading, Pattern, entry};
use crate::config::{Line, Lines};
use crate::mail::Address;
use crate::session::Session;

/// Addresses, each entry with something that belongs to it.
#[derive(Debug)]
pub struct Addresses<T> {
    /// `user@host` or `@host`, in lower case, and the entry's place in `values`.
    exact: HashMap<Box<str>, usize>,
    /// In the order of their places.
    patterns: Vec<(usize, Pattern)>,
    values: Vec<T>,
}

impl<T> Default for Addresses<T> {
    fn default() -> Self {
        Addresses {
            exact: HashMap::new(),
            patterns: Vec::new(),
            values: Vec::new(),
        }
    }
}

impl<T> Addresses<T> {
    /// Adds a whole address, or `@domain` for all of a domain.
    pub fn add_exact(&mut self, entry: &str, value: T) {
        let at = self.values.len();
        self.values.push(value);
        self.exact.entry(exact(entry)).or_insert(at);
    }

    /// Adds a regular expression that is looked for anywhere in `user@host`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn add_pattern(&mut self, pattern: &str, value: T) -> Result<(), String> {
        let pattern = Pattern::new(pattern, true).map_err(|why| broken(pattern, &why))?;
        self.patterns.push((self.values.len(), pattern));
        self.values.push(value);
        Ok(())
    }

    /// Adds an address, an `@domain` or a regular expression, whichever it looks like; what could be both is both.
    ///
    /// # Errors
    /// It is none of them. A broken expression with an `@` in it is kept as an address all the same.
    pub fn add(&mut self, entry: &str, value: T) -> Result<(), String> {
        let at = self.values.len();
        self.values.push(value);
        let (address, pattern) = (entry.contains('@'), is_pattern(entry));
        if address {
            self.exact.entry(exact(entry)).or_insert(at);
        }
        if pattern {
            let pattern = Pattern::new(entry, true).map_err(|why| broken(entry, &why))?;
            self.patterns.push((at, pattern));
        }
        match address || pattern {
            true => Ok(()),
            false => Err(format!("'{entry}' is no address: there is no '@' in it")),
        }
    }

    /// What belongs to the first entry that fits. The null address fits none.
    ///
    /// # Errors
    /// A pattern took too long; no answer is known.
    pub fn find(&self, address: &Address) -> Result<Option<&T>, String> {
        if self.values.is_empty() || address.is_null() {
            return Ok(None);
        }
        let text = folded(address);
        let domain = text.rfind('@').map_or("", |at| &text[at..]);
        let whole = self.exact.get(&*text).copied().unwrap_or(usize::MAX);
        let mut first = whole.min(self.exact.get(domain).copied().unwrap_or(usize::MAX));
        for (at, pattern) in self.patterns.iter().take_while(|(at, _)| *at < first) {
            if pattern.matches(&text)? {
                first = *at;
                break;
            }
        }
        Ok(self.values.get(first))
    }
}

/// Addresses with texts for the client: `entry [text]`.
pub type AddressTexts = Addresses<Box<str>>;

impl AddressTexts {
    /// Reads lines of `entry [text]`; what is wrong with one goes to `complain`.
    pub fn read(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> AddressTexts {
        AddressTexts::read_by(lines, complain, AddressTexts::add)
    }

    /// Reads lines of `pattern [text]`, where every entry is a regular expression.
    pub fn read_patterns(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> AddressTexts {
        AddressTexts::read_by(lines, complain, AddressTexts::add_pattern)
    }

    fn read_by(
        lines: &Lines,
        complain: &mut dyn FnMut(&Line, String),
        add: fn(&mut AddressTexts, &str, Box<str>) -> Result<(), String>,
    ) -> AddressTexts {
        let mut list = AddressTexts::default();
        for line in lines {
            let (entry, text) = entry(line);
            if let Err(why) = add(&mut list, entry, text.into()) {
                complain(line, why);
            }
        }
        list
    }
}

/// A list of addresses in one file, and in an older one where every line is a regular expression.
#[derive(Debug, Default)]
pub struct AddressFiles {
    list: Cached<AddressTexts>,
    patterns: Cached<AddressTexts>,
}

impl AddressFiles {
    /// Reads both files while the plugin is being loaded; see [`Cached::load`].
    pub fn load(&self, at: &mut Loading<'_>, names: [&str; 2]) {
        self.list.load(at, names[0], AddressTexts::read);
        self.patterns.load(at, names[1], AddressTexts::read_patterns);
    }

    /// Whether neither has a line.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn is_empty(&self, s: &Session, names: [&str; 2]) -> Result<bool, Failure> {
        let list = self.list.of(s, names[0], AddressTexts::read)?;
        let patterns = self.patterns.of(s, names[1], AddressTexts::read_patterns)?;
        Ok(list.values.is_empty() && patterns.values.is_empty())
    }

    /// The text of the first line that fits; empty if it has none.
    ///
    /// # Errors
    /// A file cannot be read, or a pattern took too long.
    pub fn find(&self, s: &Session, names: [&str; 2], address: &Address) -> Result<Option<Box<str>>, Failure> {
        let list = self.list.of(s, names[0], AddressTexts::read)?;
        if let Some(text) = list.find(address).map_err(Failure::new)? {
            return Ok(Some(text.clone()));
        }
        let patterns = self.patterns.of(s, names[1], AddressTexts::read_patterns)?;
        Ok(patterns.find(address).map_err(Failure::new)?.cloned())
    }
}

/// An entry as [`folded`] has addresses: in lower case, the domain in ASCII.
fn exact(entry: &str) -> Box<str> {
    let entry = entry.to_lowercase();
    match entry.rsplit_once('@') {
        Some((user, domain)) => format!("{user}@{}", ascii_entry(domain)).into(),
        None => entry.into(),
    }
}

/// `user@host` in lower case.
pub fn folded(address: &Address) -> String {
    let mut text = address.address();
    match text.is_ascii() {
        true => text.make_ascii_lowercase(),
        false => text = text.to_lowercase(),
    }
    text
}

fn broken(pattern: &str, why: &str) -> String {
    format!("broken regular expression '{pattern}': {why}")
}

/// Whether an entry is meant as a regular expression: the original looked for one of `/ ^ $ * + ! % ? \`. A plus
/// sign behind a letter or a digit is rather that of `user+tag@example.com`.
fn is_pattern(entry: &str) -> bool {
    let mut before = None;
    entry.chars().any(|c| {
        let quantifier = c == '+' && matches!(before, Some('.' | ']' | ')' | '}'));
        before = Some(c);
        quantifier || "/^$*!%?\\".contains(c)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(lines: &[&str]) -> (AddressTexts, Vec<String>) {
        let mut told = Vec::new();
        let list = AddressTexts::read(&Lines::of("bad", lines), &mut |line, why| {
            told.push(format!("{}: {why}", line.place));
        });
        (list, told)
    }

    fn find(list: &AddressTexts, user: &str, host: &str) -> Option<String> {
        let found = list.find(&Address::new(user, Some(host)));
        found.unwrap().map(|text| text.to_string())
    }

    #[test]
    fn addresses_domains_and_patterns() {
        let (list, told) = list(&[
            "Joe@Example.org no Joe",
            "@spam.example no spam",
            "^offers[0-9]+@ no offers",
            r"\.invalid$ nowhere",
            "all.+@x.example plus",
            "Jürgen@Bücher.example no Jürgen",
        ]);
        assert!(told.is_empty(), "{told:?}");
        for (user, host, text) in [
            ("joe", "example.ORG", Some("no Joe")),
            ("ANY", "Spam.example", Some("no spam")),
            ("any", "not.spam.example", None),
            ("Offers12", "a.b", Some("no offers")),
            ("offers", "a.b", None),
            ("a", "b.INVALID", Some("nowhere")),
            ("allyou", "x.example", Some("plus")),
            ("jim", "example.org", None),
            ("jürgen", "xn--bcher-kva.example", Some("no Jürgen")),
        ] {
            assert_eq!(find(&list, user, host).as_deref(), text, "{user}@{host}");
        }
        assert_eq!(list.find(&Address::null()), Ok(None));
        assert_eq!(list.find(&Address::new("postmaster", None)), Ok(None));
    }

    #[test]
    fn the_first_line_counts() {
        let (list, _) = list(&["^a one", "a@b.c two", "@b.c three", "^b four"]);
        assert_eq!(find(&list, "a", "b.c").as_deref(), Some("one"));
        assert_eq!(find(&list, "b", "b.c").as_deref(), Some("three"));
        assert_eq!(find(&list, "b", "x").as_deref(), Some("four"));
    }

    #[test]
    fn a_plus_in_an_address_is_no_quantifier() {
        let (list, told) = list(&["user+tag@example.com x", "*star@example.com y"]);
        assert_eq!(find(&list, "user+tag", "example.com").as_deref(), Some("x"));
        assert_eq!(find(&list, "usertag", "example.com"), None);
        // broken as an expression, and still an address
        assert_eq!(told.len(), 1);
        assert_eq!(find(&list, "*star", "example.com").as_deref(), Some("y"));
        for (entry, pattern) in [
            ("a+b@c", false),
            ("+a@c", false),
            ("[ab]+@c", true),
            ("a@c", false),
            ("a%b@c", true),
        ] {
            assert_eq!(is_pattern(entry), pattern, "{entry}");
        }
    }

    #[test]
    fn a_broken_line_spoils_no_other() {
        let (list, told) = list(&["^(a", "nonsense", "a@b.c fine"]);
        assert_eq!(told.len(), 2);
        assert!(
            told[0].starts_with("config/bad:1: broken regular expression '^(a':"),
            "{told:?}"
        );
        assert!(
            told[1].starts_with("config/bad:2: 'nonsense' is no address"),
            "{told:?}"
        );
        assert_eq!(find(&list, "a", "b.c").as_deref(), Some("fine"));
    }

    #[test]
    fn a_pattern_that_takes_too_long_is_no_answer() {
        let (list, _) = list(&[r"^(.*)(.*)(.*)(.*)\1y$"]);
        assert!(list.find(&Address::new(&"a".repeat(60), Some("b.c"))).is_err());
    }
}
