//! The Perl original: where it lies, and serving a configuration with it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::process::Process;
use crate::programs::{missing, target};

/// It looks for the client's name even with --no-rdns; nobody shall be asked.
const NO_NAMES: &str = "-MNet::DNS; *Net::DNS::Resolver::query = sub {}";

/// The original, with the modules that it needs.
pub struct Perl {
    program: PathBuf,
    library: PathBuf,
    /// Where its plugins lie.
    pub plugins: PathBuf,
}

impl Perl {
    /// The checkout that `QPSMTPD_PERL` names, else Debian's package as `.ci/real-programs` has unpacked it. None, loudly,
    /// if it is missing or does not run; then the test is over.
    pub fn need() -> Option<Self> {
        let perl = match std::env::var_os("QPSMTPD_PERL").map(PathBuf::from) {
            Some(checkout) => Self {
                program: checkout.join("qpsmtpd-forkserver"),
                library: checkout.join("lib"),
                plugins: checkout.join("plugins"),
            },
            None => {
                let package = package();
                Self {
                    program: package.join("usr/bin/qpsmtpd-forkserver"),
                    library: package.join("usr/share/perl5"),
                    plugins: package.join("usr/share/qpsmtpd/plugins"),
                }
            }
        };
        // -c compiles it and all that it uses; what its plugins use comes later
        let mut compile = perl.command(&["-c", "-MNet::IP", "-MCDB_File", "-MIO::Socket::SSL"]);
        let compiles = compile.stdin(Stdio::null()).output();
        match compiles {
            Ok(output) if output.status.success() => Some(perl),
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr).into_owned();
                missing(&format!(
                    "the Perl qpsmtpd ({})",
                    why.lines().next().unwrap_or_default()
                ));
                None
            }
            Err(why) => {
                missing(&format!("perl ({why})"));
                None
            }
        }
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new("perl");
        command.env_clear().env("PATH", "/usr/bin:/bin");
        // it asks for -T, and then Perl hears of no folders by PERL5LIB
        command
            .arg("-T")
            .arg("-I")
            .arg(&self.library)
            .args(options)
            .arg(&self.program);
        command
    }
}

/// Debian's package, if it is there.
pub fn package() -> PathBuf {
    target().join("real/qpsmtpd")
}

/// The original at work.
pub struct Original {
    process: Process,
    ended: bool,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Original {
    /// Serves the folder `config` from the working directory `place`.
    pub fn serve(perl: &Perl, config: &Path, place: &Path) -> Self {
        let user = User::from_uid(nix::unistd::getuid()).expect("users").expect("a user");
        // Another program may take the port in between: then another one is tried.
        for _ in 0..5 {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
            let address = listener.local_addr().expect("address");
            drop(listener);
            let mut command = perl.command(&[NO_NAMES]);
            command
                .current_dir(place)
                .env("HOME", place)
                .env("QPSMTPD_CONFIG", config);
            command
                .args(["--listen-address", &address.to_string()])
                .args(["--user", &user.name]);
            let process = Process::start(&mut command);
            // from here on connections wait in the queue of its socket
            if process.says("Running as user").is_some() {
                return Self {
                    process,
                    ended: false,
                    address,
                };
            }
            let said = process.lines();
            assert!(
                said.iter().any(|line| line.contains("Creating TCP socket")),
                "{said:#?}"
            );
        }
        panic!("the original does not start");
    }

    /// Ends it; what it has logged.
    pub fn end(mut self) -> Vec<String> {
        self.stop();
        self.process.lines()
    }

    fn stop(&mut self) {
        // after its first client it no longer ends its children at SIGINT
        self.process.signal(Signal::SIGTERM);
        self.process.wait();
        self.ended = true;
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        if !self.ended {
            self.stop();
        }
    }
}
