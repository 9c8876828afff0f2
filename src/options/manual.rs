//! What help and manual pages say beside the options, and the pages themselves: one set of tables for both.

use std::fmt::Write;
use std::io;

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use super::{Control, Forkserver, Prefork, Single};

/// A heading, and words with their meanings.
type Section = (&'static str, &'static [(&'static str, &'static str)]);

/// What the daemons' options do not tell.
const DAEMON: &[Section] = &[
    (
        "Signals",
        &[
            (
                "TERM",
                "no new connections; open transactions may finish, other clients get 421; then end",
            ),
            ("INT", "the same within 3 seconds; a second one ends at once"),
            (
                "HUP",
                "load configuration and plugins anew: idle workers are replaced at once, busy ones after their session; \
                 a faulty configuration is logged and changes nothing; with --canary some workers get it first, and the \
                 others only if those do no worse",
            ),
            (
                "USR2",
                "upgrade: start the program anew, which by now may be another release, with the same arguments and \
                 sockets; when its workers wait for connections this one ends with its last session; limits, rates and \
                 counters hold for both together; if it fails or takes longer than 60 seconds, that is \
                 logged and this one serves on",
            ),
        ],
    ),
    (
        "Files",
        &[
            (
                "config/plugins",
                "what becomes of clients, senders, recipients and messages",
            ),
            ("config/IP", "the address to listen on, 0 for all"),
            ("config/port", "the port to listen on"),
            (
                "config/*",
                "everything else, see qpsmtpd-config(5) or qpsmtpctl man qpsmtpd-config",
            ),
        ],
    ),
    (
        "Exit status",
        &[
            ("0", "ended by a signal"),
            ("2", "the command line is faulty"),
            ("67", "there is no user to serve as"),
            ("71", "the system refused something: an address in use, for one"),
            ("73", "another master runs, or a directory cannot be made"),
            ("78", "the configuration is faulty; all faults were printed"),
        ],
    ),
    (
        "Standard error",
        &[
            (
                "listening on ADDR:PORT",
                "for every listener, in the order given, whatever the log level",
            ),
            ("ready", "when workers wait for connections"),
        ],
    ),
];

/// The width of a line of help.
const WIDTH: usize = 100;

/// The sections as text, below the options of `--help`.
pub(super) fn more() -> String {
    let mut text = String::new();
    for (heading, entries) in DAEMON {
        let column = entries.iter().map(|(word, _)| word.len()).max().unwrap_or(0) + 4;
        text.push_str(if text.is_empty() { "" } else { "\n" });
        let _ = write!(text, "{heading}:");
        for (word, meaning) in *entries {
            let mut used = column;
            let _ = write!(text, "\n  {word:width$}", width = column - 2);
            for (number, part) in meaning.split(' ').enumerate() {
                if number > 0 && used + 1 + part.len() > WIDTH {
                    let _ = write!(text, "\n{:column$}", "");
                    used = column;
                } else if number > 0 {
                    text.push(' ');
                    used += 1;
                }
                text.push_str(part);
                used += part.len();
            }
        }
        text.push('\n');
    }
    text
}

/// The manual page of a program, made of its options; none for another name.
pub fn manual(program: &str) -> Option<String> {
    let (command, sections) = match program {
        "qpsmtpd-prefork" => (Prefork::command(), DAEMON),
        "qpsmtpd-forkserver" => (Forkserver::command(), DAEMON),
        "qpsmtpd" => (Single::command(), &[][..]),
        "qpsmtpctl" => (Control::command(), &[][..]),
        _ => return None,
    };
    let mut page = Vec::new();
    render(command.after_help(""), sections, &mut page).ok()?;
    String::from_utf8(page).ok()
}

fn render(command: Command, sections: &[Section], page: &mut dyn io::Write) -> io::Result<()> {
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).section("8");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if has_subcommands {
        man.render_subcommands_section(page)?;
    }
    for (heading, entries) in sections {
        writeln!(page, ".SH {}", heading.to_uppercase())?;
        for (word, meaning) in *entries {
            writeln!(page, ".TP\n\\fB{}\\fR\n{meaning}", word.replace('-', "\\-"))?;
        }
    }
    man.render_version_section(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_program_has_a_manual() {
        for program in ["qpsmtpd-prefork", "qpsmtpd-forkserver", "qpsmtpd", "qpsmtpctl"] {
            let page = manual(program).expect(program);
            assert!(page.contains(".SH NAME") && page.contains("\\-\\-version"), "{program}");
            assert_eq!(page.contains(".SH SIGNALS"), program.contains('-'), "{program}");
        }
        assert_eq!(manual("qpsmtpd-async"), None);
    }

    #[test]
    fn help_tells_all_and_fits_the_line() {
        for mut command in [Prefork::command(), Forkserver::command()] {
            let help = command.render_help().to_string();
            for (heading, entries) in DAEMON {
                assert!(help.contains(&format!("\n{heading}:\n")), "{help}");
                assert!(entries.iter().all(|(word, _)| help.contains(word)), "{help}");
            }
            assert!(help.lines().all(|line| line.len() <= WIDTH), "{help}");
        }
    }
}
