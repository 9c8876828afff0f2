//! The core settings as typed values, built once per change of the files and not per session.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::fault::Fault;
use super::lines::Lines;
use super::networks::Networks;
use super::protocol::{Disabled, OutOfTurn};
use super::proxies::Proxies;
use super::rate::Rates;
use super::values::{Values, address, default, host};
use crate::log::Level;

/// What the core takes from its configuration. The files have the names of the fields unless told otherwise;
/// their meaning and defaults stand in [`TABLE`](super::TABLE).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name of this host.
    pub me: String,
    /// Names for Authentication-Results, the first being ours; `None` writes no such field.
    /// File `me-auth-results`.
    pub me_auth_results: Option<Vec<String>>,
    /// The text of the greeting, if it is not to be made from `me` and the product.
    pub smtpgreeting: Option<String>,
    /// The domain that stands for our address literal.
    pub localiphost: String,
    /// Largest message in bytes as stored; 0 is no limit.
    pub databytes: u64,
    /// Messages of at least this many bytes wait on disk.
    pub size_threshold: u64,
    /// Where they wait.
    pub spool_dir: PathBuf,
    /// The mode of that folder.
    pub spool_perms: u32,
    /// Longest wait for a line of a message.
    pub timeout: Duration,
    /// Longest wait for a command: `timeoutsmtpd`, else `timeout`.
    pub timeoutsmtpd: Duration,
    /// AUTH over TLS alone.
    pub tls_before_auth: bool,
    /// The mechanisms of AUTH that may be offered, in upper case; none for all that plugins serve.
    pub auth_mechanisms: Option<Vec<String>>,
    /// How long the first failed login of a network waits for its answer; each further one twice as long.
    pub auth_delay: Duration,
    /// But no longer than this.
    pub auth_delay_max: Duration,
    /// Threshold of the built-in logger, 0 to 7.
    pub loglevel: Level,
    /// The address to listen on, if a file names one. File `IP`.
    pub ip: Option<Ip>,
    /// The port to listen on, if a file names one.
    pub port: Option<u16>,
    /// The limits of a session.
    pub limits: Limits,
    /// What the machine must bear before new connections are turned away.
    pub overload: Overload,
    /// The limits of a network of clients over time.
    pub rates: Rates,
    /// Who begins connections with a PROXY header.
    pub proxies: Proxies,
    /// Who may use XCLIENT.
    pub xclient_networks: Networks,
    /// A LOGIN that XCLIENT tells of lets the client send to anybody.
    pub xclient_login: bool,
    /// Who may use XFORWARD.
    pub xforward_networks: Networks,
    /// Who may send CR or LF alone in a message.
    pub bare_newlines: Networks,
    /// Underscores in domains are accepted.
    pub allow_underscore_domains: bool,
    /// Local parts that RFC 5321 forbids are accepted.
    pub lenient_local_parts: bool,
    /// Received fields name the version.
    pub received_version: bool,
    /// Unknown parameters of MAIL and RCPT are refused with 555.
    pub strict_parameters: bool,
    /// Commands and extensions that are neither offered nor served.
    pub disabled: Disabled,
    /// What becomes of clients that do not wait for a reply.
    pub unauthorized_pipelining: OutOfTurn,
    /// A second HELO or EHLO is refused with 503.
    pub strict_hello: bool,
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ip {
    /// Every address of the host.
    All,
    /// This one.
    One(IpAddr),
}

/// When the machine has too much to do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overload {
    /// The load from which on connections are turned away; 0 is none.
    pub max_load: f64,
    /// The available memory in MiB below which they are; 0 is none.
    pub min_free_memory: u64,
    /// The percentage of busy workers from which on clients must be quick; 0 is none.
    pub stress_level: u32,
    /// How quick.
    pub stress_timeout: Duration,
}

impl Eq for Overload {}

/// The limits of a session. One that is switched off is the greatest number of its type, so that a plain
/// comparison `count > limit` is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest command line in bytes, with CRLF.
    pub max_command_line: usize,
    /// Longest line of an AUTH exchange in bytes, with CRLF.
    pub max_auth_line: usize,
    /// Longest line of a message in bytes, with CRLF.
    pub max_data_line: usize,
    /// Largest header in bytes.
    pub max_header_size: usize,
    /// Most header fields.
    pub max_header_count: usize,
    /// Most recipients of a transaction. File `maxrcpts`.
    pub maxrcpts: usize,
    /// Most commands answered by 5xx.
    pub max_errors: usize,
    /// Most unknown commands.
    pub max_unknown_commands: usize,
    /// Most commands that bring no mail.
    pub max_idle_commands: usize,
    /// Most logins that fail.
    pub max_auth_failures: usize,
    /// Most transactions.
    pub max_transactions: usize,
    /// Longest session, if it is limited.
    pub max_session_time: Option<Duration>,
    /// Least average of bytes per second of a message; 0 is none.
    pub min_data_rate: u64,
}

impl Default for Settings {
    /// What holds where no file says anything.
    fn default() -> Settings {
        Settings::read(&|_| Lines::empty()).0
    }
}

