//! Programs for tests of plugins that run some.

use std::path::Path;
use std::process::Command;

/// Writes a shell script that can be run at once. Another process does so: a file that this one has open for writing may
/// stay open in a child that another test is just making, and cannot be run until that has become its program.
///
/// # Panics
/// It cannot be written.
pub fn script(path: &Path, text: &str) {
    let write = r#"printf '#!/bin/sh\n%s' "$1" >"$0" && chmod 755 "$0""#;
    let done = Command::new("sh").arg("-c").arg(write).arg(path).arg(text).status();
    assert!(done.is_ok_and(|status| status.success()), "{}", path.display());
}
