//! Arguments of plugins: declared once, parsed here, with the place of every fault (catalogue 2.6, 6).

use super::COMMON;
use crate::config::Line;

/// A word of a plugin line.
#[derive(Clone, Debug)]
pub struct Word {
    /// The word.
    pub text: String,
    /// Where it begins in the line, in bytes.
    pub start: usize,
}

/// Splits a line at white space; there is no quoting.
pub fn words(line: &Line) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = 0;
    for text in line.split_ascii_whitespace() {
        let at = rest + line[rest..].find(text).unwrap_or(0);
        rest = at + text.len();
        words.push(Word {
            text: text.to_owned(),
            start: at,
        });
    }
    words
}

/// What came of setting an argument: maybe a warning, or why it cannot be.
pub type Set = Result<Option<String>, String>;

/// A type that an argument may have.
pub trait Arg: Sized {
    /// What a value looks like, for faults and the manual: `a number`.
    const WANTS: &'static str;
    /// Further argument names that belong to the same field.
    const ALSO: &'static [&'static str] = &[];

    /// Takes a word; `name` is the argument's name, for types that have several.
    ///
    /// # Errors
    /// Why the word is no such value.
    fn set(slot: &mut Option<Self>, name: &str, word: &str) -> Set;

    /// The value of an argument that is not given and has no default; none if it must be given.
    fn absent() -> Option<Self> {
        None
    }

    /// The value as a word of config/plugins, for the manual; empty if it is none.
    fn show(&self) -> String {
        String::new()
    }

    /// Fills from the default what the given words left open.
    fn complete(self, _default: Self) -> Self {
        self
    }
}

/// One argument, as the manual and the parser see it.
#[derive(Debug)]
pub struct ArgSpec {
    /// Its name.
    pub name: &'static str,
    /// `1`, `2`: the first, the second bare word may be it; `flag`: its bare name sets it; `rest`: all other words;
    /// `tail`: the first other word and all that follow it.
    pub place: Option<&'static str>,
    /// What a value looks like.
    pub wants: &'static str,
    /// Further names.
    pub also: &'static [&'static str],
    /// Shows the default as it would be written in config/plugins; an empty text if there is none to show.
    pub default: Option<fn() -> String>,
    /// Whether it must be given.
    pub required: fn() -> bool,
    /// What it is for.
    pub help: &'static str,
}

impl ArgSpec {
    /// Whether it takes words as they come and has no name that is written.
    pub fn is_nameless(&self) -> bool {
        matches!(self.place, Some("rest" | "tail"))
    }
}

/// A fault in the arguments: which word, what is wrong, and whether it only deserves a warning.
#[derive(Debug)]
pub struct BadWord {
    /// The word's place in the list.
    pub at: usize,
    /// What is wrong.
    pub why: String,
    /// Whether the plugin can be loaded all the same.
    pub warning: bool,
}

fn same(a: &str, b: &str) -> bool {
    a.len() == b.len()
        && a.bytes()
            .zip(b.bytes())
            .all(|(a, b)| a == b || matches!((a, b), (b'-' | b'_', b'-' | b'_')))
}

/// Reads `words` by `specs`; `set(field, name, word)` takes a value.
pub fn read_args(words: &[Word], specs: &[&ArgSpec], set: &mut dyn FnMut(&str, &str, &str) -> Set) -> Vec<BadWord> {
    let mut bad = Vec::new();
    let mut positional = 1;
    let mut in_tail = false;
    let mut at = 0;
    while at < words.len() {
        let word = words[at].text.as_str();
        let named = |spec: &&&ArgSpec| {
            !spec.is_nameless() && (same(spec.name, word) || spec.also.iter().any(|name| same(name, word)))
        };
        let mut here = at;
        let outcome = if let Some(spec) = specs.iter().find(named).filter(|_| !in_tail) {
            if spec.place == Some("flag") {
                set(spec.name, word, "1")
            } else if let Some(value) = words.get(at + 1) {
                at += 1;
                here = at;
                set(spec.name, word, &value.text)
            } else if let Some(spec) = positional_spec(specs, &mut positional) {
                // a bare word may look like a name: `loglevel` as a directory
                set(spec.name, spec.name, word)
            } else {
                Err(format!("argument '{word}' needs {}", spec.wants))
            }
        } else if let Some(spec) = positional_spec(specs, &mut positional) {
            set(spec.name, spec.name, word)
        } else if let Some(spec) = specs.iter().find(|spec| spec.is_nameless()) {
            in_tail = spec.place == Some("tail");
            set(spec.name, spec.name, word)
        } else {
            Err(unknown(word, specs))
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(why)) => bad.push(BadWord {
                at: here,
                why,
                warning: true,
            }),
            Err(why) => bad.push(BadWord {
                at: here,
                why,
                warning: false,
            }),
        }
        at += 1;
    }
    bad
}

