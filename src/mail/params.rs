//! The arguments of MAIL and RCPT: the path as it was sent and the parameters after it (catalogue 3, 14.9).
//!
//! These functions split the line; [`Address::parse`](super::Address::parse) judges the path, after the hooks
//! `mail_pre` and `rcpt_pre` have had a chance to change it.

/// What is wrong when the keyword `FROM:` or `TO:` is not there.
pub const NO_KEYWORD: &str = "syntax error in command";
/// What is wrong when something after the address is no parameter.
pub const BAD_PARAMETERS: &str = "syntax error in parameters";
/// What is wrong when there is no address, or a bare word that cannot be one.
pub const BAD_ADDRESS: &str = "syntax error in address";
/// What the strict parser says of parameters.
pub const NO_PARAMETERS: &str = "no parameters allowed";

/// The parameters of a MAIL or RCPT command, in the order they were sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params(Vec<(String, Option<String>)>);

impl Params {
    /// No parameters.
    pub fn new() -> Params {
        Params::default()
    }

    /// The value of the first parameter with this key, which must be in lower case; an empty text if the parameter
    /// has no value.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// Whether a parameter with this key, in lower case, was sent.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys in lower case and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one parameter `KEY` or `KEY=value`.
    pub fn push(&mut self, word: &str) {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        self.0.push((key.to_ascii_lowercase(), value));
    }
}

/// The argument of MAIL or RCPT, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathLine {
    /// The address as it was sent, normally in angle brackets.
    pub address: String,
    /// What followed it.
    pub params: Params,
}

/// Which of the two commands a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathVerb {
    /// `MAIL FROM:`
    Mail,
    /// `RCPT TO:`
    Rcpt,
}

/// Splits what follows `MAIL`. Nothing after the colon is the null path.
///
/// # Errors
/// A phrase for the 501 reply.
pub fn mail_line(rest: &str) -> Result<PathLine, &'static str> {
    split(PathVerb::Mail, rest)
}

/// Splits what follows `RCPT`.
///
/// # Errors
/// A phrase for the 501 reply.
pub fn rcpt_line(rest: &str) -> Result<PathLine, &'static str> {
    split(PathVerb::Rcpt, rest)
}

/// Splits what follows `MAIL` or `RCPT` in a session that began with HELO: no parameters are allowed. This is the
/// parser of the plugin parse_addr_withhelo (catalogue 14.9).
///
/// # Errors
/// A phrase for the 501 reply.
pub fn strict_line(verb: PathVerb, rest: &str) -> Result<PathLine, &'static str> {
    let text = keyword(verb, rest)?;
    if let Some(end) = path_end(text) {
        return if text[end..].is_empty() {
            Ok(without_params(text))
        } else {
            Err(NO_PARAMETERS)
        };
    }
    if text.contains('@') {
        let more = text.rsplit('@').next().is_some_and(|host| host.contains([' ', '\t']));
        return if more {
            Err(NO_PARAMETERS)
        } else {
            Ok(without_params(text))
        };
    }
    bare(verb, text).map(without_params)
}

fn without_params(address: &str) -> PathLine {
    PathLine {
        address: address.to_owned(),
        params: Params::new(),
    }
}

fn split(verb: PathVerb, rest: &str) -> Result<PathLine, &'static str> {
    let text = keyword(verb, rest)?;
    if let Some(end) = path_end(text) {
        let (address, tail) = text.split_at(end);
        return Ok(PathLine {
            address: address.to_owned(),
            params: all_params(tail)?,
        });
    }
    // Without brackets the address is what remains when the parameters have been taken off the end.
    let mut address = text;
    let mut words = Vec::new();
    while let Some((before, word)) = address.rsplit_once([' ', '\t']) {
        if !is_param(word) {
            break;
        }
        words.push(word);
        address = before.trim_end_matches([' ', '\t']);
    }
    if let Some((_, host)) = address.split_once('@') {
        if host.contains([' ', '\t']) {
            return Err(BAD_PARAMETERS);
        }
    } else if !address.starts_with('<') {
        address = bare(verb, address)?;
    }
    let mut params = Params::new();
    words.iter().rev().for_each(|word| params.push(word));
    Ok(PathLine {
        address: address.to_owned(),
        params,
    })
}

