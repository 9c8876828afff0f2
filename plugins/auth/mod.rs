//! The plugins that decide who may log in (catalogue 15).

pub mod auth_checkpassword;
pub mod auth_external;
pub mod auth_flat_file;
pub mod auth_oauth;
pub mod auth_vpopmail;
#[cfg(feature = "mysql")]
pub mod auth_vpopmail_sql;
pub mod authdeny;
mod checkpassword;
