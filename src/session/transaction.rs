//! A mail transaction: from MAIL to the answer after the data, or to its reset (RFC 5321 3.3).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use super::{Notes, Verdict};
use crate::mail::{Address, MailOptions, Message, Params, RcptOptions, Spool, Status};

/// One accepted recipient.
#[derive(Debug)]
pub struct Recipient {
    /// Where the mail shall go.
    pub address: Address,
    /// The parameters of its RCPT command.
    pub params: Params,
    /// Those that the core knows, checked.
    pub options: RcptOptions,
}

/// What became of the message for one recipient.
#[derive(Clone, Debug)]
pub struct RcptOutcome {
    /// [`Verdict::Ok`] if it has the message, else one that refuses.
    pub verdict: Verdict,
    /// The enhanced status code, if the plugin knows one.
    pub status: Option<Status>,
    /// Words for the client; empty for the usual ones.
    pub text: Cow<'static, str>,
}

/// The envelope, and the message as it comes in.
pub struct Transaction {
    /// The reverse-path; already set while the mail hooks decide about it.
    pub sender: Address,
    /// The parameters of MAIL.
    pub params: Params,
    /// Those that the core knows, checked.
    pub options: MailOptions,
    /// Those whom a plugin has accepted, in their order.
    pub recipients: Vec<Recipient>,
    /// The message comes by BDAT: what follows that command is a part of it, and no talking out of turn (RFC 3030).
    pub chunked: bool,
    /// Header and body; empty before DATA.
    pub message: Message,
    /// Notes that end with the transaction.
    pub notes: Notes,
    /// What plugins found out about this message, for Authentication-Results (RFC 8601).
    pub results: Vec<String>,
    /// When MAIL came.
    pub started: SystemTime,
    /// Bytes of the message as stored, before anything was added.
    pub data_size: u64,
    /// What became of it for single recipients, by their place in `recipients`; see [`Transaction::settle`].
    pub outcomes: BTreeMap<usize, RcptOutcome>,
    /// Files and directories that vanish with the transaction.
    pub temporary: Vec<PathBuf>,
}

impl Transaction {
    /// A transaction with an empty message that would be spooled in `spool`.
    pub fn new(sender: Address, params: Params, spool: &Arc<Spool>, started: SystemTime) -> Transaction {
        Transaction {
            sender,
            params,
            options: MailOptions::default(),
            recipients: Vec::new(),
            chunked: false,
            message: Message::new(spool),
            notes: Notes::default(),
            results: Vec::new(),
            started,
            data_size: 0,
            outcomes: BTreeMap::new(),
            temporary: Vec::new(),
        }
    }

    /// Says what became of the message for one recipient, by its place in `recipients`. A plugin that queues may do so
    /// before it answers; its answer holds for the others. LMTP tells each recipient; in SMTP, where there is one reply
    /// for all, a recipient that failed makes the client try again.
    pub fn settle(&mut self, number: usize, outcome: RcptOutcome) {
        self.outcomes.insert(number, outcome);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        for path in &self.temporary {
            // nothing can be done about one that is gone already
            let _ = match path.is_dir() {
                true => std::fs::remove_dir_all(path),
                false => std::fs::remove_file(path),
            };
        }
    }
}
