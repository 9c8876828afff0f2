//! Texts within parameters: xtext (RFC 3461 4), and its form for addresses that are not ASCII (RFC 6533 3).
//!
//! Both are decoded when they come in and encoded when they go out, so that what passes through is never a command of
//! somebody else's making.

/// Decodes xtext: printable ASCII in which `+HH` stands for a character. None if it is no xtext, or stands for
/// anything but printable ASCII and blanks (RFC 3461 4.2, 4.4).
pub fn decode(text: &str) -> Option<String> {
    decode_lax(text).filter(|text| text.is_ascii())
}

/// Decodes xtext that may stand for UTF-8, octet by octet. No RFC has it so; Postfix writes the addresses of its
/// recipients in this way where they are not ASCII.
pub fn decode_lax(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        (rest, _) = match *first {
            b'+' => {
                let digits = more.get(..2).filter(|digits| digits.iter().all(is_upper_hex))?;
                let byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
                (&more[2..], out.push(byte))
            }
            b'!'..=b'~' if *first != b'=' => (more, out.push(*first)),
            _ => return None,
        };
    }
    let out = String::from_utf8(out).ok()?;
    (!out.chars().any(char::is_control)).then_some(out)
}

/// Encodes printable ASCII as xtext.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'!'..=b'~' if byte != b'+' && byte != b'=' => out.push(char::from(byte)),
            _ => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// Decodes an address of type utf-8: `\x{HEX}` stands for a character; others may stand for themselves, if `raw` also
/// those that are not ASCII.
pub fn decode_utf8(text: &str, raw: bool) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '\\' {
            let (digits, more) = rest.strip_prefix("\\x{")?.split_once('}')?;
            let good = (2..=6).contains(&digits.len()) && digits.bytes().all(|digit| is_upper_hex(&digit));
            let c = char::from_u32(u32::from_str_radix(digits, 16).ok().filter(|_| good)?)?;
            if c.is_control() {
                return None;
            }
            out.push(c);
            rest = more;
            continue;
        }
        let stands = match first {
            '+' | '=' => false,
            '!'..='~' => true,
            c => raw && !c.is_ascii() && !c.is_control(),
        };
        if !stands {
            return None;
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    Some(out)
}

/// Encodes an address of type utf-8; if `raw`, what is not ASCII stands for itself, as a server with SMTPUTF8 takes
/// it.
pub fn encode_utf8(text: &str, raw: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '!'..='~' if !matches!(c, '+' | '=' | '\\') => out.push(c),
            c if raw && !c.is_ascii() => out.push(c),
            c => out.push_str(&format!("\\x{{{:02X}}}", u32::from(c))),
        }
    }
    out
}

fn is_upper_hex(byte: &u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'A'..=b'F')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn xtext() {
        for (text, want) in [
            ("Joe@example.com", Some("Joe@example.com")),
            ("a+2Bb+3D+20c", Some("a+b= c")),
            ("", Some("")),
            ("a+2", None),
            ("a+2b", None),
            ("a+0A", None),
            ("a+C3", None),
            ("a=b", None),
            ("a b", None),
            ("é", None),
        ] {
            assert_eq!(decode(text).as_deref(), want, "{text}");
        }
        assert_eq!(encode("a+b= c"), "a+2Bb+3D+20c");
        for (text, want) in [
            ("+C3+BC@b+2B", Some("ü@b+")),
            ("+C3", None),
            ("+C2+85", None),
            ("a+0Ab", None),
            ("ü", None),
        ] {
            assert_eq!(decode_lax(text).as_deref(), want, "{text}");
        }
    }

    #[test]
    fn addresses_that_are_not_ascii() {
        for (text, raw, want) in [
            (r"j\x{FC}rgen@x.example", false, Some("jürgen@x.example")),
            (r"a\x{2B}b", false, Some("a+b")),
            ("jürgen@x.example", true, Some("jürgen@x.example")),
            ("jürgen@x.example", false, None),
            (r"\x{D800}", false, None),
            (r"\x{0A}", false, None),
            (r"\x{fc}", false, None),
            (r"\x{FC", false, None),
            (r"\y", false, None),
            ("a+b", false, None),
        ] {
            assert_eq!(decode_utf8(text, raw).as_deref(), want, "{text}");
        }
        assert_eq!(encode_utf8("jü+rgen", false), r"j\x{FC}\x{2B}rgen");
        assert_eq!(encode_utf8("jü+rgen", true), r"jü\x{2B}rgen");
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(ascii in "[ -~]{0,30}", any in "\\PC{0,30}") {
            prop_assert_eq!(decode(&encode(&ascii)), Some(ascii));
            for raw in [false, true] {
                prop_assert_eq!(decode_utf8(&encode_utf8(&any, raw), raw), Some(any.clone()));
            }
        }

        #[test]
        fn any_text_is_decoded_or_refused(text in "(\\+[0-9A-F]{0,2}|\\\\x\\{?[0-9A-F]{0,7}\\}?|\\PC){0,10}") {
            let _ = (decode_lax(&text), decode_utf8(&text, true), decode_utf8(&text, false));
        }
    }
}
