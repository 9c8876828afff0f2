//! What came of a message for each of its recipients.

use super::{Answered, Reply, Trouble};
use crate::plugin::*;

/// Each recipient with the server's reply, or why there is none.
pub type Fates<'a> = Vec<(&'a Recipient, Answered)>;

/// Whether the server has said yes.
pub fn has_it(fate: &Answered) -> bool {
    fate.as_ref().is_ok_and(Reply::is_positive)
}

/// Whether the server has said no for good.
fn is_hopeless(fate: &Answered) -> bool {
    fate.as_ref().is_ok_and(|reply| reply.code / 100 == 5)
}

/// Why nobody has the message.
pub fn nobody(fates: &Fates<'_>) -> Trouble {
    let unknown = fates.iter().find_map(|(_, fate)| fate.as_ref().err());
    let mut refusals = fates.iter().filter_map(|(_, fate)| fate.as_ref().ok());
    let soft = refusals.clone().find(|reply| reply.code / 100 == 4);
    match (unknown, soft.or(refusals.next())) {
        (Some(why), _) => Trouble::Unknown(why.clone()),
        (None, Some(reply)) => Trouble::Refused(reply.clone()),
        (None, None) => Trouble::Nothing("there is no recipient".to_owned()),
    }
}

/// The answer to a message that was delivered, with the words of the last server that has taken it.
pub fn delivered(fates: &Fates<'_>) -> Answer {
    let mut replies = fates.iter().filter_map(|(_, fate)| fate.as_ref().ok());
    let reply = replies.rfind(|reply| reply.is_positive());
    let text = reply.map_or_else(String::new, |reply| reply.parts().1);
    ok_with(match text.trim() {
        "" => "delivered".to_owned(),
        text => format!("delivered, {text}"),
    })
}

/// The answer where some have the message, and nobody else tells the sender of the others, whose names these are. If
/// another try may help them, there shall be one.
pub fn partly(fates: &Fates<'_>, failed: &[String], again: bool) -> Answer {
    let text = format!("delivered, but not to {}", failed.join(", "));
    match again && fates.iter().any(|(_, fate)| !has_it(fate) && !is_hopeless(fate)) {
        true => answer_with(Verdict::DenySoft, Status(4, 0, 0), text),
        false => with_code(554, answer_with(Verdict::Deny, Status(5, 0, 0), text)),
    }
}

/// The answer to each recipient, for a client of LMTP.
pub fn outcomes(fates: &Fates<'_>) -> Vec<(usize, RcptOutcome)> {
    let outcome = |fate: &Answered| match fate {
        Ok(reply) => {
            let (status, text) = reply.parts();
            RcptOutcome {
                verdict: match reply.code / 100 {
                    2 => Verdict::Ok,
                    5 => Verdict::Deny,
                    _ => Verdict::DenySoft,
                },
                status,
                text: text.into(),
            }
        }
        Err(_) => RcptOutcome {
            verdict: Verdict::DenySoft,
            status: Some(Status(4, 4, 2)),
            text: "the server of the mailboxes has not confirmed the message".into(),
        },
    };
    fates.iter().map(|(_, fate)| outcome(fate)).enumerate().collect()
}
