//! One session on stdin and stdout, for tcpserver and its kin, see `qpsmtpd --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let options = qpsmtpd::options::Single::read();
    qpsmtpd::daemon::single(options.config.as_deref(), !options.no_rdns, options.lmtp)
}
