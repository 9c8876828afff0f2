//! All that a plugin may see and say.
//!
//! A plugin is one file: a [`plugin!`](crate::plugin!) declaration that names its arguments and its hooks, and one
//! method per hook. Everything it needs comes with `use crate::plugin::*;`.

mod addresses;
mod answer;
mod args;
mod chain;
mod credentials;
mod declare;
mod decoy;
pub mod dsn;
mod event;
#[cfg(test)]
mod fake;
mod hosts;
mod jwt;
mod kit;
mod lint;
mod lists;
mod load;
mod login;
mod macros;
mod manners;
mod manual;
mod password;
mod patterns;
mod pipe;
mod program;
mod scram;
mod tools;
mod whole;

pub use addresses::*;
pub use answer::*;
pub use args::*;
pub use chain::*;
pub use credentials::{Credentials, Handed, same_user};
pub use declare::*;
pub use decoy::{Decoy, Known, validate_evenly};
pub use event::*;
pub use hosts::*;
pub use jwt::{BadToken, Claims, Jwks, JwtRules, json_object};
pub use kit::{Kit, KitDial, KitDns, KitStores, Outcome, script};
pub use lists::*;
pub use load::*;
pub use login::Login;
pub use manners::*;
pub use manual::manual;
#[cfg(test)]
pub use password::compared;
pub use password::{Scheme, Stored};
pub use patterns::*;
pub use pipe::{input_of, open_to_append, write_in_time};
pub use program::{End, Program, Ran, effective_user};
pub use scram::{ScramHash, ScramKeys, ScramLooks};
pub use tools::*;
pub use whole::OfFile;

pub use crate::config::{Fault, Line, Lines, Map, host_name};
pub use crate::log::{Harmless, Level, Record, Sink, Stderr};
pub use crate::mail::PathLine;
pub use crate::mail::body::{is_full, sweep};
pub use crate::mail::date::now as mail_date;
pub use crate::mail::params::{PathVerb, strict_line};
pub use crate::mail::{
    Address, Body, BodyKind, Extensions, Field, Header, MailOptions, Message, Notify, Orcpt, Params, RcptOptions, Ret,
    Status, xtext,
};
pub use crate::session::channel::Pending;
pub use crate::session::client::Loglevel;
pub use crate::session::remote::{Dial, Lost, Remote, Target};
pub use crate::session::services::Dns;
pub use crate::session::stores::{Bound, Database, DirectoryLogin};
pub use crate::session::tls::{Ask, AskAt, SUITES as TLS_SUITES, TlsPlan};
pub use crate::session::trust::{ClientTls, RemoteTls, Roots, Tlsa, Trust, fingerprint};
pub use crate::session::wire::{Heard, Wire};
pub use crate::session::{
    ClientCertificate, Forwarded, Hello, HelloKind, Notes, Peer, Proxied, RcptOutcome, Recipient, Session, Tls,
    Transaction, Verdict,
};
pub use crate::{debug, error, info, notice, plugin, warning};
pub use memchr::memchr;
