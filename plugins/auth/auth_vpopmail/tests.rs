//! Users in databases and in text, and what comes of files that cannot be read.

use std::path::Path;

use cdb2::CDBWriter;

use super::*;

const HASH: &str = "$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5";

/// A tree as vpopmail and qmail-newu make it: example.com and its alias in cdb files, or all as text.
fn tree(cdb: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let (users, domain) = (folder.path().join("users"), folder.path().join("domains/example.com"));
    std::fs::create_dir_all(&users).expect("made");
    std::fs::create_dir_all(&domain).expect("made");
    let home = domain.display();
    let lines = [
        ("joe", format!("{HASH}:1:0:Joe #1, in person:{home}/joe:NOQUOTA")),
        ("tim", format!("{HASH}:1:0:Tim:{home}/tim:NOQUOTA:tanstaaftanstaaf")),
        ("none", format!(":1:0:None:{home}/none:NOQUOTA")),
    ];
    if cdb {
        let writer = |path: &Path| CDBWriter::create(path.display().to_string()).expect("a cdb");
        let mut passwords = writer(&domain.join("vpasswd.cdb"));
        for (user, line) in &lines {
            passwords.add(user.as_bytes(), line.as_bytes()).expect("added");
        }
        passwords.finish().expect("a cdb");
        let mut assign = writer(&users.join("cdb"));
        for name in ["example.com", "alias.example.org"] {
            let value = format!("example.com\x0089\x0089\0{home}\0-\0\0");
            assign
                .add(format!("!{name}-").as_bytes(), value.as_bytes())
                .expect("added");
        }
        assign.finish().expect("a cdb");
    } else {
        let text: String = lines.iter().map(|(user, line)| format!("{user}:{line}\n")).collect();
        std::fs::write(domain.join("vpasswd"), text).expect("written");
    }
    let line = |name: &str| format!("+{name}-:example.com:89:89:{home}:-::\n");
    let text = line("example.com") + &line("alias.example.org") + "+gone.example-:gone:89:89:/nonexistent:-::\n.\n";
    std::fs::write(users.join("assign"), text).expect("written");
    folder
}

fn kit(folder: &Path) -> Kit {
    let arguments = format!("users {0}/users domains {0}/domains", folder.display());
    Kit::load(&DECLARATION, &arguments)
}

#[test]
fn users_are_found_in_databases_and_in_text() {
    for cdb in [true, false] {
        let folder = tree(cdb);
        let mut t = kit(folder.path());
        let mut login = |user: &str, password: &str| t.auth(&Credentials::password("plain", user, password));
        let before = compared();
        login("nobody@example.com", "Hello world!").denied("no such user");
        assert_eq!(compared() - before, 1, "no faster than a wrong password");
        login("joe@example.com", "Hello world!").ok();
        login("Joe@Alias.Example.ORG", "Hello world!").ok();
        login("tim@example.com", "tanstaaftanstaaf").ok();
        login("joe@example.com", "hello world!").denied("wrong password");
        login("none@example.com", "").denied("no such user");
        login("nobody@example.com", "x").denied("no such user");
        login("joe@example.net", "Hello world!").denied("no such user");
        login("joe", "Hello world!").denied("no such user");
        login("../joe@example.com", "Hello world!").denied("no such user");
        let ticket = "<1896.697170952@postoffice.reston.mci.net>";
        let digest = Credentials::digest("tim@example.com", ticket, "b913a602c7eda7a495b4e6e7334d3890");
        t.auth(&digest).ok();
        assert!(
            t.logged()
                .iter()
                .all(|line| !line.contains("ello") && !line.contains("tanst"))
        );
    }
}

#[test]
fn files_that_cannot_be_read_are_no_wrong_password() {
    let folder = tree(false);
    let mut t = kit(folder.path());
    t.auth(&Credentials::password("plain", "joe@gone.example", "x"))
        .declined();
    let logged = t.logged().join("\n");
    assert!(logged.contains("error, /nonexistent/vpasswd: "), "{logged}");
    std::fs::write(folder.path().join("users/cdb"), "rubbish").expect("written");
    t.auth(&Credentials::password("plain", "joe@example.com", "x"))
        .declined();
    assert!(t.logged().join("\n").contains("error, "));
}

#[test]
fn vchkpw_can_be_asked_instead() {
    let mut t = Kit::load(&DECLARATION, "vchkpw /bin/false sudo 0");
    t.auth(&Credentials::password("plain", "joe@example.com", "x"))
        .declined();
    assert!(t.offers(Hook::auth_login, "login") && !t.offers(Hook::auth_cram_md5, "cram-md5"));
    // a yes is believed from one that has read what it was asked
    let mut t = Kit::load(&DECLARATION, "vchkpw /bin/true sudo 0");
    t.auth(&Credentials::password("plain", "joe@example.com", "x"))
        .declined();
    assert!(
        t.logged()
            .join("\n")
            .contains("/bin/true accepts without reading the password")
    );
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("vchkpw");
    script(&program, "cat <&3 >/dev/null && exec \"$@\"\n");
    let mut t = Kit::load(&DECLARATION, &format!("vchkpw {} sudo 0", program.display()));
    t.auth(&Credentials::password("plain", "joe@example.com", "x")).ok();
    let faults = Kit::faults(&DECLARATION, "users /nonexistent").join("\n");
    assert!(faults.contains("is vpopmail on this machine?"), "{faults}");
    assert!(
        Kit::faults(&DECLARATION, "vchkpw /nonexistent")
            .join("\n")
            .contains("/nonexistent")
    );
}
