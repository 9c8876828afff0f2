//! The options of `qpsmtpctl cert`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::daemon::cert::{self, KeyKind, Order, Subject};

/// What `qpsmtpctl cert` takes: the option names of the original's tls_cert.
#[derive(Args, Debug)]
#[allow(non_snake_case)] // the options are called so
pub struct Cert {
    /// Country, two letters
    #[arg(long = "C", value_name = "CC", default_value = "XY")]
    C: String,

    /// State
    #[arg(long = "ST", value_name = "STATE", default_value = "unknown")]
    ST: String,

    /// Place
    #[arg(long = "L", value_name = "PLACE", default_value = "unknown")]
    L: String,

    /// Organization
    #[arg(long = "O", value_name = "NAME", default_value = "QSMTPD")]
    O: String,

    /// Unit of the organization
    #[arg(long = "OU", value_name = "NAME", default_value = "Server")]
    OU: String,

    /// Name of the host [default: the host name]
    #[arg(long = "CN", value_name = "HOST")]
    CN: Option<String>,

    /// Whom to write to [default: postmaster at the host]
    #[arg(
        long = "emailAddress",
        value_name = "ADDRESS",
        default_value = "",
        hide_default_value = true
    )]
    email_address: String,

    /// One more name or IP address of the host; may be given several times
    #[arg(long, value_name = "HOST")]
    name: Vec<String>,

    /// Kind of the keys
    #[arg(long, value_enum, default_value_t = Key::P256)]
    key: Key,

    /// Directory for the files [default: ssl, or ssl in the configuration's directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Replace a certificate that is there
    #[arg(long)]
    force: bool,
}

/// The kind of a key.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Key {
    P256,
    P384,
    Rsa,
}

impl From<Cert> for Order {
    fn from(options: Cert) -> Order {
        Order {
            folder: options.dir.unwrap_or_else(cert::folder),
            subject: Subject {
                country: options.C,
                state: options.ST,
                locality: options.L,
                organization: options.O,
                unit: options.OU,
                host: options.CN.unwrap_or_else(crate::config::host_name),
                email: options.email_address,
            },
            names: options.name,
            key: match options.key {
                Key::P256 => KeyKind::P256,
                Key::P384 => KeyKind::P384,
                Key::Rsa => KeyKind::Rsa,
            },
            force: options.force,
        }
    }
}
