//! What a server's reply to EHLO or LHLO offers.

/// A keyword with its parameters each.
#[derive(Clone, Debug, Default)]
pub struct Offers(pub Vec<String>);

impl Offers {
    /// The parameters of a keyword, if it is offered.
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.0.iter().find_map(|line| {
            let (word, rest) = line.split_once([' ', '=']).unwrap_or((line, ""));
            word.eq_ignore_ascii_case(keyword).then_some(rest)
        })
    }

    /// Whether a keyword is offered.
    pub fn has(&self, keyword: &str) -> bool {
        self.get(keyword).is_some()
    }

    /// The mechanisms of AUTH, in capitals; also those of `AUTH=`, which is older than RFC 4954.
    pub fn mechanisms(&self) -> Vec<String> {
        let lines = self.0.iter().filter_map(|line| {
            let (word, rest) = line.split_once([' ', '='])?;
            word.eq_ignore_ascii_case("AUTH").then_some(rest)
        });
        lines
            .flat_map(str::split_ascii_whitespace)
            .map(str::to_ascii_uppercase)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keywords() {
        let lines = ["size 1000", "PIPELINING", "AUTH=LOGIN", "AUTH PLAIN cram-md5"];
        let offers = Offers(lines.map(str::to_owned).to_vec());
        assert_eq!(offers.get("SIZE"), Some("1000"));
        assert!(offers.has("pipelining") && !offers.has("PIPE"));
        assert_eq!(offers.mechanisms(), ["LOGIN", "PLAIN", "CRAM-MD5"]);
    }
}
