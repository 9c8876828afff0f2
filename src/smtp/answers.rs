//! What the client hears: one table, hook x verdict (catalogue 1.3).

use crate::mail::Status;
use crate::plugin::Hook;
use crate::session::Verdict;

/// A reply before a plugin's own words are put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Canned {
    /// The reply code (RFC 5321 4.2).
    pub code: u16,
    /// The enhanced status code (RFC 3463); none for replies that carry none.
    pub status: Option<Status>,
    /// The default words.
    pub text: &'static str,
    /// Whether the connection is closed afterwards.
    pub close: bool,
}

/// A reply that leaves the connection open.
pub const fn say(code: u16, status: (u16, u16), text: &'static str) -> Canned {
    let class = (code / 100) as u8;
    Canned {
        code,
        status: Some(Status(class, status.0, status.1)),
        text,
        close: false,
    }
}

/// A reply after which the connection is closed.
const fn close(code: u16, status: (u16, u16), text: &'static str) -> Canned {
    Canned {
        close: true,
        ..say(code, status, text)
    }
}

/// A reply that carries no enhanced status code (RFC 2034: greetings; and 3xx).
const fn plain(code: u16, text: &'static str) -> Canned {
    Canned {
        status: None,
        ..say(code, (0, 0), text)
    }
}

/// The answer to a hook's verdict; none where the core says nothing.
#[rustfmt::skip] // a table
pub fn answer(hook: Hook, verdict: Verdict) -> Option<Canned> {
    use Verdict::*;
    if verdict == Done {
        return None;
    }
    Some(match (hook, verdict) {
        (Hook::pre_connection, Deny | DenyDisconnect)         => close(550, (7, 1), "service not available for you"),
        (Hook::pre_connection, DenySoft | DenySoftDisconnect) => close(451, (7, 1), "try again later"),

        (Hook::connect, Deny | DenyDisconnect)                => close(550, (7, 1), "connection denied"),
        (Hook::connect, DenySoft | DenySoftDisconnect)        => close(450, (7, 1), "connection temporarily denied"),
        (Hook::connect, _)                                    => plain(220, ""),

        (Hook::helo | Hook::ehlo, Deny)                       => say(550, (7, 1), "your greeting is not accepted"),
        (Hook::helo | Hook::ehlo, DenySoft)                   => say(450, (7, 1), "your greeting is not accepted now"),
        (Hook::helo | Hook::ehlo, DenyDisconnect)             => close(550, (7, 1), "your greeting is not accepted"),
        (Hook::helo | Hook::ehlo, DenySoftDisconnect)         => close(450, (7, 1), "your greeting is not accepted now"),
        (Hook::helo | Hook::ehlo, _)                          => plain(250, ""),

        (Hook::mail, Deny)                                    => say(550, (7, 1), "sender denied"),
        (Hook::mail, DenySoft)                                => say(450, (7, 1), "sender temporarily denied"),
        (Hook::mail, DenyDisconnect)                          => close(550, (7, 1), "sender denied"),
        (Hook::mail, DenySoftDisconnect)                      => close(421, (7, 1), "sender temporarily denied"),
        (Hook::mail, _)                                       => say(250, (1, 0), "sender ok"),

        (Hook::rcpt, Ok)                                      => say(250, (1, 5), "recipient ok"),
        (Hook::rcpt, Deny)                                    => say(550, (7, 1), "relaying denied"),
        (Hook::rcpt, DenySoft)                                => say(450, (7, 1), "relaying denied"),
        (Hook::rcpt, DenyDisconnect)                          => close(550, (7, 1), "delivery denied"),
        (Hook::rcpt, DenySoftDisconnect)                      => close(421, (7, 1), "relaying denied"),
        (Hook::rcpt, _)                                       => say(450, (7, 1), "no plugin decided whether to relay for this recipient"),

        (Hook::data, Deny)                                    => say(554, (7, 1), "message denied"),
        (Hook::data, DenySoft)                                => say(451, (7, 1), "message temporarily denied"),
        (Hook::data, DenyDisconnect)                          => close(554, (7, 1), "message denied"),
        (Hook::data, DenySoftDisconnect)                      => close(451, (7, 1), "message temporarily denied"),
        (Hook::data, _)                                       => plain(354, "go ahead"),

        (Hook::data_headers_end, DenyDisconnect)              => close(554, (7, 1), "message denied"),
        (Hook::data_headers_end, DenySoftDisconnect)          => close(421, (7, 1), "message temporarily denied"),

        (Hook::data_post | Hook::queue_pre | Hook::queue, Deny)               => say(552, (7, 1), "message denied"),
        (Hook::data_post | Hook::queue_pre | Hook::queue, DenySoft)           => say(452, (7, 1), "message temporarily denied"),
        (Hook::data_post | Hook::queue_pre | Hook::queue, DenyDisconnect)     => close(552, (7, 1), "message denied"),
        (Hook::data_post | Hook::queue_pre | Hook::queue, DenySoftDisconnect) => close(452, (7, 1), "message temporarily denied"),
        (Hook::queue, Ok)                                     => say(250, (6, 0), "Queued"),
        (Hook::queue, _)                                      => say(451, (3, 0), "queuing declined or disabled, try again later"),

        (Hook::quit, _)                                       => close(221, (0, 0), "closing connection, have a good day"),

        (Hook::noop, Deny)                                    => say(500, (7, 0), "stop wasting my time"),
        (Hook::noop, DenyDisconnect)                          => close(500, (7, 0), "stop wasting my time"),
        (Hook::noop, _)                                       => say(250, (0, 0), "ok"),

        (Hook::vrfy, Ok)                                      => say(250, (1, 5), "user ok"),
        (Hook::vrfy, Deny)                                    => say(554, (7, 1), "access denied"),
        (Hook::vrfy, _)                                       => say(252, (5, 0), "just try and see what happens"),

        (Hook::help, Deny)                                    => say(500, (5, 1), "syntax error"),
        (Hook::help, _)                                       => say(214, (0, 0), ""),

        (Hook::unrecognized_command, DenyDisconnect)          => close(521, (7, 0), "too many unrecognized commands"),
        (Hook::unrecognized_command, _)                       => say(500, (5, 1), "unrecognized command"),

        (Hook::auth, Ok)                                      => say(235, (7, 0), "authentication successful"),
        (Hook::auth, _)                                       => say(535, (7, 8), "authentication failed"),

        _ => return None,
    })
}

