//! What the tests of whole sessions share: conversation files, the wire that plays them, plugins for tests.

pub mod caller;
pub mod cast;
pub mod fail_open;
pub mod logins;
pub mod model;
pub mod moods;
pub mod outside;
pub mod parts;
pub mod player;
pub mod properties;
pub mod resources;
pub mod script;
pub mod servers;
pub mod spoilt;
pub mod settings;
pub mod stage;
