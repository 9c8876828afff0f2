//! PAM, by saslauthd, with a service file of its own: libpam-wrapper puts it in the place of /etc/pam.d.

use std::path::Path;

use crate::login::{PASSWORD, check_unavailable, serve};
use crate::programs::{Program, missing, need};
use crate::servers::{Server, listens_at, script, write};

/// Where Debian and others have libpam-wrapper.
const WRAPPERS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libpam_wrapper.so",
    "/usr/lib/aarch64-linux-gnu/libpam_wrapper.so",
    "/usr/lib64/libpam_wrapper.so",
    "/usr/lib/libpam_wrapper.so",
];

fn saslauthd(program: &Program, wrapper: &Path) -> Server {
    Server::start(
        |folder, _| {
            let (services, run) = (folder.join("pam.d"), folder.join("run"));
            for made in [&services, &run] {
                std::fs::create_dir(made).expect("made");
            }
            script(
                &folder.join("check"),
                &format!("#!/bin/sh\ntest \"$PAM_SERVICE $PAM_USER $(tr -d '\\0')\" = 'smtp joe {PASSWORD}'\n"),
            );
            let check = folder.join("check");
            let rules = format!(
                "auth required pam_exec.so expose_authtok quiet {}\naccount required pam_permit.so\n",
                check.display()
            );
            write(&services.join("smtp"), &rules);
            write(
                &services.join("other"),
                "auth required pam_deny.so\naccount required pam_deny.so\n",
            );
            let mut command = program.command();
            command.env("LD_PRELOAD", wrapper).env("PAM_WRAPPER", "1");
            command.env("PAM_WRAPPER_SERVICE_DIR", &services);
            command.args(["-d", "-a", "pam", "-n", "1", "-m"]).arg(run);
            command
        },
        |folder, _| listens_at(&folder.join("run/mux")),
    )
}

#[test]
fn saslauthd_asks_pam() {
    let Some(program) = need("saslauthd") else {
        return;
    };
    let Some(wrapper) = WRAPPERS.map(Path::new).into_iter().find(|path| path.is_file()) else {
        return missing("libpam_wrapper.so");
    };
    let mut server = saslauthd(&program, wrapper);
    let socket = server.file("run/mux").display().to_string();
    for line in [
        format!("auth/auth_saslauthd {socket}"),
        format!("auth/auth_pam {socket}"),
    ] {
        crate::login::check(&serve(&line, &[]));
    }
    // another service knows nobody
    let daemon = serve(&format!("auth/auth_pam {socket} service imap"), &[]);
    assert_eq!(crate::login::login(&daemon, crate::login::USER, PASSWORD), 535);
    let daemon = serve(&format!("auth/auth_pam {socket}"), &[]);
    server.crash();
    check_unavailable(&daemon, &format!("saslauthd at {socket}: "));
}