fn positional_spec<'a>(specs: &[&'a ArgSpec], next: &mut u32) -> Option<&'a ArgSpec> {
    let wanted = next.to_string();
    let spec = specs.iter().copied().find(|spec| spec.place == Some(wanted.as_str()))?;
    *next += 1;
    Some(spec)
}

fn unknown(word: &str, specs: &[&ArgSpec]) -> String {
    let name = |spec: &&&ArgSpec| !spec.is_nameless();
    let names = || {
        specs
            .iter()
            .filter(name)
            .flat_map(|spec| std::iter::once(&spec.name).chain(spec.also))
            .copied()
    };
    // what every plugin takes is not told each time
    let own: Vec<&str> = names()
        .filter(|name| COMMON.iter().all(|spec| spec.name != *name))
        .collect();
    let takes = match own.as_slice() {
        [] => "it takes none".to_owned(),
        own => format!("it takes {}", own.join(", ")),
    };
    match crate::config::nearest(word, names()) {
        Some(near) => format!("unknown argument '{word}', did you mean '{near}'? ({takes})"),
        None => format!("unknown argument '{word}' ({takes})"),
    }
}

/// The leading number of a word, as Perl reads numbers, and whether something follows it.
fn leading(word: &str, fraction: bool) -> Option<(&str, bool)> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let allowed = |c: char| c.is_ascii_digit() || (fraction && c == '.');
    let end = digits.find(|c| !allowed(c)).unwrap_or(digits.len());
    let whole = word.len() - digits.len() + end;
    (end > 0).then_some((&word[..whole], whole < word.len()))
}

macro_rules! number {
    ($($type:ty: $fraction:literal, $wants:literal;)*) => {$(
        impl Arg for $type {
            const WANTS: &'static str = $wants;
            fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
                let wrong = || format!("'{word}' is not {}", $wants);
                let (number, more) = leading(word, $fraction).ok_or_else(wrong)?;
                *slot = Some(number.parse().map_err(|_| wrong())?);
                Ok(more.then(|| format!("'{word}' is taken as {number}")))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )*};
}

number! {
    u16: false, "a number from 0 to 65535";
    u32: false, "a number";
    u64: false, "a number";
    i32: false, "a number";
    i64: false, "a number";
    f64: true, "a number";
}

impl Arg for bool {
    const WANTS: &'static str = "0 or 1";
    /// Only the empty text and `0` were false; `no`, `off` and `false` are false here and get a warning.
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let negative = ["no", "off", "false"].iter().any(|no| word.eq_ignore_ascii_case(no));
        *slot = Some(!negative && !word.is_empty() && word != "0");
        Ok(negative.then(|| format!("'{word}' is taken as 0; to older releases it meant 1")))
    }
    fn absent() -> Option<Self> {
        Some(false)
    }
    fn show(&self) -> String {
        u8::from(*self).to_string()
    }
}

