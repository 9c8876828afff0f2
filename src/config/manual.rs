//! The manual page qpsmtpd-config(5), made from the table and from the samples' opening comments.

use std::fmt::Write;

use super::table::{Setting, TABLE};

const DESCRIPTION: &str = r#".SH DESCRIPTION
qpsmtpd is configured as qmail is: each setting is a file of its own, named after it. A file that is missing, or
empty, means the default. A file that holds one value holds it on its first line; a list has one entry per line.
.PP
An edit is seen by the next connection, without a reload; only \fBplugins\fR, \fBlogging\fR, \fBplugin_dirs\fR,
\fBIP\fR and \fBport\fR, and what a plugin says it reads at load, wait for a reload or a start.
.SS Where a file is looked for
The first of these folders that has the file wins, for each name by itself:
.IP 1. 3
\fB$QPSMTPD_CONFIG\fR, if set;
.IP 2. 3
the folder of the option \fB\-\-config\fR; without it, \fIconfig\fR in the working directory; without that,
\fIconfig\fR beside the program (beside \fB$PROCESS\fR, if set);
.IP 3. 3
\fI$QMAIL/control\fR; if \fBQMAIL\fR is not set, \fI/var/qmail/control\fR.
.SS What a file looks like
Blanks around a line do not count, nor does a CR at its end. Empty lines and lines that start with \fB#\fR are
passed over; there are no comments at the end of a line. Text is UTF\-8.
.PP
A line \fB$include\fR \fIpath\fR stands for the lines of that file. A path without a leading slash is looked for in
the folders above. A folder stands for all files in it, sorted by name, but those whose names start with a dot.
What is missing stands for nothing. Included files may include others, 20 deep; a line that closes a circle is
dropped, and reported.
.PP
A file is at most 16 MiB long.
.SS Maps
A map is kept as \fIname\fB.cdb\fR, a constant database such as qmail\-newmrh or tinycdb write, or as the text file
\fIname\fR: a key per line and, after blanks, its value. The first folder that has the \fB.cdb\fR file wins, and
any such file wins over text.
.SS Flags
False is \fB0\fR; anything else is true. The words no, off and false are taken as false, with a warning, as the
original took them as true.
.SS Faults
What is wrong is told with file, line and column, and the line itself:
.PP
.EX
    config/databytes:1:1: '10M' is no whole number
        10M
        ^~~
.EE
.PP
Until it is mended the default holds. \fBqpsmtpctl check\fR shows every fault, also of plugins, and files that
nothing reads.
"#;

const END: &str = r#".SH ENVIRONMENT
.TP
.B QPSMTPD_CONFIG
The folder that is searched first.
.TP
.B PROCESS
The path that stands for the program when \fIconfig\fR is looked for beside it.
.TP
.B QMAIL
The home of qmail, /var/qmail if not set.
.TP
.B HOME
What \fB~/\fR stands for in \fBspool_dir\fR.
.SH SEE ALSO
.BR qpsmtpd-prefork (8),
.BR qpsmtpd-forkserver (8),
.BR qpsmtpd (8),
.BR qpsmtpctl (8)
"#;

/// The page in the man macros of roff.
pub fn manual() -> String {
    let mut page = String::new();
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(page, ".TH QPSMTPD\\-CONFIG 5 \"\" \"qpsmtpd {version}\"");
    page.push_str(".SH NAME\nqpsmtpd\\-config \\- the files that configure qpsmtpd\n");
    page.push_str(DESCRIPTION);
    let mut section = |title: &str, wanted: &dyn Fn(&Setting) -> bool| {
        let _ = writeln!(page, ".SH {title}");
        TABLE
            .iter()
            .filter(|setting| wanted(setting))
            .for_each(|setting| entry(&mut page, setting));
    };
    section("SETTINGS OF THE CORE", &|setting| setting.plugin.is_empty());
    section("FILES OF PLUGINS", &|setting| {
        !setting.plugin.is_empty() && !setting.sample.is_empty()
    });
    section("OLD FILES", &|setting| setting.sample.is_empty());
    page.push_str(END);
    page
}

fn entry(page: &mut String, setting: &Setting) {
    let Setting {
        name,
        kind,
        default,
        example,
        about,
        plugin,
        ..
    } = *setting;
    let reader = if plugin.is_empty() {
        String::new()
    } else {
        format!(", plugin {plugin}")
    };
    let _ = writeln!(page, ".TP\n\\fB{}\\fR ({kind}{})", escape(name), escape(&reader));
    let _ = writeln!(
        page,
        "{}\n.br\nDefault: {}. Example:\n.B {}",
        escape(about),
        escape(default),
        escape(example)
    );
    for paragraph in explanation(setting) {
        let _ = writeln!(page, ".IP\n{}", escape(&paragraph));
    }
}

/// The paragraphs of a sample's opening comment, without the sentence at its head and the types at its foot.
fn explanation(setting: &Setting) -> Vec<String> {
    let mut paragraphs = opening(setting.sample);
    paragraphs.retain(|paragraph| paragraph != setting.about && !paragraph.starts_with("Type: "));
    paragraphs
}

/// The paragraphs of the comment that a sample opens with.
fn opening(sample: &str) -> Vec<String> {
    let comment: Vec<&str> = sample.lines().map_while(|line| line.strip_prefix('#')).collect();
    let paragraphs = comment.split(|line| line.trim().is_empty());
    let joined = |lines: &[&str]| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ");
    paragraphs
        .map(joined)
        .filter(|paragraph| !paragraph.is_empty())
        .collect()
}

/// The text with all that roff would understand made plain.
pub fn escape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len() + 8);
    if text.starts_with(['.', '\'']) {
        plain.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => plain.push_str("\\e"),
            '-' => plain.push_str("\\-"),
            '~' => plain.push_str("\\(ti"),
            '^' => plain.push_str("\\(ha"),
            _ => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_every_setting_with_its_explanation() {
        let page = manual();
        for setting in TABLE {
            assert!(
                page.contains(&format!("\\fB{}\\fR (", escape(setting.name))),
                "{}",
                setting.name
            );
            assert!(page.contains(&escape(setting.about)), "{}", setting.name);
        }
        assert!(page.contains("As in qmail, line ends count as one byte."));
        assert!(!page.contains("Type: "));
    }

    #[test]
    fn text_is_no_request() {
        assert_eq!(escape(".x"), "\\&.x");
        assert_eq!(escape(r"a-b\.c"), r"a\-b\e.c");
        for line in manual().lines().filter(|line| line.starts_with('.')) {
            let known = [
                ".TH", ".SH", ".SS", ".TP", ".IP", ".PP", ".EX", ".EE", ".B", ".BR", ".br",
            ];
            let word = line.split(' ').next();
            assert!(known.iter().any(|known| word == Some(known)), "{line}");
        }
    }

    #[test]
    fn opening_comments_end_with_the_comment() {
        let sample = "# One\n# sentence.\n#\n# More.\n\n# not this\nvalue\n";
        assert_eq!(opening(sample), ["One sentence.", "More."]);
    }
}
