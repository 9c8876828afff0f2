//! An envelope address: parsing from and printing as a path (RFC 5321, 4.1.2; catalogue 3).
//!
//! The parser follows the grammar of RFC 5321: dot-strings, quoted strings, address literals with checked ranges,
//! source routes (dropped), the null path and `<postmaster>`. [`Syntax`] loosens it where real mail needs that.
//!
//! Limits: a domain has at most 255 octets and a label 63. RFC 5321 asks receivers to take local parts of at least
//! 64 octets; we take 256, since the senders that mailing lists and SRS make are often longer than 64. A path is
//! therefore never longer than 514 octets after the source route is gone; with one it may have 900, as in qmail.

use std::cmp::Ordering;
use std::fmt;

use super::mailbox::{is_atom, is_dot_string, parse_mailbox, source_route};

/// The longest local part that is accepted, in octets without quotes.
pub const MAX_LOCAL: usize = 256;
/// The longest path that is accepted, in octets, with brackets and source route.
pub const MAX_PATH: usize = 900;

/// A mailbox of the envelope, the null sender or the bare `postmaster`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    local: String,
    host: Option<String>,
}

/// How far the parser goes beyond RFC 5321.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syntax {
    /// An unquoted local part must only begin with an atom; what follows may be anything but controls and angle
    /// brackets, so that `a b`, `a,b`, `a..b` and `a@b` pass.
    pub lenient_local: bool,
    /// Domains may contain underscores, as some real host names do.
    pub underscore: bool,
    /// Local parts and domains may contain what is not ASCII (RFC 6531); domains become ASCII (RFC 5891).
    pub utf8: bool,
}

/// Why a text is no path, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress {
    /// The reason, a phrase without a full stop.
    pub why: &'static str,
    /// The byte of the text at which it went wrong, from 0.
    pub at: usize,
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at column {})", self.why, self.at + 1)
    }
}

impl std::error::Error for BadAddress {}

pub(super) fn bad<T>(why: &'static str, at: usize) -> Result<T, BadAddress> {
    Err(BadAddress { why, at })
}

impl Address {
    /// The null sender `<>`.
    pub fn null() -> Address {
        Address {
            local: String::new(),
            host: None,
        }
    }

    /// Whether this is the null sender.
    pub fn is_null(&self) -> bool {
        self.local.is_empty() && self.host.is_none()
    }

    /// An address from its parts, unquoted. The grammar is not checked, but control characters are dropped, so that
    /// no printed address can hold a line end.
    pub fn new(local: &str, host: Option<&str>) -> Address {
        Address {
            local: without_controls(local),
            host: host.map(without_controls),
        }
    }

    /// Parses a path in angle brackets, as `<user@host>`, `<>`, `<postmaster>` or `<@relay:user@host>`.
    ///
    /// # Errors
    /// What the grammar and `syntax` do not allow; a client is told so with 501.
    pub fn parse(path: &str, syntax: Syntax) -> Result<Address, BadAddress> {
        if path.len() > MAX_PATH {
            return bad("the path is too long", MAX_PATH);
        }
        let Some(open) = path.strip_prefix('<') else {
            return bad("the opening angle bracket is missing", 0);
        };
        let Some(inner) = open.strip_suffix('>') else {
            return bad("the closing angle bracket is missing", path.len());
        };
        let route = source_route(inner, syntax)?;
        let mailbox = &inner[route..];
        if mailbox.is_empty() {
            return if route == 0 {
                Ok(Address::null())
            } else {
                bad("the mailbox is missing", 1 + route)
            };
        }
        if mailbox.eq_ignore_ascii_case("postmaster") {
            return Ok(Address {
                local: "postmaster".to_owned(),
                host: None,
            });
        }
        let (local, host) = parse_mailbox(mailbox, syntax).map_err(|e| BadAddress {
            why: e.why,
            at: e.at + 1 + route,
        })?;
        Ok(Address {
            local,
            host: Some(host),
        })
    }

    /// Like [`Address::parse`], for the argument of MAIL: qmail's double bounce `<#@[]>` and anything with
    /// `[undefined]` are the null sender too.
    ///
    /// # Errors
    /// As [`Address::parse`].
    pub fn parse_sender(path: &str, syntax: Syntax) -> Result<Address, BadAddress> {
        if path == "<#@[]>" || path.contains("[undefined]") {
            return Ok(Address::null());
        }
        Address::parse(path, syntax)
    }

    /// The local part without quotes; empty for the null sender.
    pub fn user(&self) -> &str {
        &self.local
    }

    /// The domain, in ASCII, or the address literal in its brackets; none for the null sender and the bare postmaster.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Puts another domain in place of the present one.
    pub fn set_host(&mut self, host: Option<&str>) {
        self.host = host.map(without_controls);
    }

