//! Tokens of an OAuth issuer (RFC 7628, 7519).

use std::path::PathBuf;

use crate::plugin::*;

plugin! {
    /// Lets in who shows a token that an issuer has signed, by OAUTHBEARER and XOAUTH2.
    ///
    /// The token is a JSON web token signed with RSA, EC or Ed25519. The issuer's public keys are read from a file in
    /// the form of its jwks_uri, and again when it changes; nobody is asked over the network. Expiry, issuer and
    /// audience must be there and be right. If the client names a user, it must be the one of the token.
    "auth/auth_oauth", Oauth {
        /// The file with the issuer's keys, a JWK set.
        @1 jwks: PathBuf,
        /// Who issues the tokens, as in their claim iss; several, separated by commas.
        issuer: Names,
        /// For whom they are, as in their claim aud; several, separated by commas.
        audience: Names,
        /// What a token must permit, as in its claim scope or scp; several, separated by commas.
        scope: Names = Names(Vec::new()),
        /// The claim that names the user. With an issuer whose users choose their address themselves, and whose tokens
        /// do not say email_verified, it must be another, as sub.
        claim: String = "email".to_owned(),
        /// By how many seconds the clocks may differ.
        leeway: u64 = 60,
        /// Where clients learn how to get a token: the address of the issuer's openid-configuration.
        discovery: Option<String>,
    }
    state { keys: OfFile<Jwks>, rules: JwtRules }
    hooks [auth_token]
    with [setup, needs]
}

/// Words that commas separate.
struct Names(Vec<String>);

impl Arg for Names {
    const WANTS: &'static str = "words, separated by commas";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        let names = word.split(',').filter(|name| !name.is_empty()).map(str::to_owned);
        *slot = Some(Names(names.collect()));
        Ok(None)
    }
    fn show(&self) -> String {
        self.0.join(",")
    }
}

impl Oauth {
    fn setup(&mut self, at: &mut Loading<'_>) -> Result<(), String> {
        if self.issuer.0.is_empty() || self.audience.0.is_empty() {
            return Err("issuer and audience must not be empty".to_owned());
        }
        self.rules = JwtRules {
            issuers: self.issuer.0.clone(),
            audiences: self.audience.0.clone(),
            leeway: self.leeway,
        };
        if let Err(why) = self.keys.read(&self.jwks, Jwks::read) {
            at.warn(why);
        }
        Ok(())
    }

    fn needs(&self) -> Needs {
        // the folder, as a new file may take the place of the old one
        let folder = self.jwks.parent().filter(|folder| !folder.as_os_str().is_empty());
        Needs {
            read: vec![folder.map_or_else(|| PathBuf::from("."), PathBuf::from)],
            ..Needs::default()
        }
    }

    fn auth_token(&self, s: &mut Session, with: &Credentials) -> Answer {
        let keys = match self.keys.read(&self.jwks, Jwks::read) {
            Ok(keys) => keys,
            Err(why) => return unavailable(s, why),
        };
        let token = with.token.as_deref().unwrap_or_default();
        match self.user_of(&keys, token, &with.user) {
            Ok(user) => {
                info!(s, "pass: token of {}", Harmless(&user));
                ok_as(user)
            }
            Err((why, status)) => {
                info!(s, "fail: {why}");
                let scope = self.scope.0.join(" ");
                let discovery = self.discovery.as_deref().unwrap_or_default();
                let mut pairs = vec![
                    ("status", status),
                    ("scope", &*scope),
                    ("openid-configuration", discovery),
                ];
                pairs.retain(|(_, text)| !text.is_empty());
                deny_token(why, json_object(&pairs))
            }
        }
    }

    /// The user of a good token; else why it is not good, and the word for it (RFC 6750 3.1).
    fn user_of(&self, keys: &Jwks, token: &str, named: &str) -> Result<String, (String, &'static str)> {
        let bad = |why: &str| (why.to_owned(), "invalid_token");
        let claims = keys
            .check(token, &self.rules)
            .map_err(|why| (why.to_string(), "invalid_token"))?;
        let granted = [claims.words("scope"), claims.words("scp")].concat();
        if let Some(scope) = self.scope.0.iter().find(|scope| !granted.contains(&scope.as_str())) {
            return Err((format!("the token lacks scope {scope}"), "insufficient_scope"));
        }
        let user = claims.text(&self.claim).filter(|user| !user.is_empty());
        let user = user.ok_or_else(|| bad("the token names no user"))?;
        if self.claim == "email" && claims.denies("email_verified") {
            return Err(bad("the issuer has not verified the address"));
        }
        match named.is_empty() || same_user(named, user) {
            true => Ok(user.to_owned()),
            false => Err(bad("the token is of another user")),
        }
    }
}

#[cfg(test)]
mod tests;