impl Settings {
    /// Reads every core setting from `source`; where a value does not fit, the default holds and a fault tells.
    pub fn read(source: &dyn Fn(&str) -> Lines) -> (Settings, Vec<Fault>) {
        Settings::read_for(source, env::var_os("HOME").map(PathBuf::from).as_deref())
    }

    /// The same for a user with this home directory, as a daemon that changes its user needs it.
    pub fn read_for(source: &dyn Fn(&str) -> Lines, home: Option<&Path>) -> (Settings, Vec<Fault>) {
        let mut values = Values {
            source,
            faults: Vec::new(),
        };
        let v = &mut values;
        let me = v.host("me").unwrap_or_else(host_name);
        let timeout = Duration::from_secs(v.number("timeout"));
        let settings = Settings {
            me_auth_results: auth_results(v, &me),
            smtpgreeting: greeting(v),
            localiphost: v.host("localiphost").unwrap_or_else(|| me.clone()),
            databytes: v.number("databytes"),
            size_threshold: v.number("size_threshold"),
            spool_dir: spool_dir(v, home),
            spool_perms: v.mode("spool_perms"),
            timeout,
            timeoutsmtpd: v.optional_number("timeoutsmtpd").map_or(timeout, Duration::from_secs),
            tls_before_auth: v.flag("tls_before_auth"),
            auth_mechanisms: words(v, "auth_mechanisms"),
            auth_delay: Duration::from_secs(v.number("auth_delay")),
            auth_delay_max: Duration::from_secs(v.number("auth_delay_max")),
            loglevel: v.level("loglevel"),
            ip: ip(v),
            port: v.optional_number("port").and_then(|port| u16::try_from(port).ok()),
            limits: Limits::read(v),
            overload: Overload {
                max_load: v.number("max_load") as f64,
                min_free_memory: v.number("min_free_memory"),
                stress_level: v.number("stress_level") as u32,
                stress_timeout: Duration::from_secs(v.number("stress_timeout")),
            },
            rates: Rates::read(v),
            proxies: Proxies::read(v),
            xclient_networks: v.networks("xclient_networks"),
            xclient_login: v.flag("xclient_login"),
            xforward_networks: v.networks("xforward_networks"),
            bare_newlines: v.networks("bare_newlines"),
            allow_underscore_domains: v.flag("allow_underscore_domains"),
            lenient_local_parts: v.flag("lenient_local_parts"),
            received_version: v.flag("received_version"),
            strict_parameters: v.flag("strict_parameters"),
            disabled: Disabled::read(v),
            unauthorized_pipelining: OutOfTurn::read(v),
            strict_hello: v.flag("strict_hello"),
            me,
        };
        (settings, values.faults)
    }

    /// Whether no limit of sessions holds for this address. Those who speak for others are counted when they have said
    /// for whom.
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        let networks = [&self.rates.exempt, &self.proxies.networks, &self.xclient_networks];
        networks.iter().any(|networks| networks.contains(client))
    }
}

impl Limits {
    fn read(values: &mut Values) -> Limits {
        let mut limit = |name: &str| match values.number(name) {
            0 => usize::MAX,
            value => usize::try_from(value).unwrap_or(usize::MAX),
        };
        Limits {
            max_command_line: limit("max_command_line"),
            max_auth_line: limit("max_auth_line"),
            max_data_line: limit("max_data_line"),
            max_header_size: limit("max_header_size"),
            max_header_count: limit("max_header_count"),
            maxrcpts: limit("maxrcpts"),
            max_errors: limit("max_errors"),
            max_unknown_commands: limit("max_unknown_commands"),
            max_idle_commands: limit("max_idle_commands"),
            max_auth_failures: limit("max_auth_failures"),
            max_transactions: limit("max_transactions"),
            max_session_time: match values.number("max_session_time") {
                0 => None,
                seconds => Some(Duration::from_secs(seconds)),
            },
            min_data_rate: values.number("min_data_rate"),
        }
    }
}

/// The words of all lines in upper case; none without the file.
fn words(values: &Values, name: &str) -> Option<Vec<String>> {
    let lines = (values.source)(name);
    let words = lines.iter().flat_map(|line| line.split_ascii_whitespace());
    let words: Vec<String> = words.map(str::to_ascii_uppercase).collect();
    (!words.is_empty()).then_some(words)
}

