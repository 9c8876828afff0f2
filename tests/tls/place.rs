//! A site with certificates of its own CA.

use std::path::PathBuf;

use crate::harness::{Daemon, Site};
use crate::programs::succeed;

/// The plugins of a site with TLS.
pub const PLUGINS: &str = "tls\nrcpt_ok\nqueue/maildir ./Maildir\n";

/// A site with a certificate for mx.example.com in ssl/, which offers TLS.
pub fn site() -> Site {
    let site = Site::new();
    certificate(&site, "ssl", &[]);
    site.config("plugins", PLUGINS);
    site
}

/// Makes a certificate for mx.example.com with `qpsmtpctl cert` in a folder of the site.
pub fn certificate(site: &Site, folder: &str, options: &[&str]) {
    let mut command = site.program("qpsmtpctl");
    command.args(["cert", "--CN", "mx.example.com", "--name", "127.0.0.1", "--dir", folder]);
    succeed(command.args(options));
}

/// A daemon that speaks clear SMTP at its first address and TLS at its second.
pub fn serve(site: Site) -> Daemon {
    let both = [
        "--listen-address",
        "127.0.0.1:0",
        "--listen-address",
        "smtps://127.0.0.1:0",
    ];
    Daemon::serve(site, &both)
}

/// A file of the site.
pub fn file(site: &Site, name: &str) -> PathBuf {
    site.path().join(name)
}
