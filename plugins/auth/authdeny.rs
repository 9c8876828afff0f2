//! Let nobody log in (catalogue 15.2).

use crate::plugin::*;

plugin! {
    /// Lets nobody log in: the last provider of a chain, which logs whom no other has known.
    ///
    /// Alone, it offers AUTH and refuses everybody with 535.
    "auth/authdeny", AuthDeny {}
    hooks [auth]
}

impl AuthDeny {
    fn auth(&self, s: &mut Session, with: &Credentials) -> Answer {
        let user = &with.user;
        warning!(s, "fail: no provider has accepted {user} ({})", with.mechanism);
        answer(Verdict::Declined, format!("user {user} is not free to send mail here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_in() {
        let mut t = Kit::load(&DECLARATION, "");
        for mechanism in ["plain", "login", "cram-md5"] {
            let outcome = t.auth(&Credentials::password(mechanism, "joe", "secret"));
            outcome.declined().says("user joe is not free");
            let told = t.logged().join("\n");
            assert_eq!(
                told,
                format!("(auth) auth::authdeny: fail: no provider has accepted joe ({mechanism})")
            );
        }
    }
}
