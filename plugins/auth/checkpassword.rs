//! The interface of checkpassword: a program reads user and password from descriptor 3, and if they are right runs the
//! next program; its exit code is the answer (catalogue 15.3).

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::plugin::*;

/// How long the program may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than this the interface does not hand over, in bytes.
const MOST: usize = 512;
/// The third word, a time stamp that nobody looks at.
const STAMP: &str = "Y123456";
/// vpopmail's user.
const VPOPMAIL: u32 = 89;

/// A program of this interface, and the one that it runs on success.
#[derive(Clone, Debug)]
pub struct Checker {
    /// The program that checks.
    pub program: PathBuf,
    /// The program that it runs then; it says yes by ending with 0.
    pub next: PathBuf,
    /// sudo, where it may be used.
    pub sudo: Option<PathBuf>,
}

impl Checker {
    /// Whether both programs can be run.
    ///
    /// # Errors
    /// Which one cannot.
    pub fn check(&self) -> Result<(), String> {
        [&self.program, &self.next]
            .into_iter()
            .try_for_each(|path| executable(path))
    }

    /// Asks the program.
    pub fn login(&self, s: &mut Session, with: &Credentials) -> Answer {
        let Some(password) = &with.password else {
            info!(s, "skip: {} sends no password", with.mechanism);
            return declined();
        };
        if with.user.contains('\0') || password.contains('\0') {
            info!(s, "fail: NUL in user or password");
            return deny("no NUL, please");
        }
        let words = format!("{}\0{password}\0{STAMP}\0", with.user);
        if words.len() > MOST {
            info!(s, "fail: user and password are longer than the interface takes");
            return declined();
        }
        let program = &self.program.display();
        let ran = match self.run(s, words.as_bytes()) {
            Ok(ran) => ran,
            Err(why) => return unavailable(s, format_args!("cannot run {program}: {why}")),
        };
        match ran.end {
            End::Exit(0) if ran.fed => {
                info!(s, "pass: {program} accepts the password");
                let user = with.user.clone();
                s.notes.set_text("authuser", user);
                ok()
            }
            End::Exit(0) => unavailable(s, format_args!("{program} accepts without reading the password")),
            End::Exit(code @ (2 | 111 | 126 | 127)) => {
                unavailable(s, format_args!("{program} cannot check passwords now (exit {code})"))
            }
            End::Exit(code) => {
                info!(s, "fail, auth failed: {code}");
                declined()
            }
            End::Signal(signal) => unavailable(s, format_args!("{program} crashed (signal {signal})")),
            End::TimedOut => unavailable(s, format_args!("{program} took longer than {PATIENCE:?}")),
            End::Immortal => {
                let process = ran.process;
                unavailable(
                    s,
                    format_args!("process {process} ({program}) takes too long and cannot be killed"),
                )
            }
        }
    }

    fn run(&self, s: &Session, words: &[u8]) -> std::io::Result<Ran> {
        let line = self.line(effective_user());
        let mut program = Program::new(&line[0]);
        program.command().args(&line[1..]).current_dir("/");
        program.command().env("TCPREMOTEIP", s.peer.ip.to_string());
        program.feed(3, words);
        program.run(PATIENCE)
    }

    /// The command line for this effective user: by sudo, unless the program needs no help to become who it must be.
    fn line(&self, user: u32) -> Vec<PathBuf> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        let for_vpopmail = name.ends_with("vchkpw");
        let alone = user == 0 || (user == VPOPMAIL && for_vpopmail) || changes_user(&self.program);
        let mut line = Vec::new();
        if let Some(sudo) = self.sudo.as_ref().filter(|_| !alone) {
            line.extend([sudo.clone(), "-n".into(), "-C4".into()]);
            if for_vpopmail {
                line.extend(["-u".into(), "vpopmail".into()]);
            }
        }
        line.extend([self.program.clone(), self.next.clone()]);
        line
    }
}

/// Whether a program runs as its owner, whoever starts it.
fn changes_user(program: &Path) -> bool {
    std::fs::metadata(program).is_ok_and(|file| file.mode() & 0o4000 != 0)
}

fn executable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(file) if file.is_file() && file.permissions().mode() & 0o111 != 0 => Ok(()),
        Ok(_) => Err(format!("{shown} is no program that can be run")),
        Err(why) => Err(format!("{shown}: {why}")),
    }
}

/// sudo, as PATH has it.
pub fn sudo() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut places = std::env::split_paths(&path).map(|place| place.join("sudo"));
    places.find(|place| executable(place).is_ok())
}

/// What a plugin with such a program needs: it reads what it likes and may become another user.
pub fn needs() -> Needs {
    Needs {
        programs: Programs::Any,
        ..Needs::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(program: &str, sudo: bool, user: u32) -> String {
        let checker = Checker {
            program: program.into(),
            next: "/bin/true".into(),
            sudo: sudo.then(|| "/usr/bin/sudo".into()),
        };
        let line = checker.line(user);
        line.iter()
            .map(|word| word.display().to_string())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn sudo_helps_those_who_need_it() {
        assert_eq!(line("/bin/check", true, 0), "/bin/check /bin/true");
        assert_eq!(
            line("/bin/check", true, 1000),
            "/usr/bin/sudo -n -C4 /bin/check /bin/true"
        );
        assert_eq!(line("/bin/check", false, 1000), "/bin/check /bin/true");
        let vchkpw = "/home/vpopmail/bin/vchkpw";
        assert_eq!(line(vchkpw, true, 89), format!("{vchkpw} /bin/true"));
        assert_eq!(
            line(vchkpw, true, 1000),
            format!("/usr/bin/sudo -n -C4 -u vpopmail {vchkpw} /bin/true")
        );
    }

    #[test]
    fn a_program_that_changes_its_user_needs_no_help() {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("check");
        std::fs::write(&program, "#!/bin/sh\n").expect("written");
        let shown = program.display().to_string();
        for (mode, alone) in [(0o755, false), (0o4711, true)] {
            std::fs::set_permissions(&program, PermissionsExt::from_mode(mode)).expect("mode");
            assert_eq!(line(&shown, true, 1000).starts_with(&shown), alone, "{mode:o}");
        }
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o644)).expect("mode");
        assert!(executable(&program).is_err_and(|why| why.contains("no program")));
        assert!(executable(Path::new("/nonexistent")).is_err());
    }
}
