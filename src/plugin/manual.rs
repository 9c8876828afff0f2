//! The manual page qpsmtpd-plugins(7), made from the declarations of all plugins.

use std::fmt::Write;

use super::{ArgSpec, COMMON, Declaration, Register};
use crate::config::{escape, setting};

const DESCRIPTION: &str = r#".SH DESCRIPTION
The core of qpsmtpd speaks SMTP; what happens to a message is decided by plugins. \fIconfig/plugins\fR names those to
be loaded, one per line with its arguments, in the order in which they are asked; \fIconfig/logging\fR does the same
for those that log. At each step of a session, called a hook, the plugins that serve it are asked until one has an
opinion.
.SS Lines
A line is the name of a plugin and its arguments, split at blanks; there is no quoting. Most arguments are a name and
a value; where it is said below, the name may be left out. In names, \fB\-\fR and \fB_\fR are the same. An argument
that is given twice counts as it was given last, unless it can be given several times.
.PP
To load a plugin once more with arguments of its own, write its name with a colon and a word: \fBrelay:2\fR.
.PP
Numbers and truths are read as Perl reads them, with a warning where that surprises: 0 is false, any other word true;
of \fB12abc\fR the number counts.
.SS Verdicts
A plugin that refuses does so for good (5xx, the client gives up) or for now (4xx, it tries again), and may close the
connection. A plugin that accepts ends the question for the plugins behind it; most have no opinion most of the time.
"#;

const MANNERS: &str = r#".SS Common arguments
Some arguments mean the same wherever they are taken. Those that refuse take:
.TP
.B reject
What to do when the test fails: \fB0\fR logs it and lets the client pass, \fBnaughty\fR notes it down for the plugin
naughty, which refuses later, \fB1\fR refuses.
.TP
.B reject_type
How to refuse: \fBtemp\fR or \fBsoft\fR for now, \fBperm\fR or \fBhard\fR for good, \fBdisconnect\fR for good and
\fBtemp_disconnect\fR for now with the end of the connection.
.PP
All plugins take:
"#;

const IMMUNITY: &str = r#".SS Immunity
Clients that may relay (see plugin relay) or have logged in, and those on a whitelist, are spared most tests.
"#;

const END: &str = r#".SH SEE ALSO
.BR qpsmtpd-config (5),
.BR qpsmtpd-prefork (8),
.BR qpsmtpd-forkserver (8),
.BR qpsmtpd (8),
.BR qpsmtpctl (8)
"#;

/// The page in the man macros of roff.
pub fn manual(register: &Register) -> String {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page, ".TH QPSMTPD\\-PLUGINS 7 \"\" \"qpsmtpd {version}\"");
    page.push_str(".SH NAME\nqpsmtpd\\-plugins \\- the plugins of qpsmtpd and their arguments\n");
    page.push_str(DESCRIPTION);
    page.push_str(MANNERS);
    COMMON.iter().for_each(|arg| argument(&mut page, arg));
    page.push_str(IMMUNITY);
    page.push_str(".SH PLUGINS\n");
    register.plugins.iter().for_each(|one| plugin(&mut page, one, register));
    page.push_str(".SH NAMES THAT ARE GONE\n");
    for (name, why) in register.gone.iter().chain(register.ignored) {
        let _ = writeln!(page, ".TP\n.B {}\n{}.", escape(name), escape(why));
    }
    page.push_str(END);
    page
}

fn plugin(page: &mut String, one: &Declaration, register: &Register) {
    let _ = writeln!(page, ".SS {}", escape(one.name));
    for (at, paragraph) in paragraphs(one.about).iter().enumerate() {
        let _ = writeln!(page, "{}{}", if at > 0 { ".PP\n" } else { "" }, text(paragraph));
    }
    one.args.iter().for_each(|arg| argument(page, arg));
    let hooks: Vec<&str> = one.hooks.iter().map(|hook| hook.name()).collect();
    list(page, "Hooks", &hooks);
    let old = register.aliases.iter().filter(|alias| alias.now == one.name);
    let old: Vec<String> = old
        .map(|alias| match alias.arguments {
            [] => alias.old.to_owned(),
            brought => format!("{} (with {})", alias.old, brought.join(" ")),
        })
        .collect();
    list(page, "Old names", &old);
    if !one.files.is_empty() {
        page.push_str(".PP\nFiles:\n");
    }
    for name in one.files {
        let about = setting(name).map_or("", |file| file.about);
        let _ = writeln!(page, ".TP\n.I {}\n{}", escape(name), escape(about));
    }
}

/// A line of names under a plugin; nothing if there are none.
fn list(page: &mut String, title: &str, names: &[impl AsRef<str>]) {
    if names.is_empty() {
        return;
    }
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let _ = writeln!(page, ".PP\n{title}: {}.", escape(&names.join(", ")));
}

