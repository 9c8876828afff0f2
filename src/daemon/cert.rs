//! `qpsmtpctl cert`: makes certificates and says what to do with them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use crate::net::cert::{KeyKind, Order, Subject};

/// The folder where plugin tls looks first: ssl, else ssl in the folder of the configuration.
pub fn folder() -> PathBuf {
    let own = std::env::var_os("QPSMTPD_CONFIG").map_or_else(|| PathBuf::from("config"), PathBuf::from);
    match !Path::new("ssl").is_dir() && own.is_dir() {
        true => own.join("ssl"),
        false => PathBuf::from("ssl"),
    }
}

/// Makes what is ordered.
pub fn run(order: &Order) -> ExitCode {
    match crate::net::cert::make(order) {
        Ok(made) => {
            let files: String = made.iter().map(|file| format!("{}\n", file.display())).collect();
            let host = &order.subject.host;
            super::show(&format!(
                "{files}made for {host}; a line `tls` in config/plugins offers TLS with it\n"
            ))
        }
        Err(why) => {
            crate::prefork::tell(why);
            // sysexits.h: EX_CANTCREAT
            ExitCode::from(73)
        }
    }
}