/// The text after `FROM:` or `TO:` without the blanks around it.
fn keyword(verb: PathVerb, rest: &str) -> Result<&str, &'static str> {
    let keyword = match verb {
        PathVerb::Mail => "from:",
        PathVerb::Rcpt => "to:",
    };
    match rest.get(..keyword.len()) {
        Some(start) if start.eq_ignore_ascii_case(keyword) => Ok(rest[keyword.len()..].trim_matches([' ', '\t'])),
        _ => Err(NO_KEYWORD),
    }
}

/// An address without brackets and without `@`: nothing is the null sender, and the names of two mailboxes that
/// every site has may be recipients. A sender is left to the address parser.
fn bare(verb: PathVerb, text: &str) -> Result<&str, &'static str> {
    let role = |name: &str| text.eq_ignore_ascii_case(name);
    match verb {
        PathVerb::Mail if text.is_empty() => Ok("<>"),
        PathVerb::Mail => Err(BAD_ADDRESS),
        PathVerb::Rcpt if role("postmaster") || role("abuse") => Ok(text),
        PathVerb::Rcpt => Err(BAD_ADDRESS),
    }
}

/// Where a path in angle brackets ends: after the first `>` that is not inside a quoted local part. None if the text
/// does not begin with a bracket or has no closing one.
fn path_end(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('<')?;
    // Only a local part that begins with a quote is quoted; it may stand after a source route.
    let route = if inner.starts_with('@') {
        inner.find(":\"").map_or(0, |colon| colon + 1)
    } else {
        0
    };
    if inner[route..].starts_with('"') {
        let mut escaped = true;
        for (at, byte) in inner.bytes().enumerate().skip(route) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => return inner[at..].find('>').map(|end| at + end + 2),
                _ => {}
            }
        }
    }
    inner.find('>').map(|end| end + 2)
}

/// The parameters after a path; nothing else may stand there.
fn all_params(tail: &str) -> Result<Params, &'static str> {
    let mut params = Params::new();
    if tail.is_empty() {
        return Ok(params);
    }
    if !tail.starts_with([' ', '\t']) {
        return Err(BAD_PARAMETERS);
    }
    for word in tail.split([' ', '\t']).filter(|word| !word.is_empty()) {
        if !is_param(word) {
            return Err(BAD_PARAMETERS);
        }
        params.push(word);
    }
    Ok(params)
}