/// The name of this machine, `localhost` if it is no host name.
pub fn host_name() -> String {
    let name = gethostname::gethostname();
    name.to_str()
        .and_then(|name| host(name).ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn auth_results(values: &mut Values, me: &str) -> Option<Vec<String>> {
    let lines = (values.source)("me-auth-results");
    if let [only] = &*lines
        && &**only == "none"
    {
        return None;
    }
    let mut names = Vec::new();
    for line in &lines {
        let name = host(line);
        names.extend(values.keep(line, name));
    }
    if names.is_empty() {
        names.push(me.to_owned());
    }
    Some(names)
}

/// The greeting, as far as a reply line can hold it.
fn greeting(values: &mut Values) -> Option<String> {
    let line = values.first("smtpgreeting")?;
    let good = line.len() <= 400 && line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    let parsed = if good {
        Ok(line.to_string())
    } else {
        Err("a greeting is one line of at most 400 printable ASCII characters".to_owned())
    };
    values.keep(&line, parsed)
}

/// The spool folder, `~/` standing for `$HOME`. Where HOME is of no use, the folder `tmp` of the working
/// directory: a fixed name below a folder that all may write to would not be safe.
fn spool_dir(values: &mut Values, home: Option<&Path>) -> PathBuf {
    let usable = |home: &&Path| home.is_absolute() && *home != Path::new("/") && home.is_dir();
    let line = values.first("spool_dir");
    let text = line.as_deref().unwrap_or_else(|| default("spool_dir"));
    match (text.strip_prefix("~/"), home.filter(usable)) {
        (Some(rest), Some(home)) => home.join(rest),
        (Some(rest), None) => PathBuf::from(rest),
        (None, _) => PathBuf::from(text),
    }
}

fn ip(values: &mut Values) -> Option<Ip> {
    let line = values.first("IP")?;
    let parsed = address(&line);
    values
        .keep(&line, parsed)
        .map(|address| address.map_or(Ip::All, Ip::One))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(files: &[(&str, &[&str])]) -> (Settings, usize) {
        let (settings, faults) = Settings::read_for(&source(files), None);
        (settings, faults.len())
    }

    fn source<'a>(files: &'a [(&'a str, &'a [&'a str])]) -> impl Fn(&str) -> Lines + 'a {
        |name| {
            let file = files.iter().find(|(file, _)| *file == name);
            file.map_or(Lines::empty(), |(_, lines)| Lines::of(name, *lines))
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_original() {
        let settings = Settings::default();
        assert_eq!((settings.databytes, settings.size_threshold), (0, 0));
        assert_eq!((settings.spool_perms, settings.loglevel), (0o700, Level::Warn));
        assert_eq!(settings.timeoutsmtpd, Duration::from_secs(1200));
        assert_eq!((settings.ip, settings.port), (None, None));
        assert_eq!(settings.me_auth_results, Some(vec![settings.me.clone()]));
        assert_eq!(settings.localiphost, settings.me);
        assert!(!settings.tls_before_auth && settings.received_version);
    }

    #[test]
    fn a_limit_of_nothing_is_none() {
        let (settings, faults) = read(&[
            ("maxrcpts", &["0"]),
            ("max_session_time", &["0"]),
            ("max_errors", &["7"]),
        ]);
        assert_eq!(faults, 0);
        let limits = settings.limits;
        assert_eq!(
            (limits.maxrcpts, limits.max_session_time, limits.max_errors),
            (usize::MAX, None, 7)
        );
        assert_eq!((limits.max_data_line, limits.max_command_line), (usize::MAX, 2048));
        // The line buffer cannot be without a limit.
        assert_eq!(read(&[("max_command_line", &["0"])]).1, 1);
    }

    #[test]
    fn one_time_stands_for_the_other() {
        let (settings, _) = read(&[("timeout", &["60"])]);
        assert_eq!(settings.timeoutsmtpd.as_secs(), 60);
        let (settings, _) = read(&[("timeout", &["60"]), ("timeoutsmtpd", &["30"])]);
        assert_eq!((settings.timeout.as_secs(), settings.timeoutsmtpd.as_secs()), (60, 30));
    }

    #[test]
    fn names_for_authentication_results() {
        assert_eq!(read(&[("me-auth-results", &["none"])]).0.me_auth_results, None);
        let (settings, faults) = read(&[("me-auth-results", &["a.example", "two words", "b.example"])]);
        assert_eq!(
            settings.me_auth_results,
            Some(vec!["a.example".to_owned(), "b.example".to_owned()])
        );
        assert_eq!(faults, 1);
    }

    #[test]
    fn a_greeting_is_one_printable_line() {
        assert_eq!(
            read(&[("smtpgreeting", &["hi there", "x"])]).0.smtpgreeting.as_deref(),
            Some("hi there")
        );
        assert_eq!(
            read(&[("smtpgreeting", &["hi\tthere"])]),
            (
                Settings {
                    spool_dir: "tmp/".into(),
                    ..Settings::default()
                },
                1
            )
        );
    }

    #[test]
    fn the_spool_begins_at_home_if_there_is_one() {
        let home = tempfile::TempDir::new().expect("a folder");
        let at = |files: &[(&str, &[&str])], home: &str| {
            Settings::read_for(&source(files), Some(Path::new(home))).0.spool_dir
        };
        let path = home.path().to_str().expect("text");
        assert_eq!(at(&[], path), home.path().join("tmp"));
        assert_eq!(at(&[("spool_dir", &["~/spool"])], path), home.path().join("spool"));
        assert_eq!(at(&[("spool_dir", &["/var/spool/q"])], path), Path::new("/var/spool/q"));
        for useless in ["", "/", "relative", "/no such folder"] {
            assert_eq!(at(&[], useless), Path::new("tmp"), "{useless}");
        }
    }
}
