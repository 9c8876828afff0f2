//! From config/plugins to a chain: names, aliases, instances, arguments (catalogue 2.6, 12).

use std::sync::Arc;

use super::lint::lint;
use super::{Chain, Declaration, Loaded, Loading, Word, words};
use crate::config::{Fault, Kind, Line, Lookup, nearest, setting};

/// An old name of a plugin.
pub struct Alias {
    /// The name of an older release.
    pub old: &'static str,
    /// The name it has now.
    pub now: &'static str,
    /// Arguments that keep the old behaviour; they come before those of the line.
    pub arguments: &'static [&'static str],
}

/// All plugins that there are.
pub struct Register {
    /// Their declarations.
    pub plugins: &'static [&'static Declaration],
    /// Names of older releases.
    pub aliases: &'static [Alias],
    /// Names that are not provided any more, and why.
    pub gone: &'static [(&'static str, &'static str)],
    /// Names that are accepted and load nothing, and what is said of them.
    pub ignored: &'static [(&'static str, &'static str)],
}

impl Register {
    /// The declaration of a name or an old name, with the arguments an old name brings.
    pub fn find(&self, name: &str) -> Option<(&'static Declaration, &'static [&'static str])> {
        let by_name = |wanted: &str| self.plugins.iter().find(|one| one.name == wanted).copied();
        if let Some(found) = by_name(name) {
            return Some((found, &[]));
        }
        // async/ was the folder of plugins for a server that is no more
        let plain = name.strip_prefix("async/").unwrap_or(name);
        let alias = |wanted: &str| self.aliases.iter().find(|alias| alias.old == wanted);
        match alias(name).or_else(|| alias(plain)) {
            Some(alias) => by_name(alias.now).map(|found| (found, alias.arguments)),
            None => by_name(plain).map(|found| (found, &[][..])),
        }
    }

    fn unknown(&self, name: &str) -> String {
        if name.contains("::") {
            return format!("'{name}' is a Perl module; only the plugins of this program can be loaded");
        }
        if let Some((_, why)) = self.gone.iter().find(|(gone, _)| *gone == name) {
            return format!("plugin '{name}' {why}");
        }
        let names = self.plugins.iter().map(|one| one.name);
        let old = self.aliases.iter().map(|alias| alias.old);
        let names = names.chain(old.filter(|old| self.find(old).is_some()));
        match nearest(name, names) {
            Some(near) => format!("unknown plugin '{name}', did you mean '{near}'?"),
            None => format!("unknown plugin '{name}'"),
        }
    }
}

/// Loads the plugins that the settings `logging` and `plugins` name.
///
/// All faults are found, not only the first; the chain is only complete if none of them is an error.
pub fn load_plugins(lookup: &Lookup, register: &Register) -> (Chain, Vec<Fault>) {
    let mut faults = Vec::new();
    let mut loaded = Vec::new();
    for file in ["logging", "plugins"] {
        for line in lookup.lines(file).iter() {
            loaded.extend(load_line(line, lookup, register, &mut faults));
        }
    }
    // where a plugin is missing because its line is faulty, the order says nothing
    if !faults.iter().any(Fault::is_error) {
        faults.extend(lint(&loaded, &lookup.lines("plugins")));
    }
    (Chain::new(loaded), faults)
}

/// Loads the plugin of one line.
pub fn load_line(line: &Line, lookup: &Lookup, register: &Register, faults: &mut Vec<Fault>) -> Option<Loaded> {
    if let Some(at) = line
        .bytes()
        .position(|byte| !(0x20..=0x7e).contains(&byte) && byte != b'\t')
    {
        let why = "only printable ASCII characters are allowed here";
        faults.push(line.fault(at..at + 1, why));
        return None;
    }
    let mut words = words(line);
    let name = words.remove(0);
    let plain = name.text.split(':').next().unwrap_or_default();
    let found = match name.text.contains("::") {
        true => None,
        false => register.find(plain),
    };
    if let Some((_, why)) = register.ignored.iter().find(|(old, _)| *old == plain) {
        let why = format!("plugin '{plain}' {why}");
        faults.push(line.fault(0..name.text.len(), why).as_warning());
        return None;
    }
    let Some((declaration, arguments)) = found else {
        let why = register.unknown(if name.text.contains("::") { &name.text } else { plain });
        faults.push(line.fault(0..name.text.len(), why));
        return None;
    };
    let brought = arguments.iter().map(|text| Word {
        text: (*text).to_owned(),
        start: 0,
    });
    let words: Vec<Word> = brought.chain(words).collect();
    let arguments = words.iter().map(|word| word.text.clone()).collect();
    // what cannot be read is seen before anybody is served, and workers have from birth what can
    for file in declaration.files {
        match setting(file).map(|setting| setting.kind) {
            Some(Kind::Map) => drop(lookup.map(file)),
            _ => drop(lookup.lines(file)),
        }
    }
    let mut loading = Loading::new(name.text.clone(), line.clone(), words, lookup);
    let plugin = (declaration.load)(&mut loading);
    let (loglevel, on_error) = (loading.loglevel, loading.on_error.unwrap_or_default());
    faults.extend(loading.into_faults());
    Some(Loaded {
        name: declaration.name,
        log_name: log_name(declaration.name, &name.text),
        hooks: declaration.hooks,
        plugin: plugin?,
        loglevel,
        on_error,
        arguments,
        line: line.clone(),
    })
}

/// The form of a plugin's name that the log tools know: `queue::qmail_2dqueue`, `ident::p0f_3a0` (catalogue 2.6).
fn log_name(name: &str, written: &str) -> Arc<str> {
    let instance = written.split_once(':').map_or("", |(_, instance)| instance);
    let whole = match instance {
        "" => name.to_owned(),
        instance => format!("{name}:{instance}"),
    };
    let mut log = String::new();
    let mut start = true;
    for c in whole.chars() {
        match c {
            '/' => log.push_str("::"),
            digit if start && digit.is_ascii_digit() && !log.is_empty() => {
                log.push_str(&format!("_{:x}", digit as u32))
            }
            plain if plain.is_ascii_alphanumeric() || plain == '_' => log.push(plain),
            other => log.push_str(&format!("_{:x}", other as u32)),
        }
        start = c == '/';
    }
    log.into()
}

#[cfg(test)]
mod tests;
