//! plugins/registry.txt, which the log tools read, keeps in step with the register of plugins.

use std::collections::{HashMap, HashSet};

use qpsmtpd::plugins::REGISTER;

use crate::place::text_of;

/// The name of a plugin in the registry: as in the log, but for hyphens.
fn in_log(name: &str) -> String {
    name.replace('/', "::")
}

#[test]
fn every_plugin_has_a_line_with_its_older_names() {
    let text = text_of("plugins/registry.txt");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let mut aliases = HashMap::new();
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    let mut heads = [HashSet::new(), HashSet::new()];
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert!(words.len() == 4 || words.len() == 5, "{line}");
        assert!(words[0].parse::<u32>().is_ok(), "{line}: the id is no number");
        assert!(
            words[2].len() <= 3 && words[3].len() <= 5,
            "{line}: too long for a column"
        );
        let fresh = ids.insert(words[0]) && names.insert(words[1].to_owned());
        assert!(
            fresh && heads[0].insert(words[2]) && heads[1].insert(words[3]),
            "{line}: something is there twice"
        );
        let others = words.get(4).map_or("", |w| *w).split(',');
        let others: Vec<String> = others.filter(|w| !w.is_empty()).map(str::to_owned).collect();
        for other in &others {
            assert!(names.insert(other.clone()), "{line}: {other} is there twice");
        }
        aliases.insert(words[1].to_owned(), others);
    }
    for plugin in REGISTER.plugins {
        let name = in_log(plugin.name);
        assert!(
            aliases.contains_key(&name),
            "plugins/registry.txt has no line for {name}"
        );
    }
    for alias in REGISTER.aliases {
        let (old, now) = (in_log(alias.old), in_log(alias.now));
        let known = aliases.get(&now).is_some_and(|others| others.contains(&old));
        assert!(known, "plugins/registry.txt: {now} lacks the alias {old}");
    }
}
