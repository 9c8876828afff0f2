//! The trace that a server leaves in a message: Received and Authentication-Results (catalogue 1.5).

use std::borrow::Cow;
use std::fmt::Write;

use crate::mail::{Header, date};
use crate::plugin::Trace;
use crate::session::{HelloKind, Session, Tls};

/// The name that this program gives itself.
pub const PRODUCT: &str = "qpsmtpd";

/// What is known for the Received field.
pub fn trace(s: &Session) -> Trace {
    let extended = s.hello.as_ref().is_some_and(|hello| hello.kind == HelloKind::Ehlo);
    let utf8 = s.transaction.as_ref().is_some_and(|one| one.options.utf8);
    let kinds = match (s.lmtp, extended, utf8) {
        (true, _, true) => ["UTF8LMTP", "UTF8LMTPA", "UTF8LMTPS", "UTF8LMTPSA"],
        (true, _, false) => ["LMTP", "LMTPA", "LMTPS", "LMTPSA"],
        (false, _, true) => ["UTF8SMTP", "UTF8SMTPA", "UTF8SMTPS", "UTF8SMTPSA"],
        (false, true, false) => ["ESMTP", "ESMTPA", "ESMTPS", "ESMTPSA"],
        (false, false, false) => ["SMTP"; 4],
    };
    let kind = kinds[usize::from(s.tls.is_some()) * 2 + usize::from(s.login.user.is_some())];
    let auth = s
        .login
        .user
        .as_ref()
        .map(|(user, mechanism)| format!("{user} ({mechanism})"));
    let tls = s
        .tls
        .as_ref()
        .map(|tls| format!("({} encrypted) ({})", tls.cipher, harmless(&circumstances(tls))));
    Trace {
        kind,
        auth: auth.unwrap_or_default(),
        tls: tls.unwrap_or_default(),
    }
}

/// All about an encrypted connection, for the log.
pub fn tls_facts(tls: &Tls) -> String {
    let fingerprint = tls
        .client
        .as_ref()
        .map(|client| format!(", SHA-256 {}", client.fingerprint));
    format!(
        "TLS: {}, {}{}",
        tls.cipher,
        circumstances(tls),
        fingerprint.unwrap_or_default()
    )
}

/// What there is to tell of TLS besides the cipher.
fn circumstances(tls: &Tls) -> String {
    let mut text = tls.version.to_string();
    if let Some(group) = &tls.group {
        text.push_str(&format!(", {group}"));
    }
    if let Some(sni) = &tls.sni {
        text.push_str(&format!(", SNI {sni}"));
    }
    if let Some(client) = &tls.client {
        let word = if client.verified { "verified" } else { "unverified" };
        text.push_str(&format!(", {word} client certificate {}", client.subject));
    }
    text
}

/// The default text of the Received field.
pub fn received(s: &Session, trace: &Trace) -> String {
    let hello = s.hello.as_ref().map_or("", |hello| &hello.host);
    let version = match s.settings.received_version {
        true => concat!("/", env!("CARGO_PKG_VERSION")),
        false => "",
    };
    let mut text = String::with_capacity(256);
    // writing into a string does not fail
    let _ = write!(
        text,
        "from {} (HELO {}) ({})\n by {} ({PRODUCT}{version}) with {}",
        harmless(&s.peer.info),
        harmless(hello),
        s.peer.ip,
        s.settings.me,
        trace.kind,
    );
    if !trace.tls.is_empty() {
        text.push(' ');
        text.push_str(&trace.tls);
    }
    text.push_str("; ");
    text.push_str(&date::now());
    text
}

/// Client data for a header field: printable ASCII, and nothing that opens or closes a comment.
fn harmless(text: &str) -> Cow<'_, str> {
    let is_harmless = |c: char| matches!(c, ' '..='~') && !matches!(c, '(' | ')' | '\\' | ';');
    if text.chars().all(is_harmless) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if is_harmless(c) { c } else { '?' }).collect()
}

/// A user's name as a value in Authentication-Results: as it is if it looks like an address, else in quotes (RFC 8601
/// 2.2).
fn value(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+');
    match !text.is_empty() && text.chars().all(is_plain) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(format!("\"{}\"", harmless(text).replace('"', "?"))),
    }
}

