//! What the reply to EHLO offers: the extensions that hold for the connection as it is now.

use super::dialogue::Dialogue;
use crate::mail::Extensions;

impl Dialogue<'_> {
    /// The extensions that depend on who queues the message.
    pub(super) fn offered(&self) -> Extensions {
        let disabled = self.s.settings.disabled;
        self.chain.takes().and(Extensions {
            dsn: !disabled.dsn,
            // such a body only comes by BDAT (RFC 3030 3)
            binary: !disabled.binary && !disabled.chunking && !disabled.eight_bit,
            // who offers it offers 8BITMIME, too (RFC 6531 3.1)
            utf8: !disabled.utf8 && !disabled.eight_bit,
            requiretls: self.s.tls.is_some(),
        })
    }

    /// Adds the extensions to the reply, a line each.
    pub(super) fn extensions(&mut self, text: &mut String) {
        let (disabled, offered) = (self.s.settings.disabled, self.offered());
        let size = match self.s.databytes() {
            0 => "SIZE".to_owned(),
            most => format!("SIZE {most}"),
        };
        let limits = self.limits();
        let words = [
            (!disabled.pipelining, "PIPELINING"),
            (!disabled.eight_bit, "8BITMIME"),
            (!disabled.size, &size),
            (true, "ENHANCEDSTATUSCODES"),
            (!disabled.help, "HELP"),
            (!disabled.chunking, "CHUNKING"),
            (offered.binary, "BINARYMIME"),
            (offered.utf8, "SMTPUTF8"),
            (offered.dsn, "DSN"),
            (!disabled.limits && !limits.is_empty(), &limits),
            (offered.requiretls, "REQUIRETLS"),
            (self.s.tls.is_none() && self.s.services().tls.is_some(), "STARTTLS"),
        ];
        let words = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word);
        let words = words.chain(self.s.capabilities.iter().map(String::as_str));
        for word in words {
            text.push('\n');
            text.push_str(word);
        }
        self.offer_upstream(text);
        let mechanisms = self.auth_offer();
        self.auth_offered |= !mechanisms.is_empty();
        if !mechanisms.is_empty() {
            text.push_str(&format!("\nAUTH {}", mechanisms.join(" ")));
        }
    }

    /// LIMITS (RFC 9422): what there is a limit of; empty if there is none.
    fn limits(&self) -> String {
        let limits = self.s.settings.limits;
        let mut text = String::new();
        for (name, most) in [("MAILMAX", limits.max_transactions), ("RCPTMAX", limits.maxrcpts)] {
            if most < usize::MAX {
                text.push_str(if text.is_empty() { "LIMITS" } else { "" });
                text.push_str(&format!(" {name}={most}"));
            }
        }
        text
    }
}