    /// `user@host` without quotes, `user` where there is no host, nothing for the null sender.
    pub fn address(&self) -> String {
        let host = self.host.as_deref().unwrap_or_default();
        let mut text = String::with_capacity(self.local.len() + 1 + host.len());
        text.push_str(&self.local);
        if self.host.is_some() {
            text.push('@');
            text.push_str(host);
        }
        text
    }

    /// The path in angle brackets. A local part that is no dot-string is quoted, and every character in it that is
    /// neither an atom's nor a dot is preceded by a backslash: `<"a\ b"@c>`.
    pub fn path(&self) -> String {
        let mut text = String::with_capacity(self.local.len() + self.host.as_ref().map_or(0, String::len) + 8);
        text.push('<');
        if self.is_null() || is_dot_string(&self.local) {
            text.push_str(&self.local);
        } else {
            text.push('"');
            for c in self.local.chars() {
                if !is_atom(c, true) && c != '.' {
                    text.push('\\');
                }
                text.push(c);
            }
            text.push('"');
        }
        if let Some(host) = &self.host {
            text.push('@');
            text.push_str(host);
        }
        text.push('>');
        text
    }

    /// The same address with both parts in lower case, for comparisons.
    pub fn lower(&self) -> Address {
        Address {
            local: self.local.to_lowercase(),
            host: self.host.as_ref().map(|host| host.to_lowercase()),
        }
    }

    /// Whether the local part or the domain holds anything that is not ASCII, so that SMTPUTF8 is needed to pass
    /// it on (RFC 6531).
    pub fn needs_utf8(&self) -> bool {
        !self.local.is_ascii() || self.host.as_ref().is_some_and(|host| !host.is_ascii())
    }
}

impl fmt::Display for Address {
    /// As [`Address::address`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local)?;
        match &self.host {
            Some(host) => write!(f, "@{host}"),
            None => Ok(()),
        }
    }
}