/// The enhanced status code that the words of a plugin begin with, as operators write them into their lists, and the
/// words behind it; none if its class is not that of the reply.
pub fn own_status(text: &str, code: u16) -> Option<(Status, &str)> {
    let (first, rest) = text.split_once([' ', '\n']).unwrap_or((text, ""));
    let status: Status = first.parse().ok()?;
    (u16::from(status.0) == code / 100).then_some((status, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::*;

    /// The numbers of catalogue 1.3: OK, DECLINED, DENY, DENYSOFT, DENY_DISCONNECT, DENYSOFT_DISCONNECT; `!` closes.
    #[test]
    fn the_table_has_the_numbers_of_the_original() {
        let table = [
            (Hook::connect, "220 220 550! 450! 550! 450!"),
            (Hook::helo, "250 250 550 450 550! 450!"),
            (Hook::ehlo, "250 250 550 450 550! 450!"),
            (Hook::mail, "250 250 550 450 550! 421!"),
            (Hook::rcpt, "250 450 550 450 550! 421!"),
            (Hook::data, "354 354 554 451 554! 451!"),
            (Hook::data_headers_end, "- - - - 554! 421!"),
            (Hook::data_post, "- - 552 452 552! 452!"),
            (Hook::queue, "250 451 552 452 552! 452!"),
            (Hook::quit, "221! 221! 221! 221! 221! 221!"),
            (Hook::noop, "250 250 500 250 500! 250"),
            (Hook::vrfy, "250 252 554 252 252 252"),
            (Hook::help, "214 214 500 214 214 214"),
            (Hook::unrecognized_command, "500 500 500 500 521! 500"),
            (Hook::pre_connection, "- - 550! 451! 550! 451!"),
        ];
        for (hook, expected) in table {
            let verdicts = [Ok, Declined, Deny, DenySoft, DenyDisconnect, DenySoftDisconnect];
            let row = verdicts.map(|verdict| match answer(hook, verdict) {
                None => "-".to_owned(),
                Some(canned) => format!("{}{}", canned.code, if canned.close { "!" } else { "" }),
            });
            assert_eq!(row.join(" "), expected, "{}", hook.name());
            assert_eq!(answer(hook, Done), None);
        }
    }

    #[test]
    fn words_may_begin_with_a_status() {
        assert_eq!(
            own_status("5.1.1 no such user", 550),
            Some((Status(5, 1, 1), "no such user"))
        );
        assert_eq!(own_status("5.1.1", 550), Some((Status(5, 1, 1), "")));
        for text in ["4.1.1 later", "no such user", "5.1 x", "", " 5.1.1 x"] {
            assert_eq!(own_status(text, 550), None, "{text}");
        }
    }

    #[test]
    fn status_codes_have_the_class_of_their_reply() {
        for hook in Hook::ALL {
            for (_, verdict) in Verdict::NAMES {
                if let Some(Canned {
                    code,
                    status: Some(Status(class, ..)),
                    ..
                }) = answer(*hook, verdict)
                {
                    assert_eq!(u16::from(class), code / 100, "{} {verdict}", hook.name());
                }
            }
        }
    }
}
