//! Decide about the recipients of one domain by a list of addresses (catalogue 17.3).

use std::collections::HashMap;

use crate::plugin::*;

plugin! {
    /// Decides about all recipients of one domain: by a file that lists them, and by a default for the others.
    ///
    /// A line of the file is an address, the name of a verdict, and words for the client:
    /// `joe@example.com DENYSOFT the mailbox is being moved`. Load it once for each domain, as rcpt_map:1 and so on.
    /// A changed file counts from the next connection on; while it is empty or cannot be read, what it said before
    /// still holds.
    "rcpt_map", RcptMap {
        /// The domain.
        domain: String,
        /// The path of the file.
        file: String,
        /// The verdict for addresses that are not in the file; behind a = words for the client, with _ for blanks.
        default: Otherwise = Otherwise::no_such_user(),
    }
    state { map: Cached<Map> }
    hooks [rcpt]
    with [setup, needs]
}

/// What a client hears if the file has no words for it.
const NO_SUCH_USER: &str = "No such user.";

/// By address in lower case.
type Map = HashMap<Box<str>, Ruling>;

/// What to say to those who are not in the file.
struct Otherwise(Ruling);

impl Otherwise {
    fn no_such_user() -> Otherwise {
        Otherwise(Ruling {
            verdict: Verdict::Deny,
            text: NO_SUCH_USER.into(),
        })
    }
}

impl Arg for Otherwise {
    const WANTS: &'static str = "a verdict, and maybe = and a text with _ for blanks";

    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let (code, text) = word.split_once('=').unwrap_or((word, ""));
        *slot = Some(Otherwise(ruling(&format!("{code} {}", text.replace('_', " ")))?));
        Ok(None)
    }

    fn show(&self) -> String {
        let Ruling { verdict, text } = &self.0;
        format!("{verdict}={}", text.replace(' ', "_"))
    }
}

/// A verdict and its words; a refusal without words gets the usual ones.
fn ruling(text: &str) -> Result<Ruling, String> {
    let mut ruling = Ruling::parse_reply(text)?;
    if ruling.verdict.denies() && ruling.text.is_empty() {
        ruling.text = NO_SUCH_USER.into();
    }
    Ok(ruling)
}

impl RcptMap {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        // the name of a setting that is a path is taken as a path
        let path = std::path::absolute(&self.file).map_err(|why| why.to_string())?;
        self.file = path.to_string_lossy().into_owned();
        self.map.load(at, &self.file, read);
        match self.map.last() {
            Some(map) if !map.is_empty() => Ok(()),
            _ => Err(format!("{} is missing or empty, or holds no sound line", self.file)),
        }
    }

    /// The folder: the file may be replaced by another of its name.
    fn needs(&self) -> Needs {
        let folder = std::path::Path::new(&self.file).parent();
        Needs {
            read: folder.into_iter().map(Into::into).collect(),
            ..Needs::default()
        }
    }

    fn rcpt(&self, s: &mut Session, recipient: &Address, _: &Params) -> Answer {
        if !recipient
            .host()
            .is_some_and(|host| host.eq_ignore_ascii_case(&self.domain))
        {
            debug!(s, "skip, not {}", self.domain);
            return declined();
        }
        let lines = s.services().lookup.lines(&self.file);
        let map = match self.map.last() {
            Some(last) if lines.is_empty() => {
                warning!(
                    s,
                    "error: {} is empty or cannot be read, the last one that was not counts",
                    self.file
                );
                last
            }
            _ => self.map.get(lines, |lines| {
                read(lines, &mut |line, why| warning!(s, "{}: {why}", line.place))
            }),
        };
        let found = map.get(&*folded(recipient));
        let ruling = found.unwrap_or(&self.default.0);
        let listed = if found.is_some() { "listed" } else { "not listed" };
        match ruling.verdict.denies() {
            true => info!(s, "fail, {recipient} is {listed}: {}", ruling.verdict),
            false => info!(s, "pass, {recipient} is {listed}: {}", ruling.verdict),
        }
        ruling.answer()
    }
}

fn read(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> Map {
    let mut map = Map::new();
    for line in lines {
        let (address, rest) = entry(line);
        match ruling(rest) {
            Ok(_) if !address.contains('@') => complain(line, format!("'{address}' is no address")),
            Ok(ruling) => drop(map.insert(address.to_lowercase().into(), ruling)),
            Err(why) => complain(line, why),
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/srv/users";

    fn kit(arguments: &str, lines: &[&str]) -> Kit {
        let arguments = format!("domain Example.com file {FILE} {arguments}");
        let mut t = Kit::load_with(&DECLARATION, &arguments, &[(FILE, lines)]);
        t.mail("a@b.example");
        t
    }

    #[test]
    fn the_file_decides_about_its_domain() {
        let mut t = kit(
            "",
            &[
                "Joe@Example.com OK",
                "jim@example.com DENYSOFT is being moved",
                "jack@example.com DENY",
                "jane@example.com DECLINED",
                "bad@example.com YES",
            ],
        );
        assert_eq!(t.rcpt("JOE@example.COM").ok().text, "");
        assert_eq!(t.logged(), ["(rcpt) rcpt_map: pass, JOE@example.COM is listed: OK"]);
        t.rcpt("jim@example.com").deferred("is being moved");
        t.rcpt("jack@example.com").denied("No such user.");
        t.rcpt("jane@example.com").declined();
        t.logged();
        t.rcpt("bad@example.com").denied("No such user.");
        assert_eq!(
            t.logged(),
            ["(rcpt) rcpt_map: fail, bad@example.com is not listed: DENY"]
        );
        t.rcpt("joe@other.example").declined();
        t.rcpt("postmaster").declined();
    }

    #[test]
    fn the_default_is_an_argument() {
        let lines = &["joe@example.com OK"][..];
        kit("default DENYSOFT=ask_me_later", lines)
            .rcpt("x@example.com")
            .deferred("ask me later");
        kit("default DENY", lines).rcpt("x@example.com").denied("No such user.");
        kit("default DECLINED", lines).rcpt("x@example.com").declined();
        kit("default OK", lines).rcpt("x@example.com").ok();
        for (arguments, why) in [
            ("domain x file /srv/users default MAYBE", "'MAYBE' is no verdict"),
            ("domain x file /srv/users default DONE", "without a reply"),
            ("file /srv/users", "argument 'domain' is missing"),
            ("domain x", "argument 'file' is missing"),
            ("domain x file /srv/users", "/srv/users is missing or empty"),
        ] {
            let faults = Kit::faults(&DECLARATION, arguments).join("\n");
            assert!(faults.contains(why), "{arguments}: {faults}");
        }
    }

    #[test]
    fn a_changed_file_counts_and_an_empty_one_does_not() {
        let mut t = kit("", &["joe@example.com OK"]);
        t.config(FILE, &["jim@example.com OK", "jack@example.com NO"]);
        t.rcpt("jim@example.com").ok();
        assert!(t.logged()[0].contains("/srv/users:2: 'NO' is no verdict"));
        t.rcpt("joe@example.com").denied("");
        t.config(FILE, &[]);
        t.rcpt("jim@example.com").ok();
        assert!(
            t.logged()
                .iter()
                .any(|line| line.contains("error: /srv/users is empty"))
        );
    }
}
