//! The options of `qpsmtpctl passwd`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::daemon::passwd::{self, Order};

/// What `qpsmtpctl passwd` takes.
#[derive(Args, Debug)]
pub struct Passwd {
    /// The user: name@domain
    user: String,

    /// How to store the password; clear and scram also serve CRAM-MD5 and SCRAM, or SCRAM alone
    #[arg(long, value_enum, default_value_t = Scheme::Scram)]
    scheme: Scheme,

    /// Take the user out of the file
    #[arg(long, conflicts_with = "scheme")]
    delete: bool,

    /// The file [default: flat_auth_pw in the configuration's directory]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// A form in which passwords are stored.
#[derive(ValueEnum, Clone, Copy, Debug)]
enum Scheme {
    Scram,
    ScramSha1,
    Argon2,
    Yescrypt,
    Bcrypt,
    Sha512,
    Clear,
}

impl Passwd {
    /// What is ordered; `config` is the directory of the configuration, if one is named.
    pub fn order(self, config: Option<&Path>) -> Order {
        let scheme = match self.scheme {
            Scheme::Scram => passwd::Scheme::ScramSha256,
            Scheme::ScramSha1 => passwd::Scheme::ScramSha1,
            Scheme::Argon2 => passwd::Scheme::Argon2,
            Scheme::Yescrypt => passwd::Scheme::Yescrypt,
            Scheme::Bcrypt => passwd::Scheme::Bcrypt,
            Scheme::Sha512 => passwd::Scheme::Sha512,
            Scheme::Clear => passwd::Scheme::Clear,
        };
        Order {
            file: self.file.or_else(|| Some(config?.join(passwd::FILE))),
            user: self.user,
            scheme: (!self.delete).then_some(scheme),
        }
    }
}