fn argument(page: &mut String, arg: &ArgSpec) {
    let flag = arg.place == Some("flag");
    let name = escape(arg.name);
    let _ = match (arg.is_nameless(), flag) {
        (true, _) => writeln!(page, ".TP\n\\fI{name}\\fR"),
        (_, true) => writeln!(page, ".TP\n\\fB{name}\\fR"),
        _ => writeln!(page, ".TP\n\\fB{name}\\fR \\fI{}\\fR", escape(arg.wants)),
    };
    let _ = writeln!(page, "{}", text(arg.help));
    let mut notes = Vec::new();
    if !arg.also.is_empty() {
        notes.push(format!("Comes with {}.", arg.also.join(", ")));
    }
    match arg.place {
        Some("1") => notes.push("The name may be left out.".to_owned()),
        Some("flag" | "rest" | "tail") | None => {}
        Some(place) => notes.push(format!(
            "As word number {place} without a name, the name may be left out."
        )),
    }
    let default = arg
        .default
        .map(|show| show())
        .filter(|shown| !shown.is_empty() && !flag);
    match default {
        Some(default) => notes.push(format!("Default: {default}.")),
        None if (arg.required)() => notes.push("It must be given.".to_owned()),
        None => {}
    }
    if !notes.is_empty() {
        let _ = writeln!(page, "{}", escape(&notes.join(" ")));
    }
}

/// The paragraphs of a comment in the source.
fn paragraphs(about: &str) -> Vec<String> {
    let lines: Vec<&str> = about.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).map(|lines| lines.join(" "));
    paragraphs.filter(|paragraph| !paragraph.is_empty()).collect()
}

/// Words with code between backticks, which is printed bold.
fn text(words: &str) -> String {
    let mut plain = String::new();
    for (at, piece) in words.trim().split('`').enumerate() {
        let piece = match at {
            0 => escape(piece),
            // only at the start of a line a dot is a request
            _ => escape(&format!(" {piece}")).split_off(1),
        };
        let _ = match at % 2 {
            1 => write!(plain, "\\fB{piece}\\fR"),
            _ => write!(plain, "{piece}"),
        };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Alias;

    mod sample {
        use crate::plugin::*;

        plugin! {
            /// Does one thing with `badhelo`.
            ///
            /// And, with `-x`,
            /// another.
            "queue/sample", Sample {
                /// How many.
                @1 max: u32 = 4,
                /// Which way.
                @2 way: Option<String>,
                /// Where to.
                target: String,
                /// Be fast.
                @flag fast: bool,
                /// What becomes of it.
                reject: Reject = Reject::off(),
                /// All the rest.
                @rest words: Vec<String>,
            }
            files ["badmailfrom"]
            hooks [mail, rcpt]
        }

        impl Sample {
            fn mail(&self, _s: &mut Session, _sender: &Address, _params: &Params) -> Answer {
                let _ = (&self.max, &self.way, &self.target, self.fast, &self.words, &self.reject);
                declined()
            }

            fn rcpt(&self, _s: &mut Session, _recipient: &Address, _params: &Params) -> Answer {
                declined()
            }
        }
    }

    static REGISTER: Register = Register {
        plugins: &[&sample::DECLARATION],
        aliases: &[Alias {
            old: "old-sample",
            now: "queue/sample",
            arguments: &["max", "1"],
        }],
        gone: &[("saslauth", "is not supported")],
        ignored: &[],
    };

    #[test]
    fn a_plugin_is_told_with_arguments_hooks_and_files() {
        let page = manual(&REGISTER);
        let start = page.find(".SS queue/sample\n").unwrap_or_default();
        let end = page.find(".SH NAMES").unwrap_or_default();
        assert_eq!(
            &page[start..end],
            r#".SS queue/sample
Does one thing with \fBbadhelo\fR.
.PP
And, with \fB\-x\fR, another.
.TP
\fBmax\fR \fIa number\fR
How many.
The name may be left out. Default: 4.
.TP
\fBway\fR \fIa word\fR
Which way.
As word number 2 without a name, the name may be left out.
.TP
\fBtarget\fR \fIa word\fR
Where to.
It must be given.
.TP
\fBfast\fR
Be fast.
.TP
\fBreject\fR \fI0, 1 or naughty\fR
What becomes of it.
Comes with reject_type. Default: 0, perm.
.TP
\fIwords\fR
All the rest.
.PP
Hooks: mail, rcpt.
.PP
Old names: old\-sample (with max 1).
.PP
Files:
.TP
.I badmailfrom
Senders that are refused, each with an optional text for the reply.
"#
        );
        assert!(page.contains(".TP\n.B saslauth\nis not supported.\n"));
        assert!(page.contains("\\fBon_error\\fR \\fIdefer or skip\\fR\n"));
    }
}
