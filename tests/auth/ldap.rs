//! slapd: in clear, by StartTLS, by ldaps and at its socket.

use std::process::Command;

use crate::login::{PASSWORD, USER, WRONG, check, check_unavailable, login, serve};
use crate::programs::{Program, need, succeed};
use crate::servers::{Server, certificate, listens, listens_at, write};

const BASE: &str = "dc=example,dc=com";

/// What is in the directory: two users of one name, one whom nobody else has the name of, and one without a password.
fn entries() -> String {
    let person = |ou: &str, uid: &str, mail: &str, password: &str| {
        format!(
            "dn: uid={uid},ou={ou},{BASE}\nobjectClass: inetOrgPerson\nuid: {uid}\ncn: {uid}\nsn: {uid}\n\
             mail: {mail}\n{password}\n"
        )
    };
    let password = format!("userPassword: {PASSWORD}\n");
    let unit = |ou: &str| format!("dn: ou={ou},{BASE}\nobjectClass: organizationalUnit\nou: {ou}\n\n");
    format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: example\no: x\n\n")
        + &unit("people")
        + &unit("others")
        + &person("people", "joe", USER, &password)
        + &person("people", "twin", "twin@example.com", &password)
        + &person("others", "twin", "twin@example.org", &password)
        + &person("people", "none", "none@example.com", "")
}

/// slapd with these entries; `access` says who may search.
fn slapd(program: &Program, access: &str) -> Server {
    Server::start(
        |folder, ports| {
            certificate(folder);
            std::fs::create_dir(folder.join("db")).expect("made");
            let here = folder.display();
            let modules = match std::path::Path::new("/usr/lib/ldap/back_mdb.so").exists() {
                true => "modulepath /usr/lib/ldap\nmoduleload back_mdb\n",
                false => "",
            };
            let schema =
                ["core", "cosine", "inetorgperson"].map(|name| format!("include /etc/ldap/schema/{name}.schema\n"));
            let settings = format!(
                "{}{modules}TLSCertificateFile {here}/ssl/qpsmtpd-server.crt\n\
                 TLSCertificateKeyFile {here}/ssl/qpsmtpd-server.key\npidfile {here}/pid\n\
                 database mdb\nsuffix \"{BASE}\"\nrootdn \"cn=admin,{BASE}\"\nrootpw admin\ndirectory {here}/db\n\
                 access to attrs=userPassword by anonymous auth by * none\naccess to * {access}\n",
                schema.concat()
            );
            write(&folder.join("slapd.conf"), &settings);
            write(&folder.join("entries"), &entries());
            let mut add = Command::new(program.command().get_program());
            add.args(["-T", "add", "-f"]).arg(folder.join("slapd.conf"));
            succeed(add.arg("-l").arg(folder.join("entries")));
            let socket = folder.join("ldapi").display().to_string().replace('/', "%2f");
            let [ldap, ldaps] = ports;
            let urls = format!("ldap://127.0.0.1:{ldap} ldaps://127.0.0.1:{ldaps} ldapi://{socket}/????x-mod=0777");
            let mut command = program.command();
            command
                .arg("-f")
                .arg(folder.join("slapd.conf"))
                .args(["-h", &urls, "-d", "0"]);
            command
        },
        |folder, [ldap, ldaps]| listens(ldap) && listens(ldaps) && listens_at(&folder.join("ldapi")),
    )
}

const PLUGIN: &str = "auth/auth_ldap_bind";

#[test]
fn in_clear_encrypted_and_by_a_socket() {
    let Some(program) = need("slapd") else {
        return;
    };
    let mut server = slapd(&program, "by * read");
    let ([ldap, ldaps], ca) = (server.ports, server.file("ssl/qpsmtpd-ca.crt"));
    let base = format!("ldap_base {BASE}\n");
    let clear = format!("{base}ldap_port {ldap}\n");
    let files = [
        clear.clone(),
        format!("{clear}ldap_tls starttls\nldap_ca {}\n", ca.display()),
        format!(
            "{base}ldap_host ldaps://127.0.0.1\nldap_port {ldaps}\nldap_ca {}\n",
            ca.display()
        ),
        format!("{base}ldap_host {}\n", server.file("ldapi").display()),
        format!("{clear}ldap_filter (&(objectClass=inetOrgPerson)(mail=%s))\n"),
    ];
    for file in &files {
        check(&serve(PLUGIN, &[("ldap", file)]));
    }
    // arguments go before the file
    let line = format!("{PLUGIN} ldap_port {ldap} ldap_auth_filter_attr cn");
    check(&serve(&line, &[("ldap", &format!("{base}ldap_port 1\n"))]));
    let other = tempfile::tempdir().expect("a folder");
    certificate(other.path());
    let ca = other.path().join("ssl/qpsmtpd-ca.crt");
    for file in [
        format!("{clear}ldap_tls starttls\nldap_ca {}\n", ca.display()),
        format!("{base}ldap_tls ldaps\nldap_port {ldaps}\nldap_ca {}\n", ca.display()),
        format!("ldap_base dc=example,dc=org\nldap_port {ldap}\n"),
    ] {
        check_unavailable(&serve(PLUGIN, &[("ldap", &file)]), "directory 127.0.0.1:");
    }
    let daemon = serve(PLUGIN, &[("ldap", &clear)]);
    server.crash();
    check_unavailable(&daemon, &format!("directory 127.0.0.1:{ldap}: "));
}

#[test]
fn nobody_gets_in_by_what_a_filter_means() {
    let Some(program) = need("slapd") else {
        return;
    };
    let server = slapd(&program, "by * read");
    let file = format!("ldap_base {BASE}\nldap_port {}\n", server.ports[0]);
    let daemon = serve(PLUGIN, &[("ldap", &file)]);
    for user in [
        "*",
        "j*@example.com",
        "x)(uid=joe",
        "joe)(|(uid=*",
        "joe\\2a",
        "\\6aoe",
        "JOE)",
        "twin@example.com",
    ] {
        assert_eq!(login(&daemon, user, PASSWORD), 535, "{user}");
    }
    // an entry without a password accepts none
    assert_eq!(login(&daemon, "none@example.com", WRONG), 535);
    assert_eq!(login(&daemon, "none@example.com", ""), 535);
    assert_eq!(login(&daemon, USER, ""), 535);
    daemon.wait_for("finds more than one");
    let file = format!("{file}ldap_filter (&(uid=%u)(mail=%s))\n");
    let daemon = serve(PLUGIN, &[("ldap", &file)]);
    assert_eq!(login(&daemon, "twin@example.com", PASSWORD), 235);
    assert_eq!(login(&daemon, "twin@example.net", PASSWORD), 535);
}

#[test]
fn where_not_everybody_may_search() {
    let Some(program) = need("slapd") else {
        return;
    };
    let server = slapd(
        &program,
        &format!("by dn.exact=\"uid=joe,ou=people,{BASE}\" read by anonymous auth"),
    );
    let file = format!("ldap_base {BASE}\nldap_port {}\n", server.ports[0]);
    let searcher = format!("{file}ldap_bind_dn uid=joe,ou=people,{BASE}\nldap_bind_pw");
    check(&serve(PLUGIN, &[("ldap", &format!("{searcher} {PASSWORD}\n"))]));
    check_unavailable(
        &serve(PLUGIN, &[("ldap", &format!("{searcher} {WRONG}\n"))]),
        "directory 127.0.0.1:",
    );
}
