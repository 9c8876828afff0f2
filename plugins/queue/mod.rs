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

/// The value of the field Message-ID in angle brackets, for the reply and the log; `<>` if there is none.
fn message_id(s: &Session) -> String {
    let field = s.header().get("Message-ID");
    let text = field.map(|field| field.text()).unwrap_or_default();
    let mut id: String = text.chars().filter(|c| !c.is_control()).collect();
    id.truncate(id.floor_char_boundary(MAX_ID));
    match id.starts_with('<') && id.ends_with('>') {
        true => id,
        false => format!("<{id}>"),
    }
}
