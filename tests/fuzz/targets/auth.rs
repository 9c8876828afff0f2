//! Logins: PLAIN, LOGIN and CRAM-MD5 with whatever the client answers; one reply to each line, and nobody is let in
//! whom the plugin does not let in.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::{list, model, moods};

/// A client that tries to log in, with these bytes as its answers.
struct Login(Vec<u8>, bool);

impl model::Says for Login {
    fn command(&mut self, _: bool) -> Option<Vec<u8>> {
        if !std::mem::replace(&mut self.1, true) {
            return Some(b"EHLO x\r\n".to_vec());
        }
        let end = self.0.iter().position(|byte| *byte == b'\n').map_or(self.0.len(), |at| at + 1);
        let mut line: Vec<u8> = self.0.drain(..end).collect();
        match line.first() {
            None => return None,
            // most lines begin a login
            Some(byte @ 0..=2) => {
                let name = [&b"PLAIN "[..], b"LOGIN ", b"CRAM-MD5 "][usize::from(*byte)];
                line.splice(..1, [b"AUTH ", name].concat());
            }
            _ => {}
        }
        if !line.ends_with(b"\n") {
            line.extend_from_slice(b"\r\n");
        }
        Some(line)
    }

    fn message(&mut self) -> Vec<u8> {
        b"Subject: x\r\n\r\n.\r\n".to_vec()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (first, rest) = list(bytes);
    if let Err(why) = model::check(Login(rest.to_vec(), false), &moods(first)) {
        panic!("{why}");
    }
});