impl Ord for Address {
    /// By host, then by user.
    fn cmp(&self, other: &Address) -> Ordering {
        self.host.cmp(&other.host).then_with(|| self.local.cmp(&other.local))
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Address) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn without_controls(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STRICT: Syntax = Syntax {
        lenient_local: false,
        underscore: false,
        utf8: false,
    };
    const LENIENT: Syntax = Syntax {
        lenient_local: true,
        ..STRICT
    };
    const ALL: Syntax = Syntax {
        lenient_local: true,
        underscore: true,
        utf8: true,
    };

    fn address(path: &str, syntax: Syntax) -> String {
        match Address::parse(path, syntax) {
            Ok(address) => address.path(),
            Err(_) => "501".to_owned(),
        }
    }

    #[test]
    fn golden_dialogues() {
        for (path, strict, lenient) in [
            ("<>", "<>", "<>"),
            ("<a@b>", "<a@b>", "<a@b>"),
            ("<@x,@y:a@b>", "<a@b>", "<a@b>"),
            ("<@[IPv6:::1],@y:a@b>", "<a@b>", "<a@b>"),
            ("<@x:>", "501", "501"),
            ("<@x,y:a@b>", "501", "501"),
            ("<@x@y:a@b>", "501", "501"),
            ("<@:a@b>", "501", "501"),
            ("<postmaster>", "<postmaster>", "<postmaster>"),
            ("<PostMaster>", "<postmaster>", "<postmaster>"),
            ("<PostMaster@b.c>", "<PostMaster@b.c>", "<PostMaster@b.c>"),
            ("<abuse>", "501", "501"),
            ("<joe>", "501", "501"),
            ("<a b@c.d>", "501", r#"<"a\ b"@c.d>"#),
            ("<a,b@c.d>", "501", r#"<"a\,b"@c.d>"#),
            ("<x(y)@c.d>", "501", r#"<"x\(y\)"@c.d>"#),
            ("<a@b@c.d>", "501", r#"<"a\@b"@c.d>"#),
            ("<a..b@c.d>", "501", r#"<"a..b"@c.d>"#),
            ("<a.@c.d>", "501", r#"<"a."@c.d>"#),
            (r#"<"a b"@c.d>"#, r#"<"a\ b"@c.d>"#, r#"<"a\ b"@c.d>"#),
            (r#"<"a.b"@c.d>"#, "<a.b@c.d>", "<a.b@c.d>"),
            (r#"<"a\"b"@c.d>"#, r#"<"a\"b"@c.d>"#, r#"<"a\"b"@c.d>"#),
            (r#"<"a>@b"@c.d>"#, r#"<"a\>\@b"@c.d>"#, r#"<"a\>\@b"@c.d>"#),
            (r#"<""@c.d>"#, r#"<""@c.d>"#, r#"<""@c.d>"#),
            (r#"<"a"b@c.d>"#, "501", "501"),
            (r#"<"a@c.d>"#, "501", "501"),
            (r#"<"a\"@c.d>"#, "501", "501"),
            ("<a@[127.0.0.1]>", "<a@[127.0.0.1]>", "<a@[127.0.0.1]>"),
            ("<a@[300.0.0.1]>", "501", "501"),
            ("<a@b..c>", "501", "501"),
            ("<a@b.c.>", "501", "501"),
            ("<a@-b.c>", "501", "501"),
            ("<.a@b.c>", "501", "501"),
            ("<.x@y>", "501", "501"),
            ("<(x)@y>", "501", "501"),
            ("<@b.c>", "501", "501"),
            ("<@>", "501", "501"),
            ("<a@>", "501", "501"),
            ("<a@b.c", "501", "501"),
            ("a@b.c>", "501", "501"),
            ("a@b.c", "501", "501"),
            ("<a><b@c>", "501", "501"),
            ("<a@x_y.z>", "501", "501"),
            ("<a\rb@c>", "501", "501"),
            ("<\u{e9}@b.c>", "501", "501"),
            ("<a\u{e9}@b.c>", "501", "501"),
            ("<#@[]>", "501", "501"),
            ("", "501", "501"),
            ("<", "501", "501"),
            (">", "501", "501"),
        ] {
            assert_eq!(address(path, STRICT), strict, "strict {path}");
            assert_eq!(address(path, LENIENT), lenient, "lenient {path}");
        }
        assert_eq!(address("<a@x_y.z>", ALL), "<a@x_y.z>");
        assert_eq!(address("<\u{e9}@b\u{fc}.c>", ALL), "<\u{e9}@xn--b-eha.c>");
    }

    #[test]
    fn senders() {
        assert!(Address::parse_sender("<#@[]>", STRICT).unwrap().is_null());
        assert!(Address::parse_sender("<x@[undefined]>", STRICT).unwrap().is_null());
        assert_eq!(Address::parse_sender("<a@b>", STRICT).unwrap().address(), "a@b");
    }

    #[test]
    fn place_of_the_fault() {
        let place = |path| Address::parse(path, STRICT).unwrap_err().at;
        assert_eq!(place("<a b@c>"), 2);
        assert_eq!(place("<a@b_c>"), 4);
        assert_eq!(place("<@x:a@b_c>"), 7);
        assert_eq!(place("<a@b"), 4);
        assert_eq!(
            Address::parse("<a b@c>", STRICT).unwrap_err().to_string(),
            "character not allowed in the local part (at column 3)"
        );
    }

    #[test]
    fn parts_and_order() {
        let mut a = Address::new("Joe\r\n", Some("Ex.Org"));
        assert_eq!((a.user(), a.host()), ("Joe", Some("Ex.Org")));
        assert_eq!(a.lower().address(), "joe@ex.org");
        assert_eq!(a.to_string(), a.address());
        a.set_host(Some("a.org"));
        assert_eq!(a.path(), "<Joe@a.org>");
        assert_eq!(Address::null().address(), "");
        assert_eq!(
            Address::parse("<postmaster>", STRICT).unwrap().to_string(),
            "postmaster"
        );
        assert!(Address::new("z", Some("a")) < Address::new("a", Some("b")));
        assert!(Address::new("a", Some("a")) < Address::new("b", Some("a")));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_fails(path in "<?\\PC{0,40}>?") {
            for syntax in [STRICT, LENIENT, ALL] {
                let _ = Address::parse(&path, syntax);
            }
        }

        #[test]
        fn what_was_parsed_survives_printing(path in r#"<(@[a-z]{1,3}:)?("?[ -~é]{0,12}"?|[a-z."@\\ ]{0,8})@([a-z0-9._-]{1,8}|\[[0-9.]{1,9}\]|é)>"#) {
            for syntax in [STRICT, LENIENT, ALL] {
                if let Ok(address) = Address::parse(&path, syntax) {
                    let printed = address.path();
                    // What was printed needs no leniency.
                    let strict = Syntax { lenient_local: false, ..syntax };
                    prop_assert_eq!(Address::parse(&printed, strict), Ok(address), "{}", printed);
                }
            }
        }

        #[test]
        fn any_local_part_can_be_printed(local in "\\PC{0,40}") {
            let address = Address::new(&local, Some("b.c"));
            let utf8 = Syntax { utf8: true, ..STRICT };
            prop_assert_eq!(Address::parse(&address.path(), utf8), Ok(address));
        }
    }
}
