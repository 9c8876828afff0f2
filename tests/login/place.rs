//! A site where joe can log in by every mechanism.

use std::path::PathBuf;

use crate::harness::{Daemon, Site};
use crate::programs::succeed;

/// Who logs in.
pub const USER: &str = "joe@example.com";
/// With what.
pub const PASSWORD: &str = "Pa55-w0rd+of Joe";

/// The arguments of auth/auth_oauth.
const OAUTH: &str = "auth/auth_oauth jwks.json issuer https://issuer.example audience mail scope smtp";

// the plugin tests more of them
#[allow(dead_code)]
#[path = "../../plugins/auth/auth_oauth/tests/tokens.rs"]
pub mod tokens;

/// A site with a certificate for mx.example.com, which is also that of joe as a client.
pub fn site() -> Site {
    let site = Site::new();
    let mut command = site.program("qpsmtpctl");
    command.args(["cert", "--CN", "mx.example.com", "--name", "127.0.0.1", "--dir", "ssl"]);
    succeed(&mut command);
    let providers = format!("auth/auth_external\nauth/auth_flat_file\n{OAUTH}");
    let plugins = format!("tls clients request\n{providers}\nrcpt_ok\nqueue/maildir ./Maildir\n");
    site.config("plugins", &plugins);
    site.config("flat_auth_pw", &format!("{USER}:{PASSWORD}\n"));
    site.config("auth_clientcerts", &format!("mx.example.com {USER}\n"));
    site.config("auth_failure_rate", "0\n").config("auth_delay", "0\n");
    std::fs::write(file(&site, "jwks.json"), tokens::JWKS).expect("the keys");
    site
}

/// A daemon of one worker, with further options.
pub fn serve(site: Site, options: &[&str]) -> Daemon {
    let usual = ["--listen-address", "127.0.0.1:0", "--children", "1"];
    Daemon::serve(site, &[&usual, options].concat())
}

/// A file of the site.
pub fn file(site: &Site, name: &str) -> PathBuf {
    site.path().join(name)
}
