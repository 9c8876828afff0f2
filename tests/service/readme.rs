//! What the README tells to type works, and the plugin it shows is the one that is there.

use crate::account::settled;
use crate::harness::Daemon;
use crate::place::{shell, text_of};
use crate::programs::need;

#[test]
fn the_plugin_in_the_readme_is_the_one_in_the_tree() {
    let readme = text_of("README.md");
    let shown = readme
        .split("```rust\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    let plugin = text_of("plugins/loop.rs");
    let real = plugin.split("\n#[cfg(test)]").next();
    assert_eq!(shown, real);
}

/// The commands that send a message, but for the port.
#[test]
fn the_commands_that_send_a_message_do() {
    let _user = settled();
    let readme = text_of("README.md");
    for (program, begin) in [
        ("curl", "    printf 'Subject: hello"),
        ("swaks", "or `swaks --server"),
        ("python3", "    python3 -c"),
    ] {
        if need(program).is_none() {
            continue;
        }
        let daemon = Daemon::start(&[]);
        let port = daemon.addresses[0].port().to_string();
        let line = readme.lines().find(|line| line.starts_with(begin)).expect(program);
        let command = line.trim_start_matches("or `").split('`').next().expect("a command");
        let output = shell(&command.replace("2525", &port));
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {err}");
        assert_eq!(daemon.site.messages().len(), 1, "{command}");
    }
}
