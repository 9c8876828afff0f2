//! What clients say who show a token: OAUTHBEARER (RFC 7628) and XOAUTH2 (as Google defined it before).

/// What separates the pairs.
const SEPARATOR: char = '\u{1}';

/// A token and who the client says that it is of; the user may be empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bearer<'a> {
    pub(super) user: String,
    pub(super) token: &'a str,
}

/// Reads `n,a=user,^Ahost=...^Aauth=Bearer token^A^A`; none if it is malformed.
pub(super) fn oauthbearer(text: &str) -> Option<Bearer<'_>> {
    let (header, pairs) = text.split_once(SEPARATOR)?;
    let mut parts = header.strip_suffix(',')?.split(',');
    // a channel cannot be bound without a mechanism with -PLUS, of which there is none
    let flag = parts.next().filter(|flag| matches!(*flag, "n" | "y"));
    let user = match parts.next()? {
        "" => String::new(),
        given => super::scram::name(given.strip_prefix("a=")?)?,
    };
    let token = token_of(pairs)?;
    (flag.is_some() && parts.next().is_none()).then_some(Bearer { user, token })
}

/// Reads `user=name^Aauth=Bearer token^A^A`; none if it is malformed.
pub(super) fn xoauth2(text: &str) -> Option<Bearer<'_>> {
    let (user, pairs) = text.strip_prefix("user=")?.split_once(SEPARATOR)?;
    Some(Bearer {
        user: user.to_owned(),
        token: token_of(pairs)?,
    })
}

/// The token among pairs, each of which ends, as do all of them together.
fn token_of(pairs: &str) -> Option<&str> {
    let mut pairs = pairs.strip_suffix("\u{1}\u{1}")?.split(SEPARATOR);
    let value = pairs.find_map(|pair| pair.strip_prefix("auth="))?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim_start_matches(' ');
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(is_token)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer<'a>(user: &str, token: &'a str) -> Option<Bearer<'a>> {
        let user = user.to_owned();
        Some(Bearer { user, token })
    }

    #[test]
    fn the_example_of_rfc_7628() {
        let text = "n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let token = "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==";
        assert_eq!(oauthbearer(text), bearer("user@example.com", token));
        assert_eq!(oauthbearer("y,,\x01auth=bearer  a.b-c\x01\x01"), bearer("", "a.b-c"));
        assert_eq!(oauthbearer("n,a=a=2Cb,\x01auth=Bearer t\x01\x01"), bearer("a,b", "t"));
    }

    #[test]
    fn what_is_malformed() {
        for text in [
            "",
            "\x01",
            "n,,\x01\x01",
            "n,a=user,\x01auth=Bearer t",
            "n,a=user,\x01auth=Bearer t\x01",
            "n,a=user\x01auth=Bearer t\x01\x01",
            "n,user,\x01auth=Bearer t\x01\x01",
            "n,a=user,x,\x01auth=Bearer t\x01\x01",
            "p=tls-exporter,a=user,\x01auth=Bearer t\x01\x01",
            "n,a=user,\x01auth=Basic t\x01\x01",
            "n,a=user,\x01auth=Bearer \x01\x01",
            "n,a=user,\x01auth=Bearer a b\x01\x01",
            "user=joe\x01auth=Bearer t\x01\x01",
        ] {
            assert_eq!(oauthbearer(text), None, "{text:?}");
        }
        assert_eq!(xoauth2("user=joe\x01auth=Bearer t\x01\x01"), bearer("joe", "t"));
        assert_eq!(xoauth2("user=\x01auth=Bearer t\x01\x01"), bearer("", "t"));
        for text in [
            "",
            "joe\x01auth=Bearer t\x01\x01",
            "user=joe\x01\x01",
            "n,a=joe,\x01auth=Bearer t\x01\x01",
        ] {
            assert_eq!(xoauth2(text), None, "{text:?}");
        }
    }
}