/// Takes away what others claim in our name, and marks the rest as found (RFC 8601 5).
///
/// Fields of others stay as they are when a DKIM-Signature covers Authentication-Results; ours never do.
pub fn clean_results(header: &mut Header, ids: &[String]) {
    let signed = header.get_all("DKIM-Signature").any(|field| {
        let text = field.text();
        let tags = text.split(';').filter_map(|tag| tag.split_once('='));
        let mut lists = tags
            .filter(|(name, _)| name.trim() == "h")
            .flat_map(|(_, list)| list.split(':'));
        lists.any(|name| name.trim().eq_ignore_ascii_case("Authentication-Results"))
    });
    if !signed {
        header.rename("Authentication-Results", "Original-Authentication-Results");
        return;
    }
    header.retain(|field| !(field.is("Authentication-Results") && claims(&field.text(), ids)));
}

/// Whether the text of an Authentication-Results field begins with one of these authserv-ids.
fn claims(text: &str, ids: &[String]) -> bool {
    let is_ours = |name: &str| ids.iter().any(|id| id.eq_ignore_ascii_case(name));
    let id = text.split(';').next().unwrap_or_default().trim_start();
    // comments, quotes and escapes are allowed; who writes an id with them has something to hide
    id.contains(['(', '"', '\\'])
        || id
            .split(|c: char| c == '/' || c.is_whitespace())
            .next()
            .is_some_and(|first| is_ours(first.trim_end_matches('.')))
}

/// The text of our own Authentication-Results field.
pub fn results(s: &Session, id: &str) -> String {
    let auth = match (&s.login.user, &s.login.failed) {
        (Some((user, mechanism)), _) => format!("auth=pass ({mechanism}) smtp.auth={}", value(user)),
        (None, Some((user, mechanism))) => format!("auth=fail ({mechanism}) smtp.auth={}", value(user)),
        (None, None) => "auth=none".to_owned(),
    };
    let found = s.results.iter();
    let found = found.chain(s.transaction.iter().flat_map(|transaction| &transaction.results));
    let mut text = format!("{id}; {auth}");
    for result in found {
        text.push_str(";\n ");
        text.extend(result.chars().map(|c| if c.is_control() { ' ' } else { c }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(text: &str) -> String {
        let (mut header, _) = Header::parse(text.as_bytes());
        clean_results(&mut header, &["mx.example.com".to_owned()]);
        let mut out = Vec::new();
        assert!(header.write_to(&mut out).is_ok());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn all_foreign_results_are_renamed() {
        let text =
            "Authentication-Results: mx.example.com; spf=pass\nSubject: x\nauthentication-results: other; dkim=pass\n";
        let clean = cleaned(text);
        assert!(
            !clean
                .to_lowercase()
                .lines()
                .any(|line| line.starts_with("authentication-results")),
            "{clean}"
        );
        assert_eq!(clean.matches("Original-Authentication-Results").count(), 2);
    }

    #[test]
    fn signed_results_of_others_stay_but_never_ours() {
        let text = "DKIM-Signature: v=1; h=From : authentication-results; b=x\nAuthentication-Results: other.example; spf=pass\n\
                    Authentication-Results: MX.example.com/1; spf=pass\nAuthentication-Results: (c) mx.example.com; a=b\n\
                    Authentication-Results: \"mx\\.example.com\"; a=b\nAuthentication-Results: \"MX.example.com\" 1; a=b\n";
        let clean = cleaned(text);
        assert!(clean.contains("Authentication-Results: other.example"), "{clean}");
        assert_eq!(clean.matches("Authentication-Results:").count(), 1, "{clean}");
    }

    #[test]
    fn users_are_quoted_unless_they_look_like_addresses() {
        for (user, written) in [
            ("joe+x@example.com", "joe+x@example.com"),
            ("joe", "joe"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("\"", "\"?\""),
            ("a;\\b\r\n(c)\u{e4}", "\"a??b???c??\""),
        ] {
            assert_eq!(value(user), written);
        }
    }
}
