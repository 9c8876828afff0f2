//! Files in a configuration folder that no table names: misspelt, most of the time.

use std::fs;
use std::path::Path;

use super::fault::Fault;
use super::lines::Place;
use super::nearest::nearest;
use super::table::TABLE;

/// One warning per file of `dir` that neither the table nor `others` (names of files that plugins and include
/// lines read) knows. Dot files, editors' backups, READMEs and folders are passed over.
pub fn unknown_files(dir: &Path, others: &[&str]) -> Vec<Fault> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    let known = || TABLE.iter().map(|setting| setting.name).chain(others.iter().copied());
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| !entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut faults = Vec::new();
    for name in names {
        let plain = name.strip_suffix(".cdb").unwrap_or(&name);
        if passed_over(&name) || known().any(|known| known == plain || known == name) {
            continue;
        }
        let hint = nearest(&name, known()).map_or(String::new(), |near| format!("; is '{near}' meant?"));
        let message = format!("nothing reads this file{hint}");
        faults.push(Fault::warning(message).at(Place::of_file(&dir.join(&name))));
    }
    faults
}

fn passed_over(name: &str) -> bool {
    let backup = [
        "~",
        ".bak",
        ".orig",
        ".rej",
        ".sample",
        ".example",
        ".md",
        ".dpkg-old",
        ".dpkg-dist",
    ];
    name.starts_with(['.', '#']) || name.starts_with("README") || backup.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_nothing_reads_and_what_may_be_meant() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let names = [
            "databytes",
            "databyte",
            "morercpthosts.cdb",
            "zzz",
            "tls_ciphers",
            ".hidden",
            "plugins~",
            "README.txt",
        ];
        for name in names {
            fs::write(dir.path().join(name), "").expect("written");
        }
        fs::create_dir(dir.path().join("folder")).expect("a folder");
        let faults = unknown_files(dir.path(), &["tls_ciphers"]);
        let root = format!("{}/", dir.path().display());
        let told: Vec<String> = faults
            .iter()
            .map(|fault| fault.to_string().replace(&root, ""))
            .collect();
        let misspelt = "databyte: warning: nothing reads this file; is 'databytes' meant?";
        assert_eq!(told, [misspelt, "zzz: warning: nothing reads this file"]);
    }

    #[test]
    fn a_folder_that_is_missing_has_no_files() {
        assert_eq!(unknown_files(Path::new("/no such folder"), &[]), []);
    }
}