impl Arg for String {
    const WANTS: &'static str = "a word";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(word.to_owned());
        Ok(None)
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl Arg for std::path::PathBuf {
    const WANTS: &'static str = "a path";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(word.into());
        Ok(None)
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Arg for crate::log::Level {
    const WANTS: &'static str = "a log level";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(word.parse()?);
        Ok(None)
    }
    fn show(&self) -> String {
        self.name().to_owned()
    }
}

impl<T: Arg> Arg for Option<T> {
    const WANTS: &'static str = T::WANTS;
    const ALSO: &'static [&'static str] = T::ALSO;
    fn set(slot: &mut Option<Self>, name: &str, word: &str) -> Set {
        // some types gather several words
        let mut inner = slot.take().flatten();
        let outcome = T::set(&mut inner, name, word);
        *slot = Some(inner);
        outcome
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, T::show)
    }
}

impl<T: Arg> Arg for Vec<T> {
    const WANTS: &'static str = T::WANTS;
    const ALSO: &'static [&'static str] = T::ALSO;
    /// Each time the argument is given adds a value.
    fn set(slot: &mut Option<Self>, name: &str, word: &str) -> Set {
        let mut inner = None;
        let outcome = T::set(&mut inner, name, word)?;
        slot.get_or_insert_default().extend(inner);
        Ok(outcome)
    }
    fn absent() -> Option<Self> {
        Some(Vec::new())
    }
    fn show(&self) -> String {
        self.iter().map(T::show).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn spec(name: &'static str, place: Option<&'static str>) -> ArgSpec {
        ArgSpec {
            name,
            place,
            wants: "a word",
            also: &[],
            default: None,
            required: || false,
            help: "",
        }
    }

    fn read(text: &str, specs: &[ArgSpec]) -> (Vec<(String, String)>, Vec<String>) {
        let lines = crate::config::Lines::of("plugins", [text]);
        let mut set = Vec::new();
        let specs: Vec<&ArgSpec> = specs.iter().collect();
        let bad = read_args(&words(&lines[0]), &specs, &mut |field, _, word| {
            set.push((field.to_owned(), word.to_owned()));
            Ok(None)
        });
        (
            set,
            bad.into_iter().map(|bad| format!("{}: {}", bad.at, bad.why)).collect(),
        )
    }

    #[test]
    fn bare_words_fill_positions_and_names_take_values() {
        let specs = [
            spec("max", Some("1")),
            spec("check-at", None),
            spec("xclient", Some("flag")),
        ];
        let pairs = |list: &[(&str, &str)]| {
            list.iter()
                .map(|(a, b)| ((*a).into(), (*b).into()))
                .collect::<Vec<(String, String)>>()
        };
        assert_eq!(read("4", &specs).0, pairs(&[("max", "4")]));
        assert_eq!(
            read("max 4 check_at DATA", &specs).0,
            pairs(&[("max", "4"), ("check-at", "DATA")])
        );
        assert_eq!(read("xclient 4", &specs).0, pairs(&[("xclient", "1"), ("max", "4")]));
        assert_eq!(
            read("4 extra", &specs).1,
            ["1: unknown argument 'extra' (it takes max, check-at, xclient)"]
        );
        assert!(read("4 mac 5", &specs).1[0].contains("did you mean 'max'?"));
        assert_eq!(read("4 check-at", &specs).1, ["1: argument 'check-at' needs a word"]);
    }

    #[test]
    fn numbers_and_truths_follow_perl_with_a_warning() {
        fn set<T: Arg>(word: &str) -> (Option<T>, Set) {
            let mut slot = None;
            let outcome = T::set(&mut slot, "x", word);
            (slot, outcome)
        }
        assert_eq!(set::<u32>("12").0, Some(12));
        let (value, warning) = set::<u32>("12abc");
        assert_eq!(value, Some(12));
        assert!(warning.is_ok_and(|warning| warning.is_some()));
        assert!(set::<u32>("abc").1.is_err());
        assert!(set::<u32>("-1").1.is_err());
        assert_eq!(set::<f64>("1.5").0, Some(1.5));
        assert_eq!(set::<bool>("0").0, Some(false));
        assert_eq!(set::<bool>("yes").0, Some(true));
        assert_eq!(set::<bool>("0.0").0, Some(true));
        let (value, warning) = set::<bool>("Off");
        assert_eq!(value, Some(false));
        assert!(warning.is_ok_and(|warning| warning.is_some()));
    }
}
