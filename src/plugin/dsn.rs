//! Answers with the enhanced status codes of RFC 3463, for what plugins refuse most (catalogue 10.3).

use std::borrow::Cow;

use super::{Answer, answer_with};
use crate::mail::Status;
use crate::session::Verdict;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident $verdict:ident $subject:literal $detail:literal $text:literal;)*) => {$(
        $(#[$doc])*
        pub fn $name(text: impl Into<Cow<'static, str>>) -> Answer {
            with(Verdict::$verdict, $subject, $detail, text.into(), $text)
        }
    )*};
}

/// An answer with a status code of the verdict's class; an empty text becomes the default.
fn with(verdict: Verdict, subject: u16, detail: u16, text: Cow<'static, str>, default: &'static str) -> Answer {
    let class = match verdict {
        Verdict::Ok => 2,
        verdict if verdict.is_soft() => 4,
        _ => 5,
    };
    let text = if text.is_empty() { Cow::Borrowed(default) } else { text };
    answer_with(verdict, Status(class, subject, detail), text)
}

codes! {
    /// 5.1.1: there is no such mailbox.
    no_such_user Deny 1 1 "no such user";
    /// 5.1.8: the sender's domain cannot be a sender's.
    addr_bad_from_system Deny 1 8 "bad sender's system address";
    /// 5.7.1: this server does not relay for that domain.
    relaying_denied Deny 7 1 "relaying denied";
    /// 4.4.3: DNS did not answer.
    temp_resolver_failed DenySoft 4 3 "directory server failure";
    /// 5.4.6: the message goes in circles.
    too_many_hops Deny 4 6 "too many hops, this message is looping";
    /// 5.6.1: the content is not wanted.
    media_unsupported Deny 6 1 "media not supported";
    /// 2.1.5: the recipient is fine.
    addr_rcpt_ok Ok 1 5 "recipient ok";
    /// 4.5.3: too many recipients.
    too_many_rcpts DenySoft 5 3 "too many recipients";
    /// 5.3.4: the message is too big.
    message_too_big Deny 3 4 "message too big";
    /// 4.3.0: the mail system failed.
    mail_system_failed DenySoft 3 0 "mail system failure";
    /// 4.4.1: the next server does not answer.
    no_answer DenySoft 4 1 "no answer from host";
    /// 4.3.1: the disk is full.
    system_full DenySoft 3 1 "mail system full";
    /// 5.7.1: policy says no.
    policy Deny 7 1 "delivery not authorized, message refused";
}
