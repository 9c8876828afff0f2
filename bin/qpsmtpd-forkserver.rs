//! The same daemon under the option names of the forkserver, see `qpsmtpd-forkserver --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    qpsmtpd::daemon::run(qpsmtpd::options::Forkserver::read().into())
}
