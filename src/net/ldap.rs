//! Directories: the one door to ldap3.
//!
//! A connection per login, since the login changes who the connection is. All of it is done by one deadline.

use std::time::{Duration, Instant};

use ldap3::{LdapConn, LdapConnSettings, LdapError, Scope, SearchOptions, StdStream};

use super::{dial, tls};
use crate::session::remote::Target;
use crate::session::stores::{Bound, DirectoryLogin};

/// Result codes of LDAP (RFC 4511 4.1.9) that say no to a password: inappropriateAuthentication, invalidCredentials,
/// insufficientAccessRights, unwillingToPerform (an entry without a password, a locked one).
const WRONG_PASSWORD: [u32; 4] = [48, 49, 50, 53];
/// sizeLimitExceeded: there are more than were asked for.
const MORE: u32 = 4;

/// Searches who it is, and tries the password.
///
/// # Errors
/// The directory is not there, refuses the search, or takes too long.
pub fn bind(login: &DirectoryLogin<'_>) -> Result<Bound, String> {
    let until = Instant::now() + login.wait;
    let mut directory = connect(login, until)?;
    if let Some((name, password)) = login.searcher {
        let bound = directory.with_timeout(left(until)?).simple_bind(name, password);
        bound
            .and_then(|bound| bound.success())
            .map_err(|why| format!("bind as {name}: {}", told(&why)))?;
    }
    // only the name is wanted: "1.1" is no attribute (RFC 4511 4.5.1.8)
    let one = SearchOptions::new().sizelimit(1);
    let search = directory.with_timeout(left(until)?).with_search_options(one);
    let found = search.search(login.base, Scope::Subtree, login.filter, ["1.1"]);
    let found = found.map_err(|why| format!("search: {}", told(&why)))?;
    let code = found.1.rc;
    if code == MORE {
        return Ok(Bound::Several);
    }
    found
        .1
        .success()
        .map_err(|why| format!("search below {}: {}", login.base, told(&why)))?;
    // referrals are no entries
    let names = found
        .0
        .into_iter()
        .filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    let Some(name) = names.map(|entry| ldap3::SearchEntry::construct(entry).dn).next() else {
        return Ok(Bound::Nobody);
    };
    let bound = directory.with_timeout(left(until)?).simple_bind(&name, login.password);
    let bound = bound.map_err(|why| format!("bind as {name}: {}", told(&why)))?;
    // it is closed in any case
    let _ = left(until).map(|left| directory.with_timeout(left).unbind());
    match bound.rc {
        0 => Ok(Bound::Yes(name)),
        code if WRONG_PASSWORD.contains(&code) => Ok(Bound::WrongPassword(name)),
        _ => Err(format!("bind as {name}: {bound}")),
    }
}

fn connect(login: &DirectoryLogin<'_>, until: Instant) -> Result<LdapConn, String> {
    let lost = |why| format!("{}: {why}", login.at);
    let mut settings = LdapConnSettings::new();
    let url = match login.at {
        Target::Unix(path) => {
            let stream = dial::unix(path, until).map_err(lost)?;
            settings = settings.set_std_stream(StdStream::Unix(stream));
            "ldapi:///".to_owned()
        }
        Target::Tcp(host, port) => {
            let addresses = dial::addresses(host, until).map_err(lost)?;
            let stream = dial::tcp(&addresses, *port, until).map_err(lost)?;
            settings = settings.set_std_stream(StdStream::Tcp(stream));
            let (name, at_once) = match login.tls {
                Some((how, at_once)) => {
                    let config = tls::client_config(how).map_err(lost)?;
                    settings = settings.set_config(config).set_starttls(!at_once);
                    (how.name.as_str(), at_once)
                }
                None => ("localhost", false),
            };
            // the name is what the certificate must be for; the connection is there already
            format!("{}://{name}", if at_once { "ldaps" } else { "ldap" })
        }
    };
    let settings = settings.set_conn_timeout(left(until)?);
    LdapConn::with_settings(settings, &url).map_err(|why| format!("{}: {}", login.at, told(&why)))
}

fn left(until: Instant) -> Result<Duration, String> {
    match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err("time-out".to_owned()),
        left => Ok(left),
    }
}

/// The error in words, on one line.
fn told(why: &LdapError) -> String {
    let text = match why {
        LdapError::Timeout { .. } => "time-out".to_owned(),
        LdapError::Io { source } => source.to_string(),
        other => other.to_string(),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ")
}
