//! The plugins that decide who may log in (catalogue 15).

pub mod auth_checkpassword;
pub mod auth_cvm_unix_local;
pub mod auth_dovecot;
pub mod auth_external;
pub mod auth_flat_file;
pub mod auth_imap;
#[cfg(feature = "ldap")]
pub mod auth_ldap_bind;
pub mod auth_oauth;
pub mod auth_saslauthd;
pub mod auth_vpopmail;
#[cfg(feature = "mysql")]
pub mod auth_vpopmail_sql;
pub mod auth_vpopmaild;
pub mod authdeny;
mod checkpassword;
mod secure;
