//! Refuse recipients for certain senders (catalogue 16.2).

use std::collections::{HashMap, HashSet};

use crate::plugin::*;

plugin! {
    /// Refuses recipients that do not want mail from a certain sender, as if they did not exist.
    ///
    /// A line of FILE badmailfromto is a sender and a recipient, each an address or a domain with an @ before it.
    "badmailfromto", BadMailFromTo {}
    files ["badmailfromto"]
    state { pairs: Cached<Pairs> }
    hooks [rcpt]
    with [setup]
}

const FILE: &str = "badmailfromto";

/// By sender, the recipients who do not want its mail.
type Pairs = HashMap<Box<str>, HashSet<Box<str>>>;

impl BadMailFromTo {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        self.pairs.load(at, FILE, read);
        Ok(())
    }

    fn rcpt(&self, s: &mut Session, recipient: &Address, _: &Params) -> Answer {
        let pairs = self.pairs.of(s, FILE, read)?;
        if pairs.is_empty() || s.sender().host().is_none() || recipient.host().is_none() {
            return declined();
        }
        let (from, to) = (folded(s.sender()), folded(recipient));
        let unwanted = [&*from, domain(&from)]
            .into_iter()
            .filter_map(|from| pairs.get(from))
            .any(|list| list.contains(&*to) || list.contains(domain(&to)));
        if unwanted {
            info!(s, "fail: {from} to {to}");
            return dsn::no_such_user("");
        }
        info!(s, "pass");
        declined()
    }
}

/// `@host` of `user@host`.
fn domain(address: &str) -> &str {
    address.rfind('@').map_or("", |at| &address[at..])
}

fn read(lines: &Lines, complain: &mut dyn FnMut(&Line, String)) -> Pairs {
    let mut pairs = Pairs::new();
    for line in lines {
        let (from, rest) = entry(line);
        let (to, more) = entry(rest);
        if !from.contains('@') || !to.contains('@') {
            complain(
                line,
                "a line needs a sender and a recipient, addresses or @domain".to_owned(),
            );
            continue;
        }
        if !more.is_empty() {
            complain(line, format!("'{more}' behind the recipient is ignored"));
        }
        let list = pairs.entry(from.to_lowercase().into()).or_default();
        list.insert(to.to_lowercase().into());
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_refused() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(
            FILE,
            &[
                "a@x.example\tJoe@example.com",
                "@x.example jim@example.com",
                "b@y.example @Example.com",
            ],
        );
        for (from, to, unwanted) in [
            ("A@x.example", "joe@Example.com", true),
            ("a@x.example", "jim@example.com", true),
            ("other@X.example", "jim@example.com", true),
            ("other@x.example", "joe@example.com", false),
            ("b@y.example", "anybody@example.com", true),
            ("b@y.example", "anybody@sub.example.com", false),
            ("b@y.example", "postmaster", false),
            ("", "joe@example.com", false),
        ] {
            t.mail(from).declined();
            match unwanted {
                true => drop(t.rcpt(to).denied("no such user").status("5.1.1")),
                false => drop(t.rcpt(to).declined()),
            }
        }
        assert!(
            t.logged()
                .contains(&"(rcpt) badmailfromto: fail: a@x.example to joe@example.com".to_owned())
        );
    }

    #[test]
    fn there_is_no_immunity() {
        let mut t = Kit::load(&DECLARATION, "");
        t.config(FILE, &["a@x.example joe@example.com"]);
        t.s.relay_client = true;
        t.mail("a@x.example");
        t.rcpt("joe@example.com").denied("");
    }

    #[test]
    fn bad_lines_are_left_out() {
        let mut told = Vec::new();
        let lines = Lines::of(FILE, ["a@b.c", "a@b.c d@e.f more", "x y"]);
        let pairs = read(&lines, &mut |line, _| told.push(line.place.line));
        assert_eq!((pairs.len(), told), (1, vec![1, 2, 3]));
        assert!(Kit::faults(&DECLARATION, "extra")[0].contains("unknown argument 'extra'"));
    }
}
