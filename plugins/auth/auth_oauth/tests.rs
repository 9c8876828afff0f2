//! Tests of auth/auth_oauth, with tokens of a foreign maker.

mod tokens;

use super::*;

const ARGUMENTS: &str = "issuer https://issuer.example audience mail scope smtp";

fn file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), tokens::JWKS).expect("written");
    file
}

fn kit(file: &tempfile::NamedTempFile, more: &str) -> Kit {
    Kit::load(&DECLARATION, &format!("{} {ARGUMENTS} {more}", file.path().display()))
}

fn show(t: &mut Kit, user: &str, token: &str) -> Outcome {
    t.auth(&Credentials::token("oauthbearer", user, token))
}

fn problem(outcome: Outcome) -> String {
    match outcome.login.map(|handed| *handed) {
        Some(Handed::Problem(json)) => json,
        other => panic!("{other:?}"),
    }
}

#[test]
fn good_tokens_name_their_user() {
    let file = file();
    let mut t = kit(&file, "");
    let good = [
        tokens::RS256,
        tokens::ES256,
        tokens::EDDSA,
        tokens::NO_KID,
        tokens::AUDIENCES,
        tokens::SCP,
    ];
    for token in good {
        for user in ["", "joe@example.com", "joe@EXAMPLE.com"] {
            let outcome = show(&mut t, user, token).ok();
            assert_eq!(outcome.login.as_deref(), Some(&Handed::User("joe@example.com".into())));
        }
        assert!(
            t.logged()
                .iter()
                .all(|line| line == "(auth-token) auth::auth_oauth: pass: token of joe@example.com")
        );
    }
}

#[test]
fn bad_tokens_are_refused_with_a_reason() {
    let file = file();
    let mut t = kit(
        &file,
        "discovery https://issuer.example/.well-known/openid-configuration",
    );
    for (token, why) in [
        (tokens::EXPIRED, "the token has expired"),
        (tokens::NOT_YET, "the token is not valid yet"),
        (tokens::NO_EXPIRY, "the token lacks expiry, issuer or audience"),
        (tokens::ISSUER, "the token is of another issuer"),
        (tokens::AUDIENCE, "the token is for another audience"),
        (tokens::NO_USER, "the token names no user"),
        (tokens::UNVERIFIED, "the issuer has not verified the address"),
        (tokens::STRANGER, "the signature of the token is wrong"),
        (tokens::UNKNOWN_KID, "no key for the token"),
        // the key says that it is for RS256 alone
        (tokens::PS256, "no key for the token"),
        (tokens::CRIT, "the token asks for what is not known here"),
        (tokens::HMAC, "no key for the token"),
        (tokens::CONFUSED, "no key for the token"),
        (tokens::NONE, "no token of a kind that is taken here"),
        ("", "no token of a kind that is taken here"),
        ("a.b.c", "no token of a kind that is taken here"),
    ] {
        let outcome = show(&mut t, "", token).denied(why);
        assert_eq!(
            problem(outcome),
            r#"{"openid-configuration":"https://issuer.example/.well-known/openid-configuration","scope":"smtp","status":"invalid_token"}"#
        );
        let logged = t.logged();
        assert_eq!(logged, [format!("(auth-token) auth::auth_oauth: fail: {why}")]);
    }
    let outcome = show(&mut t, "", tokens::SCOPE).denied("the token lacks scope smtp");
    assert!(problem(outcome).contains(r#""status":"insufficient_scope""#));
    show(&mut t, "ann@example.com", tokens::ES256).denied("the token is of another user");
    let long = format!("{}{}", tokens::ES256, "x".repeat(20_000));
    show(&mut t, "", &long).denied("the token is too long");
    let (start, signature) = tokens::ES256.rsplit_once('.').expect("a signature");
    show(
        &mut t,
        "",
        &format!("{start}.{}", signature.replace(&signature[..1], "_")),
    )
    .denied("");
}

#[test]
fn the_claim_may_be_another_one() {
    let file = file();
    let mut t = kit(&file, "claim sub");
    let outcome = show(&mut t, "1", tokens::ES256).ok();
    assert_eq!(outcome.login.as_deref(), Some(&Handed::User("1".into())));
    show(&mut t, "joe@example.com", tokens::ES256).denied("another user");
}

#[test]
fn keys_are_read_again_when_they_change() {
    let file = file();
    let mut t = kit(&file, "");
    show(&mut t, "", tokens::ES256).ok();
    std::fs::write(file.path(), tokens::JWKS.replace("\"ec\"", "\"new\"")).expect("written");
    show(&mut t, "", tokens::ES256).denied("no key for the token");
    std::fs::write(file.path(), "{}").expect("written");
    assert!(show(&mut t, "", tokens::ES256).declined().failed);
    std::fs::remove_file(file.path()).expect("removed");
    assert!(show(&mut t, "", tokens::ES256).declined().failed);
    std::fs::write(file.path(), tokens::JWKS).expect("written");
    show(&mut t, "", tokens::ES256).ok();
}

#[test]
fn arguments_are_checked() {
    let file = file();
    let path = file.path().display();
    let faults = |arguments: &str| Kit::faults(&DECLARATION, arguments).join("\n");
    assert!(faults(&format!("{path} audience mail")).contains("argument 'issuer' is missing"));
    assert!(faults(&format!("{path} issuer x audience ,")).contains("must not be empty"));
    assert!(faults("/nonexistent/jwks issuer x audience y").contains("warning: auth/auth_oauth: /nonexistent/jwks: "));
    std::fs::write(file.path(), r#"{"keys":[{"kty":"oct","k":"eHh4"}]}"#).expect("written");
    assert!(faults(&format!("{path} issuer x audience y")).contains("no key of RSA, EC or Ed25519"));
}
