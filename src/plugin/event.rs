//! Hooks, and the events that plugins are asked about (catalogue 1.2, 1.3).

use std::net::IpAddr;
use std::path::PathBuf;

use crate::config::Lines;
use crate::log::Record;
use crate::mail::{Address, Extensions, Params};
use crate::session::{Session, Verdict};

use super::{Answer, Credentials, Failure};

macro_rules! hooks {
    ($($(#[$doc:meta])* $variant:ident $name:ident $kind:ident $(as $original:literal)?;)*) => {
        /// A point of the dialogue at which plugins are asked.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types)] // the variants are named as the original names its hooks
        pub enum Hook { $($(#[$doc])* $name,)* }

        impl Hook {
            /// All hooks, in the order of a session.
            pub const ALL: &'static [Hook] = &[$(Hook::$name),*];

            /// The name, as the log and the original have it.
            pub const fn name(self) -> &'static str {
                match self { $(Hook::$name => hooks!(@name $name $($original)?)),* }
            }

            /// Whether a plugin that fails here makes the client try again later. Where there is nothing to put off, as
            /// at QUIT or NOOP, or nothing that a refusal would do, the next plugin is asked instead.
            pub const fn decides(self) -> bool {
                match self { $(Hook::$name => hooks!(@ $kind)),* }
            }
        }
    };
    (@name $name:ident) => { stringify!($name) };
    (@name $name:ident $original:literal) => { $original };
    (@ decides) => { true };
    (@ observes) => { false };
}

hooks! {
    /// A log record is written.
    Logging logging observes;
    /// A setting is wanted.
    Config config observes;
    /// A setting is wanted for an address.
    UserConfig user_config observes;
    /// A worker has been forked.
    PostFork post_fork observes as "post-fork";
    /// A connection was accepted; nothing has been said yet.
    PreConnection pre_connection decides as "pre-connection";
    /// The greeting is due.
    Connect connect decides;
    /// EHLO is about to be parsed.
    EhloParse ehlo_parse decides;
    /// EHLO.
    Ehlo ehlo decides;
    /// HELO is about to be parsed.
    HeloParse helo_parse decides;
    /// HELO.
    Helo helo decides;
    /// AUTH is about to be parsed.
    AuthParse auth_parse decides;
    /// AUTH, any mechanism.
    Auth auth decides;
    /// AUTH PLAIN.
    AuthPlain auth_plain decides as "auth-plain";
    /// AUTH LOGIN.
    AuthLogin auth_login decides as "auth-login";
    /// AUTH CRAM-MD5.
    AuthCramMd5 auth_cram_md5 decides as "auth-cram-md5";
    /// AUTH SCRAM: the keys of a user are wanted, not a decision.
    AuthScram auth_scram decides as "auth-scram";
    /// AUTH OAUTHBEARER and XOAUTH2.
    AuthToken auth_token decides as "auth-token";
    /// AUTH EXTERNAL.
    AuthExternal auth_external decides as "auth-external";
    /// RCPT is about to be parsed.
    RcptParse rcpt_parse decides;
    /// The address of RCPT is about to be parsed.
    RcptPre rcpt_pre decides;
    /// RCPT.
    Rcpt rcpt decides;
    /// MAIL is about to be parsed.
    MailParse mail_parse decides;
    /// MAIL.
    Mail mail decides;
    /// The address of MAIL is about to be parsed.
    MailPre mail_pre decides;
    /// DATA, before 354.
    Data data decides;
    /// The header is complete, the body is still coming.
    DataHeadersEnd data_headers_end decides;
    /// The message is complete; header fields may be added.
    DataPostHeaders data_post_headers observes;
    /// The message is complete; it may be refused.
    DataPost data_post decides;
    /// The message is about to be queued.
    QueuePre queue_pre decides;
    /// The message is to be queued.
    Queue queue decides;
    /// The message has been queued.
    QueuePost queue_post observes;
    /// VRFY.
    Vrfy vrfy observes;
    /// NOOP.
    Noop noop observes;
    /// QUIT.
    Quit quit observes;
    /// The transaction ends.
    ResetTransaction reset_transaction observes;
    /// The connection ends.
    Disconnect disconnect observes;
    /// The connection has ended.
    PostConnection post_connection observes as "post-connection";
    /// A command that nobody knows.
    UnrecognizedCommand unrecognized_command observes;
    /// A plugin has refused something.
    Deny deny observes;
    /// A plugin has not refused something.
    Ok ok observes;
    /// The Received field is made.
    ReceivedLine received_line observes;
    /// HELP.
    Help help observes;
}

/// The original writes some hooks with a hyphen; an underscore will do.
impl std::str::FromStr for Hook {
    type Err = String;

    fn from_str(text: &str) -> Result<Hook, String> {
        let name = text.replace('_', "-");
        let found = Hook::ALL.iter().find(|hook| hook.name().replace('_', "-") == name);
        found.copied().ok_or_else(|| format!("'{text}' is no hook"))
    }
}

/// What is known for the Received field (catalogue 1.5).
#[derive(Clone, Debug)]
pub struct Trace {
    /// `SMTP`, `ESMTP`, `ESMTPS`, `ESMTPA`, `ESMTPSA` (RFC 3848), `UTF8SMTP` and so on (RFC 6531 4.3).
    pub kind: &'static str,
    /// User and mechanism, if the client has logged in.
    pub auth: String,
    /// The cipher, if the connection is encrypted.
    pub tls: String,
}

/// A question to a plugin: one for each hook.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // each is the hook of its name, with that hook's arguments
pub enum Event<'a> {
    PostFork,
    PreConnection,
    Connect,
    EhloParse {
        line: &'a str,
    },
    Ehlo {
        host: &'a str,
    },
    HeloParse {
        line: &'a str,
    },
    Helo {
        host: &'a str,
    },
    AuthParse {
        line: &'a str,
    },
    Auth {
        with: &'a Credentials,
    },
    AuthPlain {
        with: &'a Credentials,
    },
    AuthLogin {
        with: &'a Credentials,
    },
    AuthCramMd5 {
        with: &'a Credentials,
    },
    AuthScram {
        with: &'a Credentials,
    },
    AuthToken {
        with: &'a Credentials,
    },
    AuthExternal {
        with: &'a Credentials,
    },
    MailParse {
        line: &'a str,
    },
    MailPre {
        address: &'a str,
        params: &'a Params,
    },
    Mail {
        sender: &'a Address,
        params: &'a Params,
    },
    RcptParse {
        line: &'a str,
    },
    RcptPre {
        address: &'a str,
        params: &'a Params,
    },
    Rcpt {
        recipient: &'a Address,
        params: &'a Params,
    },
    Data,
    DataHeadersEnd,
    DataPostHeaders,
    ReceivedLine {
        trace: &'a Trace,
    },
    DataPost,
    QueuePre,
    Queue,
    QueuePost,
    Vrfy {
        what: &'a str,
    },
    Noop {
        rest: &'a str,
    },
    Quit,
    Help {
        topic: &'a str,
    },
    UnrecognizedCommand {
        verb: &'a str,
        rest: &'a str,
    },
    ResetTransaction,
    Disconnect,
    PostConnection,
    Deny {
        plugin: &'a str,
        verdict: Verdict,
        text: &'a str,
    },
    Ok {
        plugin: &'a str,
        verdict: Verdict,
        text: &'a str,
    },
}

impl Event<'_> {
    /// The hook that asks.
    pub fn hook(&self) -> Hook {
        match self {
            Event::PostFork => Hook::post_fork,
            Event::PreConnection => Hook::pre_connection,
            Event::Connect => Hook::connect,
            Event::EhloParse { .. } => Hook::ehlo_parse,
            Event::Ehlo { .. } => Hook::ehlo,
            Event::HeloParse { .. } => Hook::helo_parse,
            Event::Helo { .. } => Hook::helo,
            Event::AuthParse { .. } => Hook::auth_parse,
            Event::Auth { .. } => Hook::auth,
            Event::AuthPlain { .. } => Hook::auth_plain,
            Event::AuthLogin { .. } => Hook::auth_login,
            Event::AuthCramMd5 { .. } => Hook::auth_cram_md5,
            Event::AuthScram { .. } => Hook::auth_scram,
            Event::AuthToken { .. } => Hook::auth_token,
            Event::AuthExternal { .. } => Hook::auth_external,
            Event::MailParse { .. } => Hook::mail_parse,
            Event::MailPre { .. } => Hook::mail_pre,
            Event::Mail { .. } => Hook::mail,
            Event::RcptParse { .. } => Hook::rcpt_parse,
            Event::RcptPre { .. } => Hook::rcpt_pre,
            Event::Rcpt { .. } => Hook::rcpt,
            Event::Data => Hook::data,
            Event::DataHeadersEnd => Hook::data_headers_end,
            Event::DataPostHeaders => Hook::data_post_headers,
            Event::ReceivedLine { .. } => Hook::received_line,
            Event::DataPost => Hook::data_post,
            Event::QueuePre => Hook::queue_pre,
            Event::Queue => Hook::queue,
            Event::QueuePost => Hook::queue_post,
            Event::Vrfy { .. } => Hook::vrfy,
            Event::Noop { .. } => Hook::noop,
            Event::Quit => Hook::quit,
            Event::Help { .. } => Hook::help,
            Event::UnrecognizedCommand { .. } => Hook::unrecognized_command,
            Event::ResetTransaction => Hook::reset_transaction,
            Event::Disconnect => Hook::disconnect,
            Event::PostConnection => Hook::post_connection,
            Event::Deny { .. } => Hook::deny,
            Event::Ok { .. } => Hook::ok,
        }
    }
}

/// A question that is asked without a session.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // each is the hook of its name
pub enum Aside<'a> {
    Config { name: &'a str },
    UserConfig { who: &'a Address, name: &'a str },
    Logging { record: &'a Record<'a> },
}

/// The lines of a setting, if a plugin knows them; an error if it should, and cannot tell.
pub type Told = Result<Option<Lines>, Failure>;

/// What a plugin needs of the machine while sessions are served; everything else is out of its reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and folders it reads.
    pub read: Vec<PathBuf>,
    /// Files and folders it writes; its owned directories need not be named again.
    pub write: Vec<PathBuf>,
    /// Programs it runs.
    pub programs: Programs,
}

/// Which programs a plugin runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Programs {
    /// None.
    #[default]
    None,
    /// Programs that only read files of the system.
    Reading,
    /// Programs with needs of their own, or that change their user: then no worker can be confined.
    Any,
}

