//! The folders a configuration is looked for in (catalogue 2.1).

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::lines::Place;

/// The folders in their order, and what is wrong with those that somebody named.
///
/// `own` is the folder in the working directory, `variable` the environment, `program` the running file.
pub(super) fn folders(
    explicit: Option<&Path>,
    own: &Path,
    variable: &dyn Fn(&str) -> Option<PathBuf>,
    program: Option<PathBuf>,
) -> (Vec<PathBuf>, Vec<Fault>) {
    let variable = |name| variable(name).filter(|value| !value.as_os_str().is_empty());
    let mut faults = Vec::new();
    let mut named = |dir: &Path, by: &str, fault: fn(String) -> Fault| match shut(dir) {
        Some(shut) => faults.push(shut),
        None if !dir.is_dir() => faults.push(fault(format!("{}: no such folder ({by})", dir.display()))),
        None => {}
    };
    let mut dirs = Vec::new();
    if let Some(dir) = variable("QPSMTPD_CONFIG") {
        named(&dir, "QPSMTPD_CONFIG", Fault::warning);
        dirs.push(dir);
    }
    match explicit {
        Some(dir) => {
            named(dir, "--config", Fault::error);
            dirs.push(dir.to_owned());
        }
        None if own.is_dir() || shut(own).is_some() => {
            faults.extend(shut(own));
            dirs.push(own.to_owned());
        }
        None => {
            let program = variable("PROCESS").or(program);
            dirs.extend(program.as_deref().and_then(Path::parent).map(|dir| dir.join("config")));
        }
    }
    dirs.push(variable("QMAIL").unwrap_or_else(|| "/var/qmail".into()).join("control"));
    (dirs, faults)
}

/// The fault of a folder that may not be searched: nobody knows what it says, so that it does not count as empty.
fn shut(dir: &Path) -> Option<Fault> {
    let error = dir.join(".").metadata().err()?;
    let denied = error.kind() == ErrorKind::PermissionDenied;
    denied.then(|| Fault::error(format!("cannot look into this folder: {error}")).at(Place::of_file(dir)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folders, with these variables set.
    fn found(explicit: Option<&str>, own: &Path, variables: &[(&str, &str)]) -> (Vec<PathBuf>, Vec<String>) {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let (dirs, faults) = folders(explicit.map(Path::new), own, &variable, Some("/usr/bin/qpsmtpd".into()));
        (dirs, faults.iter().map(Fault::headline).collect())
    }

    fn paths(paths: &[&str]) -> Vec<PathBuf> {
        paths.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn the_working_directory_wins_over_the_folder_of_the_program() {
        let dir = tempfile::TempDir::new().expect("a folder");
        let here = found(None, dir.path(), &[]);
        assert_eq!(here, (vec![dir.path().to_owned(), "/var/qmail/control".into()], vec![]));
        let missing = Path::new("no such folder");
        assert_eq!(
            found(None, missing, &[]).0,
            paths(&["/usr/bin/config", "/var/qmail/control"])
        );
        let process = [("PROCESS", "/home/smtpd/qpsmtpd"), ("QMAIL", "/q")];
        assert_eq!(
            found(None, missing, &process).0,
            paths(&["/home/smtpd/config", "/q/control"])
        );
    }

    #[test]
    fn what_is_named_comes_first_and_must_be_there() {
        let own = Path::new("/");
        let variables = [
            ("QPSMTPD_CONFIG", "/no such folder"),
            ("QMAIL", ""),
            ("PROCESS", "/home/smtpd/qpsmtpd"),
        ];
        let (dirs, faults) = found(Some("/none either"), own, &variables);
        assert_eq!(dirs, paths(&["/no such folder", "/none either", "/var/qmail/control"]));
        let told = [
            "warning: /no such folder: no such folder (QPSMTPD_CONFIG)",
            "/none either: no such folder (--config)",
        ];
        assert_eq!(faults, told);
        let (dirs, faults) = found(None, own, &[("QPSMTPD_CONFIG", "/tmp")]);
        assert_eq!((dirs, faults), (paths(&["/tmp", "/", "/var/qmail/control"]), vec![]));
    }
}
