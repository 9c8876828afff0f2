//! Servers of others that say anything, to the plugins that pass mail on and to those that ask who a user is: nothing is
//! accepted that they have not accepted, and no reply of ours is malformed.
//!
//! The first byte chooses the plugin.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qpsmtpd_fuzz::servers;

fuzz_target!(|bytes: &[u8]| {
    let Some((number, said)) = bytes.split_first() else {
        return;
    };
    if let Err(why) = servers::check(*number, said) {
        panic!("{why}");
    }
});
