//! tls_protocols and tls_ciphers: OpenSSL's language, as far as there are such protocols and ciphers here.
//!
//! What is asked for and cannot be had is a warning; what shall be left out is left out, or a warning says why not.
//! The ciphers of TLS 1.3 are apart, as in OpenSSL: all hold unless some are named.

use crate::plugin::*;

/// The suites that the two files leave, best first.
pub(super) fn suites(at: &mut Loading<'_>) -> Result<Vec<&'static str>, String> {
    let (protocols, ciphers) = (at.config("tls_protocols"), at.config("tls_ciphers"));
    let mut old = true;
    let mut new = true;
    if let Some(line) = protocols.first() {
        (old, new) = read_protocols(line, &mut |why| at.warn_in(line, why));
        if !old && !new {
            at.fault_in(line, "no protocol is left: only TLS 1.2 and 1.3 are spoken");
            return Ok(Vec::new());
        }
    }
    let mut list = List::new();
    if let Some(line) = ciphers.first() {
        list = List::read(line, &mut |why| at.warn_in(line, why));
        if old && list.old.is_empty() {
            match new {
                true => at.warn_in(line, "no cipher of TLS 1.2 is left: TLS 1.3 alone is offered"),
                false => at.fault_in(line, "no cipher is left"),
            }
        }
        if new && list.new.is_empty() {
            match old {
                true => at.warn_in(line, "no cipher of TLS 1.3 is left: TLS 1.2 alone is offered"),
                false => at.fault_in(line, "no cipher is left"),
            }
        }
    }
    let new = list.new.into_iter().filter(|_| new);
    let old = list.old.into_iter().filter(|_| old);
    Ok(new.chain(old).collect())
}

/// Whether TLS 1.2 and 1.3 are wanted.
fn read_protocols(text: &str, warn: &mut dyn FnMut(String)) -> (bool, bool) {
    let (mut wanted, mut unwanted) = (None, [false, false]);
    for word in text.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
        let (no, name) = match word.strip_prefix(['!', '-']) {
            Some(name) => (true, name),
            None => (false, word),
        };
        let which = match name.to_ascii_lowercase().replace(['_', '.'], "").as_str() {
            "sslv23" | "sslv2/3" | "all" | "any" => [true, true],
            "tlsv12" => [true, false],
            "tlsv13" => [false, true],
            "sslv2" | "sslv3" | "tlsv1" | "tlsv10" | "tlsv11" => [false, false],
            _ => {
                warn(format!("'{word}' is no protocol and has no effect"));
                continue;
            }
        };
        if no {
            unwanted = [unwanted[0] || which[0], unwanted[1] || which[1]];
            continue;
        }
        if which == [false, false] {
            warn(format!("{name} is not spoken any more"));
        }
        let [old, new] = wanted.unwrap_or([false, false]);
        wanted = Some([old || which[0], new || which[1]]);
    }
    let [old, new] = wanted.unwrap_or([true, true]);
    (old && !unwanted[0], new && !unwanted[1])
}

/// The suites chosen so far: of TLS 1.2 and of TLS 1.3.
struct List {
    old: Vec<&'static str>,
    new: Vec<&'static str>,
}

/// Words for kinds of ciphers of which there are none here.
const NONE: &str = "MEDIUM LOW EXP EXPORT EXPORT40 EXPORT56 NULL eNULL aNULL COMPLEMENTOFALL COMPLEMENTOFDEFAULT RSA \
    kRSA kDHr kDHd kDH DH kDHE kEDH DHE EDH ADH AECDH kECDHr kECDHe kECDH aDSS DSS aDH aECDH SSLv2 SSLv3 TLSv1 TLSv1.0 \
    AESCCM AESCCM8 ARIA ARIA128 ARIA256 ARIAGCM CAMELLIA CAMELLIA128 CAMELLIA256 DES 3DES RC4 RC2 IDEA SEED MD5 SHA \
    SHA1 SHA256 SHA384 GOST GOST94 GOST89MAC kGOST aGOST aGOST01 PSK kPSK aPSK kECDHEPSK kDHEPSK kRSAPSK SRP kSRP aSRP \
    KRB5 CBC";

fn all(new: bool) -> impl Iterator<Item = &'static str> {
    let names = TLS_SUITES.iter().map(|(name, _)| *name);
    names.filter(move |name| name.starts_with("TLS_") == new)
}

