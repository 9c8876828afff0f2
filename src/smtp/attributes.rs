//! Attributes of XCLIENT and XFORWARD: names and values that one server tells another about a client (Postfix:
//! XCLIENT_README, XFORWARD_README). Values are xtext (RFC 3461 4).

use std::net::IpAddr;

/// The longest value, in characters.
const LONGEST: usize = 255;

/// A value: none if the other server does not know it.
pub(super) type Value = Option<String>;

/// Splits `NAME=value NAME=value`, with names out of `known`, which are in capitals.
///
/// # Errors
/// What is wrong with it.
pub(super) fn split(rest: &str, known: &[&'static str]) -> Result<Vec<(&'static str, Value)>, String> {
    let mut all = Vec::new();
    for word in rest.split_ascii_whitespace() {
        let (name, value) = word.split_once('=').ok_or("an attribute is NAME=value")?;
        let found = known.iter().find(|one| one.eq_ignore_ascii_case(name));
        let name = found.ok_or_else(|| format!("unknown attribute {}", name.escape_default()))?;
        let value = decoded(value).ok_or_else(|| format!("bad value of {name}"))?;
        all.push((*name, value));
    }
    match all.is_empty() {
        true => Err("at least one attribute is needed".to_owned()),
        false => Ok(all),
    }
}

/// A value in clear; `[UNAVAILABLE]` and `[TEMPUNAVAIL]` are none.
fn decoded(text: &str) -> Option<Value> {
    if ["[UNAVAILABLE]", "[TEMPUNAVAIL]"]
        .iter()
        .any(|word| word.eq_ignore_ascii_case(text))
    {
        return Some(None);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        rest = more;
        if *first != b'+' {
            bytes.push(*first);
            continue;
        }
        let (digits, more) = rest.split_first_chunk::<2>()?;
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = more;
    }
    let text = String::from_utf8(bytes).ok()?;
    let good = !text.is_empty() && text.chars().count() <= LONGEST && !text.chars().any(char::is_control);
    good.then_some(Some(text))
}

/// A host name.
pub(super) fn host(text: String) -> Option<String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    text.chars().all(good).then_some(text)
}

/// An address: `192.0.2.1` or `IPV6:2001:db8::1`; the prefix may be missing.
pub(super) fn address(text: String) -> Option<IpAddr> {
    let text = match text.get(..5) {
        Some(tag) if tag.eq_ignore_ascii_case("IPV6:") => &text[5..],
        _ => &text,
    };
    text.parse().ok().map(|ip: IpAddr| ip.to_canonical())
}

/// A port.
pub(super) fn port(text: String) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// One of these words, as it is written there.
pub(super) fn word(text: &str, words: &[&'static str]) -> Option<&'static str> {
    words.iter().find(|word| word.eq_ignore_ascii_case(text)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KNOWN: [&str; 2] = ["NAME", "ADDR"];

    #[test]
    fn attributes_are_names_and_values() {
        let known = |text: &str| Some(text.to_owned());
        assert_eq!(
            split("name=a.example  ADDR=[unavailable] NAME=b+2Bc+3d=d", &KNOWN),
            Ok(vec![
                ("NAME", known("a.example")),
                ("ADDR", None),
                ("NAME", known("b+c==d"))
            ])
        );
        assert_eq!(split("ADDR=[TEMPUNAVAIL]", &KNOWN), Ok(vec![("ADDR", None)]));
        for (text, why) in [
            ("", "at least one"),
            ("NAME", "NAME=value"),
            ("NAME =x", "NAME=value"),
            ("FROM=x", "unknown attribute FROM"),
            ("NAME=", "bad value of NAME"),
            ("NAME=a+2", "bad value of NAME"),
            ("NAME=a++2", "bad value of NAME"),
            ("NAME=a+0D+0AMAIL", "bad value of NAME"),
            ("NAME=+FF", "bad value of NAME"),
        ] {
            assert!(split(text, &KNOWN).is_err_and(|told| told.contains(why)), "{text}");
        }
        let long = |count: usize| split(&format!("NAME={}", "x".repeat(count)), &KNOWN).is_ok();
        assert!(long(LONGEST) && !long(LONGEST + 1));
    }

    #[test]
    fn values_have_their_forms() {
        let ip = |text: &str| address(text.to_owned()).map(|ip| ip.to_string());
        assert_eq!(ip("192.0.2.1").as_deref(), Some("192.0.2.1"));
        for text in ["IPV6:2001:db8::1", "ipv6:2001:DB8::1", "2001:db8::1"] {
            assert_eq!(ip(text).as_deref(), Some("2001:db8::1"));
        }
        assert_eq!(ip("IPV6:::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert!(
            ["", "IPV6:", "192.0.2", "a.example", "IPV5:::1"]
                .iter()
                .all(|text| ip(text).is_none())
        );
        assert_eq!(
            ["25", "65536", "-1", "+1"].map(|text| port(text.to_owned())),
            [Some(25), None, None, None]
        );
        assert!(host("a-b.example_1".to_owned()).is_some() && host("a b".to_owned()).is_none());
        assert_eq!(word("esmtp", &["SMTP", "ESMTP"]), Some("ESMTP"));
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(text in "((NAME|ADDR|X)?=?(\\+[0-9a-fA-F]{0,2}|\\PC){0,8} ?){0,4}") {
            if let Ok(all) = split(&text, &KNOWN) {
                prop_assert!(all.iter().flat_map(|(_, value)| value).all(|value| !value.chars().any(char::is_control)));
            }
        }
    }
}
