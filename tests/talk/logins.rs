//! A client that tries to log in: by any mechanism, with any answers, and with the right ones where it is told to.

use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::model::Says;
use super::moods::{CLIENT_KEY, lock};

/// The mechanisms, as the first byte of a line names them.
pub const MECHANISMS: [&str; 10] = [
    "PLAIN",
    "LOGIN",
    "CRAM-MD5",
    "SCRAM-SHA-256-PLUS",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1-PLUS",
    "SCRAM-SHA-1",
    "EXTERNAL",
    "OAUTHBEARER",
    "XOAUTH2",
];
/// What follows is sent in base64.
pub const ENCODED: u8 = 14;

/// The client. It says lines; a first byte below 10 stands for AUTH and a mechanism. What follows [`ENCODED`] is sent in
/// base64, and in it `%r` is the nonce of the server, and `%p` the proof that it wants.
#[derive(Debug, Default)]
pub struct Login {
    lines: Vec<u8>,
    greeted: bool,
    /// The first message of SCRAM, ours without its header, and the server's.
    ours: Vec<u8>,
    theirs: Vec<u8>,
    proved: bool,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Login {
    /// What it has been answered, also once it is gone.
    pub fn heard(&self) -> Arc<Mutex<Vec<u8>>> {
        Arc::clone(&self.heard)
    }

    pub fn new(lines: Vec<u8>) -> Login {
        Login {
            lines,
            ..Login::default()
        }
    }

    fn encoded(&mut self, text: &[u8]) -> Vec<u8> {
        let nonce = self.theirs.strip_prefix(b"r=").unwrap_or(b"?");
        let nonce = nonce.split(|byte| *byte == b',').next().unwrap_or_default().to_vec();
        let mut whole = Vec::new();
        let mut rest = text;
        while let [first, more @ ..] = rest {
            match rest {
                [b'%', b'r', more @ ..] => {
                    whole.extend_from_slice(&nonce);
                    rest = more;
                }
                [b'%', b'p', more @ ..] => {
                    let proof = self.proof(whole.strip_suffix(b",p=").unwrap_or(&whole));
                    whole.extend_from_slice(proof.as_bytes());
                    self.proved = true;
                    rest = more;
                }
                _ => {
                    whole.push(*first);
                    rest = more;
                }
            }
        }
        let mut commas = whole.iter().enumerate().filter(|(_, byte)| **byte == b',');
        if let (false, Some((at, _))) = (whole.starts_with(b"c="), commas.nth(1)) {
            self.ours = whole[at + 1..].to_vec();
        }
        STANDARD.encode(whole).into_bytes()
    }

    /// ClientKey, but for whom has not the StoredKey and what was said hidden by it (RFC 5802 3).
    fn proof(&self, unproved: &[u8]) -> String {
        let said = [&self.ours[..], &self.theirs, unproved].join(&b","[..]);
        let stored = Sha256::digest(CLIENT_KEY);
        let mac = Hmac::<Sha256>::new_from_slice(&stored).map(|mac| mac.chain_update(said).finalize().into_bytes());
        let signature = mac.map(|bytes| bytes.to_vec()).unwrap_or_default();
        let proof: Vec<u8> = CLIENT_KEY.iter().zip(signature).map(|(a, b)| a ^ b).collect();
        STANDARD.encode(proof)
    }
}

impl Says for Login {
    fn command(&mut self, in_login: bool) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.greeted, true) {
            return Some(b"EHLO x\r\n".to_vec());
        }
        let end = self.lines.iter().position(|byte| *byte == b'\n');
        let line: Vec<u8> = self.lines.drain(..end.map_or(self.lines.len(), |at| at + 1)).collect();
        let mut text = line.strip_suffix(b"\n").unwrap_or(&line);
        text = text.strip_suffix(b"\r").unwrap_or(text);
        let mut said = Vec::new();
        if line.is_empty() {
            return None;
        }
        if let ([at @ 0..10, more @ ..], false) = (text, in_login) {
            said = format!("AUTH {}", MECHANISMS[usize::from(*at)]).into_bytes();
            if !more.is_empty() {
                said.push(b' ');
            }
            text = more;
            self.proved = false;
        }
        match text {
            [ENCODED, more @ ..] => said.extend(self.encoded(more)),
            _ => said.extend_from_slice(text),
        }
        said.extend_from_slice(b"\r\n");
        Some(said)
    }

    fn message(&mut self) -> Vec<u8> {
        b"Subject: x\r\n\r\n.\r\n".to_vec()
    }

    fn hears(&mut self, reply: &[u8]) {
        lock(&self.heard).extend_from_slice(reply);
        let words = reply.strip_prefix(b"334 ").map(<[u8]>::trim_ascii_end);
        if let Some(Ok(prompt)) = words.map(|words| STANDARD.decode(words))
            && prompt.starts_with(b"r=")
        {
            self.theirs = prompt;
        }
    }

    fn has_proved(&self) -> bool {
        self.proved
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::moods::Scene;
    use super::super::{model, properties::mood};
    use super::*;

    /// A line of a login: the beginning of one, an answer, or anything.
    fn login_line() -> impl Strategy<Value = Vec<u8>> {
        let encoded = |text: &str| Just([&[ENCODED], text.as_bytes()].concat());
        let answer = prop_oneof![
            encoded("\0joe\0secret"),
            encoded("joe"),
            encoded("joe 0123456789abcdef0123456789abcdef"),
            encoded("n,,n=joe,r=abc"),
            encoded("y,a=joe,n=joe,r=abc"),
            encoded("p=tls-exporter,,n=joe,r=abc"),
            encoded("c=biws,r=%r,p=%p"),
            encoded("c=biws,r=%r,p=AAAA"),
            encoded("n,a=joe@y.example,\x01auth=Bearer abc.def\x01\x01"),
            encoded("user=joe\x01auth=Bearer abc\x01\x01"),
            encoded(""),
            Just(b"=".to_vec()),
            Just(b"*".to_vec()),
            vec(any::<u8>().prop_filter("no line end", |byte| *byte != b'\n'), 0..40),
        ];
        let mechanism = 0..MECHANISMS.len() as u8;
        prop_oneof![
            2 => answer.clone(),
            2 => (mechanism.clone(), answer).prop_map(|(at, answer)| [vec![at], answer].concat()),
            1 => mechanism.prop_map(|at| vec![at]),
        ]
    }

    /// A login by SCRAM that does all that is wanted.
    fn scram() -> Vec<u8> {
        let lines = ["\u{4}\u{e}n,,n=joe,r=abc", "\u{e}c=biws,r=%r,p=%p", ""];
        lines.map(|line| format!("{line}\n")).concat().into_bytes()
    }

    #[test]
    fn the_client_of_scram_is_let_in() {
        let scene = Scene {
            challenges: true,
            ..Scene::default()
        };
        let says = Login::new(scram());
        let heard = says.heard();
        assert_eq!(model::check(scene, says, &[]), Ok(()));
        let heard = String::from_utf8_lossy(&heard.lock().expect("no panic")).into_owned();
        assert!(heard.contains("\n235 ") && !heard.contains("\n5"), "{heard}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nobody_is_let_in_whom_the_plugin_does_not_let_in(
            lines in vec(prop_oneof![8 => login_line(), 1 => Just(scram())], 0..20),
            moods in vec(mood(), 0..30),
            tls: bool,
        ) {
            let scene = Scene { challenges: true, tls, ..Scene::default() };
            if let Err(why) = model::check(scene, Login::new(lines.join(&b'\n')), &moods) {
                return Err(TestCaseError::fail(why));
            }
        }
    }
}