/// Whether a word of the language means this suite of TLS 1.2; none for a word that is unknown.
fn means(word: &str, suite: &str) -> Option<bool> {
    Some(match word {
        "ALL" | "HIGH" | "DEFAULT" | "TLSv1.2" | "ECDHE" | "EECDH" | "kECDHE" | "kEECDH" | "ECDH" => true,
        "aRSA" => suite.contains("-RSA-"),
        "aECDSA" | "ECDSA" => suite.contains("-ECDSA-"),
        "AES" | "AESGCM" | "FIPS" => suite.contains("AES"),
        "AES128" => suite.contains("AES128"),
        "AES256" => suite.contains("AES256"),
        "CHACHA20" => suite.contains("CHACHA20"),
        _ if NONE.split_ascii_whitespace().any(|none| none == word) => false,
        _ => {
            let known = TLS_SUITES.iter().find(|(name, _)| *name == suite);
            let named =
                known.is_some_and(|names| word.eq_ignore_ascii_case(names.0) || word.eq_ignore_ascii_case(names.1));
            // the full name of a cipher, of which there are hundreds
            if !named && !word.contains(['-', '_']) {
                return None;
            }
            named
        }
    })
}

impl List {
    /// What holds if nothing is said.
    fn new() -> List {
        List {
            old: all(false).collect(),
            new: all(true).collect(),
        }
    }

    fn read(text: &str, warn: &mut dyn FnMut(String)) -> List {
        let (mut chosen, mut killed) = (Vec::new(), Vec::new());
        let (mut new, mut not_new) = (Vec::new(), Vec::new());
        for word in text.split([':', ',', ' ']).filter(|word| !word.is_empty()) {
            if let Some(command) = word.strip_prefix('@') {
                order(command, &mut chosen, warn);
                continue;
            }
            let name = word.strip_prefix(['!', '-', '+']).unwrap_or(word);
            let sign = &word[..word.len() - name.len()];
            if let Some(suite) = all(true).find(|suite| suite.eq_ignore_ascii_case(name)) {
                match sign {
                    "" | "+" => new.push(suite),
                    _ => not_new.push(suite),
                }
                continue;
            }
            let Some(meant) = meant(name) else {
                warn(format!("'{word}' means nothing here and has no effect"));
                continue;
            };
            match sign {
                "!" | "-" => {
                    chosen.retain(|suite| !meant.contains(suite));
                    if sign == "!" {
                        killed.extend(meant);
                    }
                }
                "+" => {
                    let (last, first): (Vec<_>, Vec<_>) = chosen.iter().partition(|suite| meant.contains(suite));
                    chosen = first.into_iter().chain(last).collect();
                }
                _ if meant.is_empty() => warn(format!("no cipher of the kind {name} is to be had")),
                _ => {
                    let fresh: Vec<_> = meant.into_iter().filter(|suite| !chosen.contains(suite)).collect();
                    chosen.extend(fresh.into_iter().filter(|suite| !killed.contains(suite)));
                }
            }
        }
        if new.is_empty() {
            new = all(true).collect();
        }
        new.retain(|suite| !not_new.contains(suite));
        List { old: chosen, new }
    }
}

/// The suites of TLS 1.2 that a word means: one kind, or several joined by `+`; none if one of them is unknown.
fn meant(word: &str) -> Option<Vec<&'static str>> {
    let mut found: Vec<&'static str> = all(false).collect();
    for kind in word.split('+') {
        let mut unknown = false;
        let fits = |suite: &&'static str| {
            let fits = means(kind, suite);
            unknown |= fits.is_none();
            fits == Some(true)
        };
        let kept: Vec<_> = all(false).filter(fits).collect();
        if unknown {
            return None;
        }
        found.retain(|suite| kept.contains(suite));
    }
    Some(found)
}

