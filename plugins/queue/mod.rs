//! The plugins that take a message over when it has been accepted (catalogue 20), and what they share.

mod client;
pub mod discard;
pub mod lmtp;
pub mod maildir;
pub mod qmail_queue;
pub mod smtp_forward;

use crate::plugin::*;

/// The longest Message-ID that is repeated in a reply, in bytes.
const MAX_ID: usize = 300;

/// The message's own name, in angle brackets; empty if it has none.
fn message_id(s: &Session) -> String {
    let field = s.header().get("Message-ID");
    let text = field.map(|field| field.text()).unwrap_or_default();
    let mut id: String = text.chars().filter(|c| !c.is_control()).collect();
    id.truncate(id.floor_char_boundary(MAX_ID));
    match (id.starts_with('<') && id.ends_with('>')) || id.is_empty() {
        true => id,
        false => format!("<{id}>"),
    }
}

/// What the client hears, and log tools look for, of a message that was taken: with the name of the message after what
/// the queue calls it.
fn queued(s: &Session, name: &str) -> Answer {
    let id = message_id(s);
    let words: Vec<&str> = [name, &id].into_iter().filter(|word| !word.is_empty()).collect();
    match words.is_empty() {
        true => ok_with("Queued! (it has no Message-Id)"),
        false => ok_with(format!("Queued! {}", words.join(" "))),
    }
}
