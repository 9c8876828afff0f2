//! The few rights of root that the unit for systemd leaves are enough for all that the daemon does as root.

use nix::unistd::Uid;

use crate::account::settled;
use crate::harness::{Client, Daemon, Site};
use crate::place::project;
use crate::programs::need;

/// The rights that the unit leaves, as setpriv(1) wants them.
fn left_by_the_unit() -> String {
    let unit = std::fs::read_to_string(project().join("bin/service/qpsmtpd.service")).expect("the unit");
    let set = unit
        .lines()
        .find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let rights = set.expect("a set").split_whitespace();
    let names = rights.map(|right| right.strip_prefix("CAP_").expect("a right").to_lowercase());
    names.fold("-all".to_owned(), |all, name| format!("{all},+{name}"))
}

#[test]
fn a_unix_socket_can_be_handed_over_with_what_the_unit_leaves() {
    let Some(setpriv) = need("setpriv") else { return };
    if !Uid::effective().is_root() {
        return eprintln!("SKIPPED: not root");
    }
    let _user = settled();
    let site = Site::new();
    let path = site.path().join("lmtp");
    let program = site.program("qpsmtpd-prefork").get_program().to_owned();
    let mut command = setpriv.command();
    command.arg(format!("--bounding-set={}", left_by_the_unit()));
    command.arg(program).arg("--no-rdns").current_dir(site.path());
    command.arg("--listen-address").arg(format!("unix:{}", path.display()));
    let daemon = Daemon::run(site, &mut command);
    let mut client = Client::connect_unix(&path);
    assert_eq!(client.reply().0, 220);
    client.expect(250, "LHLO x").expect(250, "MAIL FROM:<a@example.net>");
    client.expect(250, "RCPT TO:<user@example.com>").expect(354, "DATA");
    client.expect(250, "Subject: x\r\n\r\nText.\r\n.");
    assert_eq!(daemon.site.messages().len(), 1);
}
