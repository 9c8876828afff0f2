//! Confinement: what a worker cannot do any more once it serves, whoever gets hold of it.
//!
//! Landlock leaves it the files and folders that it was declared to need, and no TCP port to listen on; a seccomp
//! filter answers EPERM to system calls that no session makes: running programs, tracing, mounting, loading, changing
//! users. Both are inherited by what it starts and cannot be lifted. The only door to landlock and seccompiler.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::{Level, Log};

/// The rights that are known to this program; an older kernel enforces those it knows.
const KNOWN: ABI = ABI::V5;

/// Which programs workers may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Programs {
    /// None.
    #[default]
    None,
    /// Programs that only read: they get by with the files of the system, and with what workers may write.
    Reading,
    /// Programs with needs of their own, or that change their user: no confinement can stand.
    Any,
}

/// What workers may still do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// Files and folders that they may read; those that are missing are passed over.
    pub read: Vec<PathBuf>,
    /// Files and folders that they may read, write, make and remove.
    pub write: Vec<PathBuf>,
    /// Programs that they may run.
    pub programs: Programs,
    /// Whether to use Landlock.
    pub landlock: bool,
    /// Whether to use seccomp.
    pub seccomp: bool,
}

/// Files that the system's libraries read in any process.
const SYSTEM: [&str; 15] = [
    "/etc/gai.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
    "/lib",
    "/lib64",
    "/proc/loadavg",
    "/proc/meminfo",
    "/run/systemd/resolve",
    "/usr/lib",
    "/usr/lib64",
    "/usr/share/zoneinfo",
    "/dev/urandom",
];

/// Folders that programs are run from.
const PROGRAMS: [&str; 7] = ["/bin", "/etc/ld.so.cache", "/lib", "/lib64", "/sbin", "/usr", "/opt"];

/// System calls that no session makes.
#[rustfmt::skip] // a table
const FORBIDDEN: &[libc::c_long] = &[
    // other processes
    libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev, libc::SYS_kcmp, libc::SYS_pidfd_getfd,
    // the file system as a whole
    libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_swapon, libc::SYS_swapoff,
    libc::SYS_open_tree, libc::SYS_move_mount, libc::SYS_fsopen, libc::SYS_fsconfig, libc::SYS_fsmount, libc::SYS_fspick,
    libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at, libc::SYS_quotactl, libc::SYS_acct,
    // namespaces, users, capabilities
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid,
    libc::SYS_setresuid, libc::SYS_setresgid, libc::SYS_setfsuid, libc::SYS_setfsgid, libc::SYS_setgroups, libc::SYS_capset,
    // the kernel and the machine
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load, libc::SYS_reboot,
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_syslog, libc::SYS_settimeofday,
    libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_sethostname, libc::SYS_setdomainname,
    libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl, libc::SYS_io_uring_setup, libc::SYS_io_uring_enter,
    libc::SYS_personality, libc::SYS_lookup_dcookie, libc::SYS_vhangup,
];

/// Confines this process and all that it will start, as far as the kernel can; says what it cannot.
pub(super) fn confine(how: &Confinement, log: Log<'_>) {
    if how.programs == Programs::Any {
        return;
    }
    // Programs that it starts cannot become anyone else. Landlock and seccomp want it, and it stands without them.
    if let Err(why) = nix::sys::prctl::set_no_new_privs() {
        log(Level::Warning, &format!("no_new_privs failed: {why}"));
    }
    if how.landlock {
        match restrict_files(how) {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(RulesetStatus::PartiallyEnforced) => log(Level::Notice, "Landlock: this kernel enforces it in part"),
            Ok(RulesetStatus::NotEnforced) => {
                log(
                    Level::Warning,
                    "this kernel has no Landlock: workers can reach all files of their user",
                );
            }
            Err(why) => log(
                Level::Warning,
                &format!("Landlock failed, workers can reach all files of their user: {why}"),
            ),
        }
    }
    if how.seccomp
        && let Err(why) = restrict_calls(how.programs)
    {
        log(
            Level::Warning,
            &format!("seccomp failed, workers can make any system call: {why}"),
        );
    }
}

fn restrict_files(how: &Confinement) -> Result<RulesetStatus, landlock::RulesetError> {
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !BitFlags::from(AccessFs::Execute);
    let run = read | AccessFs::Execute;
    let programs: &[&str] = if how.programs == Programs::Reading {
        &PROGRAMS
    } else {
        &[]
    };
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(path_beneath_rules(&how.read, read))?
        .add_rules(path_beneath_rules(SYSTEM, read))?
        .add_rules(path_beneath_rules(programs, run))?
        .add_rules(path_beneath_rules(&how.write, write))?
        .add_rules(path_beneath_rules(
            ["/dev/null"],
            AccessFs::ReadFile | AccessFs::WriteFile,
        ))?
        .restrict_self()?;
    Ok(status.ruleset)
}

fn restrict_calls(programs: Programs) -> io::Result<()> {
    let mut rules: BTreeMap<i64, Vec<_>> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    if programs == Programs::None {
        rules.insert(libc::SYS_execve, Vec::new());
        rules.insert(libc::SYS_execveat, Vec::new());
    }
    let machine = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refused, machine).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}
