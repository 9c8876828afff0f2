//! How workers are confined: to what the plugins declare that they need, the configuration, and the spool.

use crate::plugin::{Chain, Programs};
use crate::prefork::{self, Confinement};
use crate::session::services::Services;

/// The kinds of confinement to use.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walls {
    /// Landlock: which files workers reach.
    pub landlock: bool,
    /// seccomp: which system calls workers make.
    pub seccomp: bool,
}

impl Walls {
    /// What the workers of a generation need of the machine.
    pub(super) fn around(self, chain: &Chain, services: &Services) -> Confinement {
        let (needs, _) = chain.needs();
        let folders = services.lookup.dirs().iter().cloned();
        let folders = folders.chain(services.lookup.files_read());
        Confinement {
            read: needs.read.into_iter().chain(folders).collect(),
            write: needs.write.into_iter().chain([services.spool.dir.clone()]).collect(),
            programs: match needs.programs {
                Programs::None => prefork::Programs::None,
                Programs::Reading => prefork::Programs::Reading,
                Programs::Any => prefork::Programs::Any,
            },
            landlock: self.landlock,
            seccomp: self.seccomp,
        }
    }

    /// Why workers cannot be confined, if they shall be and cannot.
    pub(super) fn breach(self, chain: &Chain) -> Option<String> {
        let (_, unconfined) = chain.needs();
        let name = unconfined.filter(|_| self.landlock || self.seccomp)?;
        Some(format!(
            "{name} runs programs that need more than a session does: workers are not confined"
        ))
    }
}