/// `@STRENGTH` and `@SECLEVEL=n`.
fn order(command: &str, chosen: &mut [&'static str], warn: &mut dyn FnMut(String)) {
    match command.split_once('=') {
        None if command == "STRENGTH" => chosen.sort_by_key(|suite| suite.contains("AES128")),
        // what these ask for always holds
        Some(("SECLEVEL", "0" | "1" | "2")) => {}
        _ => warn(format!("'@{command}' has no effect")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ciphers(text: &str) -> (String, Vec<String>) {
        let mut warnings = Vec::new();
        let list = List::read(text, &mut |why| warnings.push(why));
        (list.old.join(" "), warnings)
    }

    const ALL: &str = "ECDHE-ECDSA-AES256-GCM-SHA384 ECDHE-ECDSA-AES128-GCM-SHA256 ECDHE-ECDSA-CHACHA20-POLY1305 \
                       ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-CHACHA20-POLY1305";

    #[test]
    fn what_openssl_would_choose() {
        for text in [
            "HIGH",
            "ALL:!aNULL:!eNULL:!LOW:!EXP:!MD5:!RC4",
            "HIGH:!AES256-SHA",
            "HIGH:-SSLv3:@SECLEVEL=2",
        ] {
            assert_eq!(ciphers(text), (ALL.to_owned(), Vec::new()), "{text}");
        }
        let list = |text: &str| ciphers(text).0;
        assert_eq!(list("ECDHE-RSA-AES128-GCM-SHA256"), "ECDHE-RSA-AES128-GCM-SHA256");
        assert_eq!(
            list("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
            "ECDHE-RSA-AES128-GCM-SHA256"
        );
        assert_eq!(
            list("EECDH+aRSA+AES256:CHACHA20+ECDSA"),
            "ECDHE-RSA-AES256-GCM-SHA384 ECDHE-ECDSA-CHACHA20-POLY1305"
        );
        assert_eq!(
            list("!AES128:HIGH:!ECDSA"),
            "ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305"
        );
        assert_eq!(
            list("aRSA:-AES:AES256+aRSA"),
            "ECDHE-RSA-CHACHA20-POLY1305 ECDHE-RSA-AES256-GCM-SHA384"
        );
        assert_eq!(
            list("aRSA:+AES256:@STRENGTH"),
            "ECDHE-RSA-CHACHA20-POLY1305 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-AES128-GCM-SHA256"
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_told() {
        assert_eq!(ciphers("HIGH:MEDIUM").1, ["no cipher of the kind MEDIUM is to be had"]);
        assert_eq!(
            ciphers("AES256-SHA"),
            (
                String::new(),
                vec!["no cipher of the kind AES256-SHA is to be had".into()]
            )
        );
        assert_eq!(ciphers("HIGH:!FOO").1, ["'!FOO' means nothing here and has no effect"]);
        assert_eq!(ciphers("HIGH:äöü:!").1.len(), 2);
        assert_eq!(ciphers("HIGH:@SECLEVEL=4").1, ["'@SECLEVEL=4' has no effect"]);
    }

    #[test]
    fn the_ciphers_of_tls_1_3_are_apart() {
        let new = |text: &str| List::read(text, &mut |_| {}).new;
        assert_eq!(new("HIGH").len(), 3);
        assert_eq!(new("HIGH:TLS_AES_128_GCM_SHA256"), ["TLS_AES_128_GCM_SHA256"]);
        assert_eq!(new("HIGH:!TLS_AES_128_GCM_SHA256").len(), 2);
    }

    #[test]
    fn protocols() {
        let read = |text: &str| {
            let mut warnings = Vec::new();
            let wanted = read_protocols(text, &mut |why| warnings.push(why));
            (wanted, warnings.len())
        };
        assert_eq!(read("SSLv23:!SSLv2:!SSLv3"), ((true, true), 0));
        assert_eq!(read("TLSv1_2"), ((true, false), 0));
        assert_eq!(read("TLSv1.3"), ((false, true), 0));
        assert_eq!(read("SSLv23:!TLSv1_2"), ((false, true), 0));
        assert_eq!(read("!SSLv3"), ((true, true), 0));
        assert_eq!(read("TLSv1"), ((false, false), 1));
        assert_eq!(read("TLSv1_1:TLSv1_2"), ((true, false), 1));
        assert_eq!(read("TLSv9"), ((true, true), 1));
    }

    #[test]
    fn faults_of_the_files() {
        let load = |name: &'static str, line: &'static str| {
            let lookup = [(name, &[line][..])];
            Kit::faults_with(&super::super::DECLARATION, "", &lookup)
        };
        assert!(load("tls_protocols", "TLSv1")[1].contains("tls: no protocol is left"));
        assert!(load("tls_ciphers", "AES256-SHA")[1].contains("warning: tls: no cipher of TLS 1.2 is left"));
        assert_eq!(load("tls_ciphers", "HIGH"), Vec::<String>::new());
    }
}
