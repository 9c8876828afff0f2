//! Deliver into maildirs (catalogue 20.1): one for all recipients, or one for each.
//!
//! A message that was answered 250 is on the disk, name included. One that was not is nowhere: all its files are
//! written to `tmp` and synced first, then they are moved to `new`; if anything fails, all of them are taken back.

mod place;
mod store;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::queued;
use crate::plugin::*;
use place::{Mode, Pattern};
use store::{Copy, Store};

plugin! {
    /// Delivers into maildirs: one for all recipients, or with a pattern one for each of them. Those who share a maildir
    /// share one copy.
    "queue/maildir", Maildir {
        /// The maildir; with a pattern the directory of the maildirs. It is made if it is missing.
        @1 dir: PathBuf,
        /// The maildir of a recipient below that directory: `%l` is the local part, `%d` the domain in lower case,
        /// `%u` both with an `@`. ASCII characters of an address other than letters, digits and `-+_.,@=` become `_`.
        @2 subdirs: Option<String>,
        /// The mode of the directories in octal; files get the same without the right to execute.
        @3 mode: Option<Mode> = None,
    }
    state { pattern: Option<Pattern>, store: Store }
    hooks [queue]
    with [setup, takes, owned_dirs]
}

impl Maildir {
    fn setup(&mut self, _: &mut Loading<'_>) -> Result<(), String> {
        // the mode may follow the directory at once
        let mut word = self.subdirs.take();
        if let (Some(text), None) = (&word, self.mode)
            && !text.contains('%')
        {
            Mode::set(&mut self.mode, "mode", text).map_err(|_| format!("'{text}' is neither a pattern nor a mode"))?;
            word = None;
        }
        self.pattern = word.map(|text| Pattern::parse(&text)).transpose()?;
        self.store.mode = self.mode.unwrap_or_default();
        Ok(())
    }

    /// Nobody is told of a delivery, and readers of maildirs make CRLF of every LF.
    fn takes(&self) -> Extensions {
        Extensions {
            utf8: true,
            // it goes no further
            requiretls: true,
            ..Extensions::default()
        }
    }

    fn owned_dirs(&self) -> Vec<PathBuf> {
        let mut dirs = vec![self.dir.clone()];
        if self.pattern.is_none() {
            dirs.extend(["cur", "new", "tmp"].map(|name| self.dir.join(name)));
        }
        dirs
    }

    fn queue(&self, s: &mut Session) -> Answer {
        let Some(transaction) = &s.transaction else {
            return declined();
        };
        let copies = match self.copies(transaction, &s.settings.me) {
            Ok(copies) if copies.is_empty() => return declined(),
            Ok(copies) => copies,
            Err(who) => {
                info!(s, "fail, {who} makes no safe directory name");
                let text = "a recipient's address cannot be the name of a directory";
                return answer_with(Verdict::Deny, Status(5, 1, 3), text);
            }
        };
        match self
            .store
            .deliver(&copies, &transaction.message, s.services().clock.now())
        {
            Ok(()) => queued(s, ""),
            Err(why) => {
                error!(s, "error, cannot deliver into {}: {why}", self.dir.display());
                match is_full(&why) {
                    true => dsn::system_full("the disk is full, try again later"),
                    false => answer(Verdict::Declined, "cannot deliver into the maildir, try again later"),
                }
            }
        }
    }

    /// The files to write: where each goes, and the lines it has above the others. Recipients who share a maildir share
    /// the file. The error is a recipient whose address gives no directory.
    fn copies(&self, transaction: &Transaction, me: &str) -> Result<Vec<Copy>, String> {
        let mut shared: BTreeMap<PathBuf, Vec<&Address>> = BTreeMap::new();
        for recipient in &transaction.recipients {
            let who = &recipient.address;
            let dir = match &self.pattern {
                Some(pattern) => self.dir.join(pattern.fill(who, me).ok_or_else(|| who.path())?),
                None => self.dir.clone(),
            };
            shared.entry(dir).or_default().push(who);
        }
        let sender = transaction.sender.path();
        let copy = |(dir, recipients): (PathBuf, Vec<&Address>)| {
            let mut top = format!("Return-Path: {sender}\n");
            // each was put above the one before
            recipients.iter().rev().for_each(|who| delivered_to(&mut top, who));
            Copy { dir, top }
        };
        Ok(shared.into_iter().map(copy).collect())
    }
}

fn delivered_to(top: &mut String, who: &Address) {
    let path = who.path();
    for part in ["Delivered-To: ", &path[1..path.len() - 1], "\n"] {
        top.push_str(part);
    }
}

#[cfg(test)]
mod tests;
