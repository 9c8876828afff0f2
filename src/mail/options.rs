//! What MAIL and RCPT ask for besides the address: the parameters of the extensions, typed and checked.
//!
//! SIZE (RFC 1870), BODY (RFC 6152, RFC 3030), SMTPUTF8 (RFC 6531), AUTH (RFC 4954 5), and what the sender wants to be told about the
//! delivery: RET, ENVID, NOTIFY and ORCPT (RFC 3461). All of them have a `Display` that is what a client of the next
//! server says.

use std::fmt;

use super::params::Params;
use super::{Address, Syntax, xtext};

/// The most digits of a size (RFC 1870 3).
const SIZE_DIGITS: usize = 20;
/// The longest ENVID in characters, decoded (RFC 3461 4.4).
const MAX_ENVID: usize = 100;
/// The longest AUTH in octets, encoded (RFC 4954 3).
const MAX_AUTH: usize = 500;
/// The longest ORCPT in octets, encoded (RFC 3461 4.2).
const MAX_ORCPT: usize = 500;

/// Extensions that ask something of whoever takes the message in the end: only what all of those can keep is offered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// DSN: the sender is told of success, failure and delay as he has asked for, or the next server is asked to do
    /// it.
    pub dsn: bool,
    /// BINARYMIME: bodies are passed on byte by byte, in which CR and LF need not be line ends.
    pub binary: bool,
    /// SMTPUTF8: local parts and header fields that are not ASCII.
    pub utf8: bool,
    /// REQUIRETLS: the message goes on over TLS alone, to servers that are known, or nowhere (RFC 8689).
    pub requiretls: bool,
}

impl Extensions {
    /// All of them.
    pub const ALL: Extensions = Extensions {
        dsn: true,
        binary: true,
        utf8: true,
        requiretls: true,
    };

    /// What both have.
    pub fn and(self, other: Extensions) -> Extensions {
        Extensions {
            dsn: self.dsn && other.dsn,
            binary: self.binary && other.binary,
            utf8: self.utf8 && other.utf8,
            requiretls: self.requiretls && other.requiretls,
        }
    }
}

/// What is wrong with a parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadOption {
    /// Its value: the words for a 501.
    Value(String),
    /// It is not offered, and cannot be ignored: the keyword, for a 555.
    NotOffered(&'static str),
}

fn bad<T>(words: impl Into<String>) -> Result<T, BadOption> {
    Err(BadOption::Value(words.into()))
}

/// What kind of bytes the body is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BodyKind {
    /// Nothing was said, or `BODY=7BIT`.
    #[default]
    SevenBit,
    /// `BODY=8BITMIME`: lines of any bytes.
    EightBit,
    /// `BODY=BINARYMIME`: any bytes, not lines. Such a body is stored as it came, CRLF and all, behind the empty line
    /// that separates it from the header.
    Binary,
}

/// How much of the message a report of its failure shall hold (RFC 3461 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// `FULL`: all of it.
    Full,
    /// `HDRS`: its header.
    Headers,
}

impl fmt::Display for Ret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ret::Full => "FULL",
            Ret::Headers => "HDRS",
        })
    }
}

/// What the sender wants to be told about a recipient (RFC 3461 4.1); nothing of it is `NEVER`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// `SUCCESS`: that the message was delivered.
    pub success: bool,
    /// `FAILURE`: that it could not be.
    pub failure: bool,
    /// `DELAY`: that it takes longer.
    pub delay: bool,
}

impl Notify {
    /// Whether nothing is to be told.
    pub fn is_never(self) -> bool {
        self == Notify::default()
    }

    fn read(text: &str) -> Option<Notify> {
        let mut notify = Notify::default();
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in text.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            return f.write_str("NEVER");
        }
        let words = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ];
        let words: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// The address that the sender knows a recipient by (RFC 3461 4.2, RFC 6533 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Orcpt {
    /// The kind of address, as it was sent: `rfc822` mostly.
    pub kind: String,
    /// The address, decoded. Only one of kind `utf-8` can hold what is not ASCII.
    pub address: String,
}

