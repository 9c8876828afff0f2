//! Credential validation modules: cvm-pwfile at a socket, and behind cvm-checkpassword.

use std::path::Path;
use std::process::Command;

use crate::harness::Site;
use crate::login::{PASSWORD, USER, check, check_unavailable, check_unconfined, serve};
use crate::programs::{Program, need};
use crate::servers::{Server, listens_at, script, servant, write};

/// The password file of cvm-pwfile: one user, as whom the daemon serves.
fn users(path: &Path) {
    let servant = servant();
    write(
        path,
        &format!("joe:{PASSWORD}:{}:{}::/:/bin/sh\n", servant.uid, servant.gid),
    );
}

fn module(program: &Program) -> Server {
    Server::start(
        |folder, _| {
            users(&folder.join("users"));
            let mut command: Command = program.command();
            command.env("CVM_PWFILE_PATH", folder.join("users"));
            command.arg(format!("cvm-local:{}", folder.join("socket").display()));
            command
        },
        |folder, _| listens_at(&folder.join("socket")),
    )
}

#[test]
fn cvm_pwfile_at_its_socket() {
    let Some(program) = need("cvm-pwfile") else {
        return;
    };
    let mut module = module(&program);
    let socket = module.file("socket").display().to_string();
    let daemon = serve(&format!("auth/auth_cvm_unix_local cvm_socket {socket}"), &[]);
    check(&daemon);
    module.crash();
    check_unavailable(&daemon, &format!("the module at {socket}: "));
}

#[test]
fn cvm_checkpassword_behind_descriptor_3() {
    let (Some(program), Some(checker)) = (need("cvm-pwfile"), need("cvm-checkpassword")) else {
        return;
    };
    let folder = Site::empty();
    users(&folder.path().join("users"));
    let wrapper = folder.path().join("checkpassword");
    let shown = |program: &Program| program.command().get_program().to_string_lossy().into_owned();
    // the module knows no domains
    let text = format!(
        "#!/bin/sh\nexport CVM_PWFILE_PATH={}\nexec {} cvm-command:{} \"$@\"\n",
        folder.path().join("users").display(),
        shown(&checker),
        shown(&program)
    );
    script(&wrapper, &text);
    let line = format!(
        "auth/auth_checkpassword checkpw {} true /bin/true sudo 0",
        wrapper.display()
    );
    let daemon = serve(&line, &[]);
    check_unconfined(&daemon);
    daemon.wait_for("fail, auth failed: 100");
    daemon.wait_for("workers are not confined");
    script(&wrapper, "#!/bin/sh\nexit 111\n");
    check_unavailable(
        &daemon,
        &format!("{} cannot check passwords now (exit 111)", wrapper.display()),
    );
}

/// A program of our own, which checks every byte; the real one above does not tell what it was given.
#[test]
fn a_program_that_checks_what_it_is_handed() {
    let folder = Site::empty();
    let wrapper = folder.path().join("vchkpw");
    let text = format!(
        "#!/bin/sh\ngot=$(tr '\\0' '|' <&3)\ntest \"$#\" = 1 || exit 2\n\
         test \"$got\" = '{USER}|{PASSWORD}|Y123456|' && exec \"$1\"\nexit 3\n"
    );
    script(&wrapper, &text);
    let files = [("smtpauth-checkpassword", format!("{} /bin/true\n", wrapper.display()))];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    for line in [
        "auth/auth_checkpassword sudo 0".to_owned(),
        format!("auth/auth_vpopmail vchkpw {} sudo 0", wrapper.display()),
    ] {
        let daemon = serve(&line, &files);
        check_unconfined(&daemon);
        daemon.wait_for("fail, auth failed: 3");
    }
}
