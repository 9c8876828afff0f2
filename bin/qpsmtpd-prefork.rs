//! The daemon: preforked workers, see `qpsmtpd-prefork --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    qpsmtpd::daemon::run(qpsmtpd::options::Prefork::read().into())
}
