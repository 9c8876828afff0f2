//! What the fuzz targets share: the model of a session, which the property tests of `tests/talk` use as well, and
//! ways to make of bytes what a target wants.

#[path = "../talk/cast.rs"]
pub mod cast;
#[path = "../talk/logins.rs"]
pub mod logins;
#[path = "../talk/model.rs"]
pub mod model;
#[path = "../talk/moods.rs"]
pub mod moods;
#[path = "../talk/parts.rs"]
pub mod parts;
#[path = "../talk/player.rs"]
pub mod player;
#[path = "../talk/script.rs"]
pub mod script;
#[path = "../talk/servers.rs"]
pub mod servers;
#[path = "../talk/settings.rs"]
pub mod settings;
#[path = "../talk/stage.rs"]
pub mod stage;

use qpsmtpd::plugin::Verdict;

use moods::Mood;

/// Takes the first bytes as a list whose length is the first of all; the list and the rest.
pub fn list(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.split_first() {
        Some((length, rest)) => rest.split_at((usize::from(*length) % 32).min(rest.len())),
        None => (bytes, bytes),
    }
}

/// Moods of plugins; most of them decline.
pub fn moods_of(bytes: &[u8]) -> Vec<Mood> {
    let mood = |byte: &u8| match byte % 16 {
        0 => Mood::Say(Verdict::Ok),
        1 => Mood::Say(Verdict::Deny),
        2 => Mood::Say(Verdict::DenySoft),
        3 => Mood::Say(Verdict::DenyDisconnect),
        4 => Mood::Say(Verdict::DenySoftDisconnect),
        5 => Mood::Fail,
        _ => Mood::Say(Verdict::Declined),
    };
    bytes.iter().map(mood).collect()
}

/// Sizes of packets.
pub fn cuts(bytes: &[u8]) -> Vec<usize> {
    bytes.iter().map(|byte| usize::from(*byte) + 1).collect()
}
