//! Dovecot: as IMAP server, in clear and by both ways of TLS, and at its auth socket.

use crate::harness::Site;
use crate::login::{PASSWORD, USER, check, check_unavailable, login, serve};
use crate::programs::{Program, need};
use crate::servers::{Server, certificate, listens, listens_at, script, servant, write};

/// An address of ours from which nobody connects, so that Dovecot does not take the client for one of this machine.
const ELSEWHERE: &str = "127.0.0.2";

/// Dovecot with one user; `more` is added to its settings.
fn dovecot(program: &Program, more: &str) -> Server {
    Server::start(
        |folder, [imap, imaps]| {
            certificate(folder);
            write(&folder.join("users"), &format!("{USER}:{{PLAIN}}{PASSWORD}\n"));
            let (here, user) = (folder.display(), servant().name);
            let settings = format!(
                "base_dir = {here}/run\nstate_dir = {here}/state\nlog_path = /dev/stderr\nprotocols = imap\n\
                 listen = 127.0.0.1, {ELSEWHERE}\nmail_location = maildir:{here}/mail\nauth_failure_delay = 0\n\
                 default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = $GROUP\n\
                 ssl = yes\nssl_cert = <{here}/ssl/qpsmtpd-server.crt\nssl_key = <{here}/ssl/qpsmtpd-server.key\n\
                 disable_plaintext_auth = no\nauth_mechanisms = plain login\n\
                 passdb {{\n driver = passwd-file\n args = scheme=PLAIN {here}/users\n}}\n\
                 userdb {{\n driver = static\n args = uid={user} gid=$GROUP home={here}/home\n}}\n\
                 service imap-login {{\n chroot =\n inet_listener imap {{\n port = {imap}\n }}\n\
                 inet_listener imaps {{\n port = {imaps}\n ssl = yes\n }}\n}}\n\
                 service anvil {{\n chroot =\n}}\n\
                 service auth {{\n unix_listener {here}/auth-client {{\n mode = 0666\n }}\n}}\n{more}\n"
            );
            let group = nix::unistd::Group::from_gid(servant().gid)
                .ok()
                .flatten()
                .expect("a group");
            write(&folder.join("dovecot.conf"), &settings.replace("$GROUP", &group.name));
            let mut command = program.command();
            command.arg("-F").arg("-c").arg(folder.join("dovecot.conf"));
            command
        },
        |folder, [imap, imaps]| listens(imap) && listens(imaps) && listens_at(&folder.join("auth-client")),
    )
}

#[test]
fn imap_in_clear_and_encrypted() {
    let Some(program) = need("dovecot") else {
        return;
    };
    let mut server = dovecot(&program, "");
    let ([clear, encrypted], ca) = (server.ports, server.file("ssl/qpsmtpd-ca.crt"));
    let lines = [
        format!("auth/auth_imap 127.0.0.1 {clear}"),
        format!("auth/auth_imap 127.0.0.1 {clear} tls starttls ca {}", ca.display()),
        format!("auth/auth_imap 127.0.0.1 {encrypted} tls implicit ca {}", ca.display()),
    ];
    for line in &lines {
        check(&serve(line, &[]));
    }
    // the certificate is of a CA that nobody trusts here
    let other = tempfile::tempdir().expect("a folder");
    certificate(other.path());
    let other = other.path().join("ssl/qpsmtpd-ca.crt");
    for (port, tls) in [(clear, "starttls"), (encrypted, "implicit")] {
        let daemon = serve(
            &format!("auth/auth_imap 127.0.0.1 {port} tls {tls} ca {}", other.display()),
            &[],
        );
        check_unavailable(&daemon, &format!("IMAP server 127.0.0.1:{port}: TLS: "));
    }
    let daemon = serve(&lines[0], &[]);
    server.crash();
    check_unavailable(&daemon, &format!("IMAP server 127.0.0.1:{clear}: "));
}

#[test]
fn imap_that_wants_tls_gets_no_password_in_clear() {
    let Some(program) = need("dovecot") else {
        return;
    };
    let server = dovecot(&program, "disable_plaintext_auth = yes");
    let [clear, _] = server.ports;
    let daemon = serve(&format!("auth/auth_imap {ELSEWHERE} {clear}"), &[]);
    check_unavailable(
        &daemon,
        &format!("IMAP server {ELSEWHERE}:{clear}: it lets nobody log in without TLS"),
    );
    let ca = server.file("ssl/qpsmtpd-ca.crt");
    let line = format!("auth/auth_imap {ELSEWHERE} {clear} tls starttls ca {}", ca.display());
    check(&serve(&line, &[]));
}

#[test]
fn the_auth_socket() {
    let Some(program) = need("dovecot") else {
        return;
    };
    let mut server = dovecot(&program, "");
    let socket = server.file("auth-client").display().to_string();
    let daemon = serve(&format!("auth/auth_dovecot {socket}"), &[]);
    check(&daemon);
    server.crash();
    check_unavailable(&daemon, &format!("Dovecot at {socket}: "));
}

#[test]
fn a_passdb_that_is_down_is_no_wrong_password() {
    let Some(program) = need("dovecot") else {
        return;
    };
    let folder = Site::empty();
    let checker = folder.path().join("checker");
    script(&checker, "#!/bin/sh\nexit 111\n");
    let first = format!(
        "passdb {{\n driver = checkpassword\n args = {}\n result_internalfail = return-fail\n}}",
        checker.display()
    );
    let server = dovecot(&program, &first);
    let [clear, _] = server.ports;
    let socket = server.file("auth-client").display().to_string();
    // a user whom the file that comes first does not know
    for (line, why) in [
        (
            format!("auth/auth_dovecot {socket}"),
            format!("error, Dovecot at {socket}: a temporary failure"),
        ),
        (
            format!("auth/auth_imap 127.0.0.1 {clear}"),
            format!("error, IMAP server 127.0.0.1:{clear}: [UNAVAILABLE]"),
        ),
    ] {
        let daemon = serve(&line, &[]);
        assert_eq!(login(&daemon, "tim@example.com", PASSWORD), 454);
        daemon.wait_for(&why);
    }
}
