//! What a plugin may decide (catalogue 1.1).

use std::fmt;
use std::str::FromStr;

/// A plugin's decision; the original's return codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Handled; no further plugin is asked.
    Ok,
    /// Refused for good.
    Deny,
    /// Refused for now.
    DenySoft,
    /// Refused for good, and the connection is closed.
    DenyDisconnect,
    /// Refused for now, and the connection is closed.
    DenySoftDisconnect,
    /// No opinion; the next plugin is asked.
    Declined,
    /// The plugin has done everything, the reply included.
    Done,
}

impl Verdict {
    /// The names that configuration files use.
    pub const NAMES: [(&'static str, Verdict); 8] = [
        ("OK", Verdict::Ok),
        ("DENY", Verdict::Deny),
        ("DENYSOFT", Verdict::DenySoft),
        ("DENY_DISCONNECT", Verdict::DenyDisconnect),
        ("DENYSOFT_DISCONNECT", Verdict::DenySoftDisconnect),
        ("DECLINED", Verdict::Declined),
        ("DONE", Verdict::Done),
        ("DENYHARD", Verdict::DenyDisconnect),
    ];

    /// Whether it refuses.
    pub fn denies(self) -> bool {
        matches!(
            self,
            Verdict::Deny | Verdict::DenySoft | Verdict::DenyDisconnect | Verdict::DenySoftDisconnect
        )
    }

    /// Whether it refuses for now only.
    pub fn is_soft(self) -> bool {
        matches!(self, Verdict::DenySoft | Verdict::DenySoftDisconnect)
    }

    /// Whether it closes the connection.
    pub fn disconnects(self) -> bool {
        matches!(self, Verdict::DenyDisconnect | Verdict::DenySoftDisconnect)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Verdict::NAMES.iter().find(|(_, verdict)| verdict == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Verdict, String> {
        Verdict::NAMES
            .iter()
            .find(|(name, _)| *name == text)
            .map(|(_, verdict)| *verdict)
            .ok_or_else(|| format!("'{text}' is no verdict (OK, DENY, DENYSOFT, DENY_DISCONNECT, DENYSOFT_DISCONNECT, DECLINED or DONE)"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_every_release_are_read() {
        assert_eq!("DENYHARD".parse(), Ok(Verdict::DenyDisconnect));
        for (name, verdict) in &Verdict::NAMES[..7] {
            assert_eq!(name.parse(), Ok(*verdict));
            assert_eq!(verdict.to_string(), *name);
        }
        assert!("901".parse::<Verdict>().is_err());
    }
}