/// `KEY` or `KEY=value`: the key of letters, digits and hyphens, not beginning with a hyphen; the value of anything
/// but `=`, blanks and controls (RFC 5321, 4.1.2).
fn is_param(word: &str) -> bool {
    let (key, value) = match word.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (word, None),
    };
    let letter = |b: u8| b.is_ascii_alphanumeric();
    key.bytes().next().is_some_and(letter)
        && key.bytes().all(|b| letter(b) || b == b'-')
        && value
            .is_none_or(|value| !value.is_empty() && !value.contains(|c: char| c == '=' || c == ' ' || c.is_control()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn show(parsed: Result<PathLine, &'static str>) -> String {
        match parsed {
            Err(why) => why.to_owned(),
            Ok(line) => line
                .params
                .iter()
                .fold(line.address.clone(), |text, (key, value)| match value {
                    Some(value) => format!("{text} {key}={value}"),
                    None => format!("{text} {key}"),
                }),
        }
    }

    #[test]
    fn mail() {
        for (rest, want) in [
            ("FROM:<a@b>", "<a@b>"),
            ("from: \t<a@b> ", "<a@b>"),
            ("FROM:<>", "<>"),
            ("FROM:", "<>"),
            ("FROM: ", "<>"),
            ("FROM:a@b", "a@b"),
            ("FROM:a@b SIZE=1", "a@b size=1"),
            ("FROM:a@b FOO= SIZE=1", BAD_PARAMETERS),
            ("FROM:user=name@example.net", "user=name@example.net"),
            ("FROM <a@b>", NO_KEYWORD),
            ("FROM :<a@b>", NO_KEYWORD),
            ("", NO_KEYWORD),
            ("TO:<a@b>", NO_KEYWORD),
            ("FR\u{e9}M:<a@b>", NO_KEYWORD),
            ("FROM:<a@b> SIZE=1 BODY=8BITMIME", "<a@b> size=1 body=8BITMIME"),
            ("FROM:<a@b>  foo", "<a@b> foo"),
            ("FROM:<a@b> FOO=", BAD_PARAMETERS),
            ("FROM:<a@b> A=b=c", BAD_PARAMETERS),
            ("FROM:<a@b> -A=b", BAD_PARAMETERS),
            ("FROM:<a@b>SIZE=1", BAD_PARAMETERS),
            ("FROM:<a@b> X=y> Z", "<a@b> x=y> z"),
            ("FROM:<a b@c.d> SIZE=1", "<a b@c.d> size=1"),
            (r#"FROM:<"a b"@c.d> SIZE=1"#, r#"<"a b"@c.d> size=1"#),
            (r#"FROM:<"a> \" @b c"@c.d> SIZE=1"#, r#"<"a> \" @b c"@c.d> size=1"#),
            (r#"FROM:<@x,@y:"a>"@c.d> SIZE=1"#, r#"<@x,@y:"a>"@c.d> size=1"#),
            (r#"FROM:<"a@c.d> SIZE=1"#, r#"<"a@c.d> size=1"#),
            ("FROM:<@x,@y:a@b>", "<@x,@y:a@b>"),
            ("FROM:<#@[]>", "<#@[]>"),
            ("FROM:<a@b", "<a@b"),
            ("FROM:<a", "<a"),
            ("FROM:<a@b SIZE=1", "<a@b size=1"),
            ("FROM:joe", BAD_ADDRESS),
        ] {
            assert_eq!(show(mail_line(rest)), want, "{rest}");
        }
    }

    #[test]
    fn rcpt() {
        for (rest, want) in [
            ("TO:<a@b>", "<a@b>"),
            ("to:<a@b> NOTIFY=NEVER", "<a@b> notify=NEVER"),
            ("TO:<>", "<>"),
            ("TO:", BAD_ADDRESS),
            ("TO:Postmaster", "Postmaster"),
            ("TO:abuse FOO", "abuse foo"),
            ("TO:joe", BAD_ADDRESS),
            ("TO:<joe>", "<joe>"),
            ("FROM:<a@b>", NO_KEYWORD),
        ] {
            assert_eq!(show(rcpt_line(rest)), want, "{rest}");
        }
    }

    #[test]
    fn strict() {
        for (verb, rest, want) in [
            (PathVerb::Mail, "FROM:<a@b>", "<a@b>"),
            (PathVerb::Mail, "FROM: <a@b> ", "<a@b>"),
            (PathVerb::Mail, "FROM:", "<>"),
            (PathVerb::Mail, "FROM:joe", BAD_ADDRESS),
            (PathVerb::Mail, "FROM:a@b", "a@b"),
            (PathVerb::Mail, "FROM:a@b SIZE=1", NO_PARAMETERS),
            (PathVerb::Mail, "FROM:<a@b> SIZE=1", NO_PARAMETERS),
            (PathVerb::Mail, "FROM <a@b>", NO_KEYWORD),
            (PathVerb::Rcpt, "TO:postmaster", "postmaster"),
            (PathVerb::Rcpt, "TO:abuse", "abuse"),
            (PathVerb::Rcpt, "TO:", BAD_ADDRESS),
            (PathVerb::Rcpt, "TO:joe", BAD_ADDRESS),
        ] {
            assert_eq!(show(strict_line(verb, rest)), want, "{rest}");
        }
    }

    #[test]
    fn lookup() {
        let params = mail_line("FROM:<a@b> Size=10 SMTPUTF8 size=20").unwrap().params;
        assert_eq!(params.get("size"), Some("10"));
        assert_eq!(params.get("smtputf8"), Some(""));
        assert_eq!(params.get("body"), None);
        assert!(params.has("smtputf8") && !params.has("body"));
        assert_eq!((params.len(), params.is_empty()), (3, false));
    }

    proptest! {
        #[test]
        fn any_line(rest in "(FROM:|TO:)?[ <]{0,2}[\"@:,\\\\a<> =é-]{0,30}") {
            let strict = |verb| strict_line(verb, &rest);
            let all = [mail_line(&rest), rcpt_line(&rest), strict(PathVerb::Mail), strict(PathVerb::Rcpt)];
            for line in all.into_iter().flatten() {
                prop_assert!(!line.address.is_empty());
            }
        }
    }
}
