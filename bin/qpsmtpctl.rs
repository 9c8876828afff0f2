//! Checks and explains the configuration, and speaks to a running master, see `qpsmtpctl --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    qpsmtpd::options::Control::read().run()
}
