//! The register of plugins: one file each, old names, and names that are gone (catalogue 12).

use crate::plugin::{Alias, Declaration, Register};

/// Declares the modules and makes the list of declarations.
macro_rules! register {
    ($($(#[$when:meta])? $module:ident $(:: $inner:ident)?),* $(,)?) => {
        static PLUGINS: &[&Declaration] = &[$($(#[$when])? &$module $(::$inner)? ::DECLARATION),*];
    };
}

mod auth;
mod badmailfrom;
mod badmailfromto;
mod badrcptto;
mod connection_time;
mod count_unrecognized_commands;
mod dont_require_anglebrackets;
mod earlytalker;
mod help;
mod hosts_allow;
mod logging;
mod r#loop;
mod naughty;
mod noop_counter;
mod parse_addr_withhelo;
mod queue;
mod quit_fortune;
mod random_error;
mod rcpt_map;
mod rcpt_ok;
mod rcpt_regexp;
mod relay;
mod stunnel;
mod tls;
mod user_config;

register! {
    auth::auth_checkpassword,
    auth::auth_cvm_unix_local,
    auth::auth_dovecot,
    auth::auth_external,
    auth::auth_flat_file,
    auth::auth_imap,
    #[cfg(feature = "ldap")]
    auth::auth_ldap_bind,
    auth::auth_oauth,
    auth::auth_saslauthd,
    auth::auth_vpopmail,
    #[cfg(feature = "mysql")]
    auth::auth_vpopmail_sql,
    auth::auth_vpopmaild,
    auth::authdeny,
    badmailfrom,
    badmailfromto,
    badrcptto,
    connection_time,
    count_unrecognized_commands,
    dont_require_anglebrackets,
    earlytalker,
    help,
    hosts_allow,
    logging::devnull,
    logging::file,
    logging::warn,
    r#loop,
    naughty,
    noop_counter,
    parse_addr_withhelo,
    queue::discard,
    queue::lmtp,
    queue::maildir,
    queue::qmail_queue,
    queue::smtp_forward,
    quit_fortune,
    random_error,
    rcpt_map,
    rcpt_ok,
    rcpt_regexp,
    relay,
    stunnel,
    tls,
    user_config,
}

/// Every plugin of this program.
pub static REGISTER: Register = Register {
    plugins: PLUGINS,
    aliases: ALIASES,
    gone: GONE,
    ignored: IGNORED,
};

const fn alias(old: &'static str, now: &'static str, arguments: &'static [&'static str]) -> Alias {
    Alias { old, now, arguments }
}

#[rustfmt::skip] // a table
static ALIASES: &[Alias] = &[
    alias("check_relay", "relay", &[]),
    alias("check_norelay", "relay", &[]),
    alias("relay_only", "relay", &["only", "1"]),
    alias("check_earlytalker", "earlytalker", &["action", "denysoft"]),
    alias("async/check_earlytalker", "earlytalker", &["action", "denysoft"]),
    alias("async/earlytalker", "earlytalker", &["action", "denysoft"]),
    alias("check_badmailfrom", "badmailfrom", &["at", "rcpt"]),
    alias("check_badmailfrom_patterns", "badmailfrom", &["at", "rcpt"]),
    alias("check_badmailfromto", "badmailfromto", &[]),
    alias("check_badrcptto", "badrcptto", &[]),
    alias("check_badrcptto_patterns", "badrcptto", &[]),
    alias("check_loop", "loop", &[]),
    alias("noop", "noop_counter", &[]),
    alias("unrecognized_commands", "count_unrecognized_commands", &[]),
    alias("auth/auth_cvs_unix_local", "auth/auth_cvm_unix_local", &[]),
    alias("auth/auth_pam", "auth/auth_saslauthd", &[]),
    alias("queue/smtp_forward", "queue/smtp-forward", &[]),
];

static IGNORED: &[(&str, &str)] = &[
    (
        "virus/check_for_hi_virus",
        "was removed long ago and does nothing; take the line out",
    ),
    (
        "check_for_hi_virus",
        "was removed long ago and does nothing; take the line out",
    ),
];

static GONE: &[(&str, &str)] = &[
    #[cfg(not(feature = "ldap"))]
    (
        "auth/auth_ldap_bind",
        "was left out when this program was built (feature ldap)",
    ),
    #[cfg(not(feature = "mysql"))]
    (
        "auth/auth_vpopmail_sql",
        "was left out when this program was built (feature mysql)",
    ),
    ("auth/authnull", "accepted everybody; it is not provided"),
    ("logging/apache", "only works inside Apache; use logging/warn"),
    (
        "logging/connection_id",
        "is not provided; every line of a session has the same number in its pid column",
    ),
    (
        "logging/transaction_id",
        "is not provided; every line of a session has the same number in its pid column",
    ),
    ("saslauth", "is not supported"),
    ("bounce_verp", "is not supported"),
    ("skip_plugins", "is not supported"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::{Kit, manual};

    fn names() -> Vec<&'static str> {
        PLUGINS.iter().map(|one| one.name).collect()
    }

    #[test]
    fn names_are_plain_sorted_and_there_once() {
        let mut sorted = names();
        sorted.sort();
        sorted.dedup();
        assert_eq!(names(), sorted);
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-/".contains(c);
        assert!(names().iter().all(|name| name.chars().all(plain)));
    }

    #[test]
    fn every_plugin_explains_itself_and_its_arguments() {
        for one in PLUGINS {
            let about = one.about.trim();
            assert!(about.ends_with('.') && about.len() > 20, "{}: '{about}'", one.name);
            assert!(!one.hooks.is_empty(), "{}", one.name);
            for arg in one.args {
                let help = arg.help.trim();
                assert!(help.ends_with('.'), "{} {}: '{help}'", one.name, arg.name);
            }
        }
    }

    #[test]
    fn old_names_stand_for_plugins_that_are_here_with_arguments_that_they_take() {
        for old in ALIASES {
            assert!(!names().contains(&old.old), "{}", old.old);
            let (found, arguments) = REGISTER.find(old.old).unwrap_or_else(|| panic!("{}", old.old));
            assert_eq!((found.name, arguments), (old.now, old.arguments));
            if !arguments.is_empty() {
                assert_eq!(Kit::faults(found, &arguments.join(" ")), [""; 0], "{}", old.old);
            }
        }
        for (name, why) in GONE.iter().chain(IGNORED) {
            assert!(REGISTER.find(name).is_none() && !why.is_empty(), "{name}");
        }
    }

    /// The table of catalogue 12, for the plugins that are here.
    #[test]
    fn names_of_every_release_are_known() {
        for (old, now, arguments) in [
            ("check_relay", "relay", ""),
            ("check_norelay", "relay", ""),
            ("relay_only", "relay", "only 1"),
            ("check_earlytalker", "earlytalker", "action denysoft"),
            ("async/check_earlytalker", "earlytalker", "action denysoft"),
            ("async/earlytalker", "earlytalker", "action denysoft"),
            ("check_badmailfrom", "badmailfrom", "at rcpt"),
            ("check_badmailfrom_patterns", "badmailfrom", "at rcpt"),
            ("check_badmailfromto", "badmailfromto", ""),
            ("check_badrcptto", "badrcptto", ""),
            ("check_badrcptto_patterns", "badrcptto", ""),
            ("check_loop", "loop", ""),
            ("noop", "noop_counter", ""),
            ("unrecognized_commands", "count_unrecognized_commands", ""),
            ("async/queue/smtp-forward", "queue/smtp-forward", ""),
        ] {
            let found = REGISTER
                .find(old)
                .map(|(found, brought)| (found.name, brought.join(" ")));
            assert_eq!(found, Some((now, arguments.to_owned())), "{old}");
        }
    }

    #[test]
    fn the_manual_has_a_place_for_all_and_no_text_of_theirs_is_a_request() {
        let page = manual(&REGISTER);
        let escape = |text: &str| text.replace('-', "\\-");
        for one in PLUGINS {
            let heading = format!("\n.SS {}\n", escape(one.name));
            let (_, section) = page.split_once(&heading).unwrap_or_else(|| panic!("{}", one.name));
            let section = section.split("\n.S").next().unwrap_or_default();
            for arg in one.args {
                assert!(section.contains(arg.name), "{} {}", one.name, arg.name);
            }
            assert!(section.contains("\nHooks: "), "{}", one.name);
        }
        for old in ALIASES
            .iter()
            .map(|alias| alias.old)
            .chain(GONE.iter().map(|gone| gone.0))
        {
            assert!(page.contains(&escape(old)), "{old}");
        }
        for line in page.lines().filter(|line| line.starts_with(['.', '\''])) {
            let known = [".TH", ".SH", ".SS", ".TP", ".PP", ".B", ".BR", ".I"];
            let word = line.split(' ').next();
            assert!(known.iter().any(|known| word == Some(known)), "{line}");
        }
        assert!(!page.contains('`'));
    }
}