/// A plugin: native ones get it from [`plugin!`](crate::plugin!), scripts implement it.
pub trait Plugin: Send + Sync {
    /// Answers an event.
    ///
    /// # Errors
    /// When the plugin cannot decide; its argument `on_error` says what becomes of it.
    fn on(&self, event: &Event<'_>, s: &mut Session) -> Answer;

    /// Answers a question asked without a session.
    fn aside(&self, _aside: &Aside<'_>) -> Told {
        Ok(None)
    }

    /// The highest level of records a logging plugin takes.
    fn logs_up_to(&self) -> crate::log::Level {
        crate::log::Level::Debug
    }

    /// Runs once, when everything has been loaded and is to be used, in the process that forks those that serve and
    /// as the user who serves. A mere check of the configuration does not run it.
    ///
    /// # Errors
    /// Why the plugin cannot work; the daemon does not start, or goes on as before a reload.
    fn start(&self) -> Result<(), String> {
        Ok(())
    }

    /// What the plugin needs of the machine besides its configuration files; workers are confined to it.
    fn needs(&self) -> Needs {
        Needs::default()
    }

    /// What a plugin that queues messages keeps or passes on of what they ask for. An extension is offered if all that
    /// serve the hook `queue` take it.
    fn takes(&self) -> Extensions {
        Extensions::default()
    }

    /// How TLS is to be offered, if the plugin wants it offered.
    fn tls_plan(&self) -> Option<&crate::session::tls::TlsPlan> {
        None
    }

    /// Whether a mechanism, in lower case, of a hook that the plugin serves can succeed in this session: for those
    /// whose users do not all have what it needs, or that go by a certificate. Asked at each EHLO and AUTH.
    fn offers(&self, _s: &Session, _mechanism: &str) -> bool {
        true
    }

    /// Whether connections from this address begin with a PROXY header because the plugin wants it so.
    fn is_proxy(&self, _peer: IpAddr) -> bool {
        false
    }

    /// Directories that the plugin writes into and that are made, for the daemon's user, when it starts.
    fn owned_dirs(&self) -> Vec<PathBuf> {
        Vec::new()
    }
}
