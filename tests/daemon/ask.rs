//! Asking a daemon by qpsmtpctl.

use std::process::Output;

use crate::harness::Daemon;

impl Daemon {
    /// Runs qpsmtpctl.
    pub fn ctl(&self, words: &[&str]) -> Output {
        self.site.program("qpsmtpctl").args(words).output().expect("qpsmtpctl")
    }

    /// What qpsmtpctl prints when all is well.
    pub fn told(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {complaint}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// What it complains of, with exit code 1.
    pub fn refused(&self, words: &[&str]) -> String {
        let output = self.ctl(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(output.stdout.is_empty(), "{words:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    /// A fact of `qpsmtpctl status`.
    pub fn fact(&self, name: &str) -> String {
        let status = self.told(&["status"]);
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {status}"))
            .trim()
            .to_owned()
    }

    /// The words of the lines of a table, without the headings.
    pub fn rows(&self, words: &[&str]) -> Vec<Vec<String>> {
        let table = self.told(words);
        let split = |line: &str| line.split_whitespace().map(str::to_owned).collect();
        table.lines().skip(1).map(split).collect()
    }
}