impl Orcpt {
    /// Reads `kind;text`; `utf8` if the client has said SMTPUTF8.
    fn read(text: &str, utf8: bool) -> Option<Orcpt> {
        let (kind, text) = text.split_once(';')?;
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*-/?^_`{|}~".contains(&b);
        if kind.is_empty() || !kind.bytes().all(atom) || text.is_empty() {
            return None;
        }
        let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
        let address = match () {
            () if is_utf8 => xtext::decode_utf8(text, utf8)?,
            () if kind.eq_ignore_ascii_case("rfc822") => xtext::decode_lax(text)?,
            () => xtext::decode(text)?,
        };
        // Postfix calls every address rfc822; one that is not ASCII goes on under the name of its kind
        let kind = match is_utf8 || address.is_ascii() {
            true => kind.to_owned(),
            false => "utf-8".to_owned(),
        };
        let orcpt = Orcpt { kind, address };
        (orcpt.encoded(false).len() <= MAX_ORCPT).then_some(orcpt)
    }

    /// The value of the parameter; with `utf8`, for a server that is told SMTPUTF8.
    pub fn encoded(&self, utf8: bool) -> String {
        let text = match self.kind.eq_ignore_ascii_case("utf-8") {
            true => xtext::encode_utf8(&self.address, utf8),
            false => xtext::encode(&self.address),
        };
        format!("{};{text}", self.kind)
    }
}

/// What MAIL asks for besides the sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailOptions {
    /// `SIZE=`: how many bytes the message will have.
    pub size: Option<u64>,
    /// `BODY=`.
    pub body: BodyKind,
    /// `SMTPUTF8`: envelope and header may hold UTF-8.
    pub utf8: bool,
    /// `RET=`: how much of the message comes back.
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded: the sender's name for the transaction.
    pub envid: Option<String>,
    /// `AUTH=`, decoded: who has submitted the message, or `<>` if that is not known (RFC 4954 5). Of a client that is
    /// not trusted it is `<>`, whatever it says.
    pub auth: Option<String>,
}

impl MailOptions {
    /// Reads the parameters that belong to extensions of the core; others are left to those who know them, as are
    /// those of DSN where that is not `offered`.
    ///
    /// # Errors
    /// A value that is none, a parameter given twice, or one that is not offered.
    pub fn read(params: &Params, offered: Extensions) -> Result<MailOptions, BadOption> {
        let mut options = MailOptions::default();
        for (key, value) in params.iter() {
            let text = value.unwrap_or_default();
            match key {
                "size" => match size_of(text) {
                    Some(size) => once(&mut options.size, size, "SIZE")?,
                    None => return bad(format!("SIZE={text} is no size")),
                },
                "body" => options.body = body_of(text, offered)?,
                "smtputf8" if !offered.utf8 => return Err(BadOption::NotOffered("SMTPUTF8")),
                "smtputf8" if value.is_some() => return bad("SMTPUTF8 takes no value"),
                "smtputf8" => options.utf8 = true,
                // a promise that nobody here could keep (RFC 4865, RFC 2852)
                "holdfor" | "holduntil" => return Err(BadOption::NotOffered("FUTURERELEASE")),
                "by" => return Err(BadOption::NotOffered("DELIVERBY")),
                "ret" if offered.dsn => match text.to_ascii_uppercase().as_str() {
                    "FULL" => once(&mut options.ret, Ret::Full, "RET")?,
                    "HDRS" => once(&mut options.ret, Ret::Headers, "RET")?,
                    _ => return bad("RET= must be FULL or HDRS"),
                },
                "envid" if offered.dsn => match xtext::decode(text) {
                    Some(envid) if (1..=MAX_ENVID).contains(&envid.len()) => once(&mut options.envid, envid, "ENVID")?,
                    Some(_) => return bad(format!("ENVID= must have 1 to {MAX_ENVID} characters")),
                    None => return bad("ENVID= is no xtext"),
                },
                "auth" => match submitter_of(text) {
                    Some(submitter) => once(&mut options.auth, submitter, "AUTH")?,
                    None => return bad("AUTH= must be <> or a mailbox in xtext"),
                },
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether [`MailOptions::read`] reads a parameter with this key, in lower case.
    pub fn reads(key: &str, offered: Extensions) -> bool {
        match key {
            "size" | "body" | "auth" => true,
            "smtputf8" => offered.utf8,
            "ret" | "envid" => offered.dsn,
            _ => false,
        }
    }
}

/// What RCPT asks for besides the recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RcptOptions {
    /// `NOTIFY=`; where it was not given, failures are told, and perhaps delays.
    pub notify: Option<Notify>,
    /// `ORCPT=`.
    pub orcpt: Option<Orcpt>,
}

impl RcptOptions {
    /// Reads the parameters that belong to extensions of the core; `utf8` if MAIL had the parameter SMTPUTF8.
    ///
    /// # Errors
    /// A value that is none, or a parameter given twice.
    pub fn read(params: &Params, offered: Extensions, utf8: bool) -> Result<RcptOptions, BadOption> {
        let mut options = RcptOptions::default();
        for (key, value) in params.iter().filter(|_| offered.dsn) {
            let text = value.unwrap_or_default();
            match key {
                "notify" => match Notify::read(text) {
                    Some(notify) => once(&mut options.notify, notify, "NOTIFY")?,
                    None => return bad("NOTIFY= must be NEVER, or a list of SUCCESS, FAILURE and DELAY"),
                },
                "orcpt" => match Orcpt::read(text, utf8) {
                    Some(orcpt) => once(&mut options.orcpt, orcpt, "ORCPT")?,
                    None => return bad("ORCPT= must be an address type, a semicolon and at most 500 octets of xtext"),
                },
                _ => {}
            }
        }
        Ok(options)
    }

    /// Whether [`RcptOptions::read`] reads a parameter with this key, in lower case.
    pub fn reads(key: &str, offered: Extensions) -> bool {
        offered.dsn && matches!(key, "notify" | "orcpt")
    }
}

/// A parameter must not be given twice (RFC 5321 4.1.1.11).
fn once<T>(slot: &mut Option<T>, value: T, key: &str) -> Result<(), BadOption> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => bad(format!("{key}= was given twice")),
    }
}

/// Who is named by an `AUTH=`.
fn submitter_of(text: &str) -> Option<String> {
    if text == "<>" {
        return Some(text.to_owned());
    }
    let mailbox = xtext::decode(text).filter(|_| (1..=MAX_AUTH).contains(&text.len()))?;
    let syntax = Syntax {
        underscore: true,
        ..Syntax::default()
    };
    Address::parse(&format!("<{mailbox}>"), syntax).ok()?;
    Some(mailbox)
}

/// The number of a `SIZE=`: up to twenty digits, and those that do not fit are more than any limit (RFC 1870 3).
fn size_of(digits: &str) -> Option<u64> {
    let good = (1..=SIZE_DIGITS).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    good.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn body_of(text: &str, offered: Extensions) -> Result<BodyKind, BadOption> {
    match text.to_ascii_uppercase().as_str() {
        "7BIT" => Ok(BodyKind::SevenBit),
        "8BITMIME" => Ok(BodyKind::EightBit),
        "BINARYMIME" if offered.binary => Ok(BodyKind::Binary),
        _ if offered.binary => bad("BODY= must be 7BIT, 8BITMIME or BINARYMIME"),
        _ => bad("BODY= must be 7BIT or 8BITMIME"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn params(words: &str) -> Params {
        let mut params = Params::new();
        words.split_whitespace().for_each(|word| params.push(word));
        params
    }

    fn mail(words: &str) -> Result<MailOptions, BadOption> {
        MailOptions::read(&params(words), Extensions::ALL)
    }

    fn rcpt(words: &str) -> Result<RcptOptions, BadOption> {
        RcptOptions::read(&params(words), Extensions::ALL, false)
    }

    #[test]
    fn sizes_are_digits_alone() {
        assert_eq!(size_of("0"), Some(0));
        assert_eq!(size_of("10485760"), Some(10_485_760));
        assert_eq!(size_of("99999999999999999999"), Some(u64::MAX));
        for text in ["", "+1", "-1", "1k", "999999999999999999999"] {
            assert_eq!(size_of(text), None, "{text}");
        }
    }

    #[test]
    fn what_mail_asks_for() {
        let options = mail("SIZE=10 BODY=8bitmime SMTPUTF8 RET=hdrs ENVID=a+20b FOO=bar").unwrap();
        assert_eq!(
            (options.size, options.body, options.utf8),
            (Some(10), BodyKind::EightBit, true)
        );
        assert_eq!(options.ret.map(|ret| ret.to_string()).as_deref(), Some("HDRS"));
        assert_eq!(options.envid.as_deref(), Some("a b"));
        let auth = |words: &str| mail(words).unwrap().auth;
        assert_eq!(auth("AUTH=<>").as_deref(), Some("<>"));
        assert_eq!(auth("AUTH=e+3Dmc2@example.com").as_deref(), Some("e=mc2@example.com"));
        assert_eq!(auth("SIZE=10"), None);
        let wrong = "AUTH= must be <> or a mailbox in xtext";
        let long = format!("ENVID={}", "x".repeat(101));
        for (words, why) in [
            ("SIZE", "SIZE= is no size"),
            ("SIZE=1 SIZE=1", "SIZE= was given twice"),
            ("RET=ALL", "RET= must be FULL or HDRS"),
            ("RET", "RET= must be FULL or HDRS"),
            ("RET=FULL RET=FULL", "RET= was given twice"),
            ("ENVID=a+2", "ENVID= is no xtext"),
            ("ENVID", "ENVID= must have 1 to 100 characters"),
            (&long, "ENVID= must have 1 to 100 characters"),
            ("AUTH", wrong),
            ("AUTH=joe", wrong),
            ("AUTH=a+4@example.com", wrong),
            ("AUTH=a+20b@example.com", wrong),
            ("AUTH=<a@example.com>", wrong),
            ("AUTH=<> AUTH=<>", "AUTH= was given twice"),
            ("SMTPUTF8=yes", "SMTPUTF8 takes no value"),
            ("BODY=ODD", "BODY= must be 7BIT, 8BITMIME or BINARYMIME"),
        ] {
            assert_eq!(mail(words), Err(BadOption::Value(why.to_owned())), "{words}");
        }
    }

    #[test]
    fn what_rcpt_asks_for() {
        for (words, want) in [
            ("NOTIFY=never", "NEVER"),
            ("NOTIFY=SUCCESS,DELAY", "SUCCESS,DELAY"),
            ("NOTIFY=delay,failure,success", "SUCCESS,FAILURE,DELAY"),
        ] {
            assert_eq!(rcpt(words).unwrap().notify.unwrap().to_string(), want);
        }
        let orcpt = rcpt("ORCPT=rfc822;Joe+2Bx@example.com").unwrap().orcpt.unwrap();
        assert_eq!((&*orcpt.kind, &*orcpt.address), ("rfc822", "Joe+x@example.com"));
        assert_eq!(orcpt.encoded(false), "rfc822;Joe+2Bx@example.com");
        let orcpt = rcpt(r"ORCPT=UTF-8;j\x{FC}rgen@example.com").unwrap().orcpt.unwrap();
        assert_eq!(orcpt.encoded(true), "UTF-8;jürgen@example.com");
        // as Postfix 3.7 says it
        let orcpt = rcpt("ORCPT=rfc822;+C3+BC@b+C3+BCcher.example").unwrap().orcpt.unwrap();
        assert_eq!(orcpt.encoded(false), r"utf-8;\x{FC}@b\x{FC}cher.example");
        for words in [
            "NOTIFY",
            "NOTIFY=NEVER,FAILURE",
            "NOTIFY=SOMETIMES",
            "NOTIFY=,",
            "NOTIFY=NEVER NOTIFY=NEVER",
            "ORCPT=rfc822",
            "ORCPT=;a@b",
            "ORCPT=rfc822;",
            "ORCPT=rf(c;a@b",
            "ORCPT=rfc822;a+0Ab",
            "ORCPT=rfc822;+C3",
            "ORCPT=x400;+C3+BC",
            "ORCPT=utf-8;jürgen@example.com",
            &format!("ORCPT=rfc822;{}", "x".repeat(494)),
        ] {
            assert!(matches!(rcpt(words), Err(BadOption::Value(_))), "{words}");
        }
        assert!(rcpt(&format!("ORCPT=rfc822;{}", "x".repeat(493))).is_ok());
        let utf8 = RcptOptions::read(&params("ORCPT=utf-8;jürgen@b"), Extensions::ALL, true);
        assert_eq!(utf8.unwrap().orcpt.unwrap().encoded(false), r"utf-8;j\x{FC}rgen@b");
    }

    #[test]
    fn what_is_not_offered_is_not_read() {
        let none = Extensions::default();
        let words = params("RET=ALL ENVID=+");
        assert_eq!(MailOptions::read(&words, none), Ok(MailOptions::default()));
        assert_eq!(
            RcptOptions::read(&params("NOTIFY=x"), none, true),
            Ok(RcptOptions::default())
        );
        let utf8 = MailOptions::read(&params("SMTPUTF8"), none);
        assert_eq!(utf8, Err(BadOption::NotOffered("SMTPUTF8")));
        assert!(MailOptions::read(&params("BODY=BINARYMIME"), none).is_err());
        assert!(!MailOptions::reads("ret", none) && !RcptOptions::reads("notify", none));
    }

    proptest! {
        #[test]
        fn what_is_passed_on_is_read_as_the_same(
            notify in "(NEVER|SUCCESS|FAILURE|DELAY|success,delay|DELAY,FAILURE)",
            kind in "(rfc822|utf-8|UTF-8|x-y)",
            address in "(a|[+][0-9A-F]{2}|\\\\x\\{[0-9A-F]{2,6}\\}|[!-~\u{fc}]){0,12}",
            envid in "(a|[+][0-9A-F]{2}|[!-~]){0,12}",
            utf8: bool,
        ) {
            let read = |words: &str| RcptOptions::read(&params(words), Extensions::ALL, utf8);
            if let Ok(options) = read(&format!("NOTIFY={notify} ORCPT={kind};{address}")) {
                let [notify, orcpt] = [options.notify.map(|one| one.to_string()), options.orcpt.as_ref().map(|one| one.encoded(utf8))];
                let again = format!("NOTIFY={} ORCPT={}", notify.unwrap_or_default(), orcpt.unwrap_or_default());
                prop_assert_eq!(read(&again), Ok(options));
            }
            if let Some(envid) = mail(&format!("ENVID={envid}")).ok().and_then(|options| options.envid) {
                prop_assert_eq!(mail(&format!("ENVID={}", xtext::encode(&envid))).unwrap().envid, Some(envid));
            }
        }
    }
}
