//! Counterparts that hang, or that answer something else: 454, soon, and a line in the log.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;

use crate::harness::Site;
use crate::login::{check_unavailable, serve};

/// A line of config/plugins for each plugin that asks at a port, and one for each that asks at a socket.
fn lines(port: u16, socket: &str) -> Vec<(String, Vec<(&'static str, String)>)> {
    let dsn = |at: String| vec![("vpopmail_mysql_dsn", format!("dbi:mysql:dbname=x;{at}"))];
    let ldap = |at: String| vec![("ldap", format!("ldap_base dc=x\nldap_timeout 1\n{at}\n"))];
    vec![
        (format!("auth/auth_imap 127.0.0.1 {port} timeout 1"), vec![]),
        (
            format!("auth/auth_vpopmaild host 127.0.0.1 port {port} timeout 1"),
            vec![],
        ),
        (format!("auth/auth_dovecot 127.0.0.1:{port} timeout 1"), vec![]),
        (format!("auth/auth_dovecot {socket} timeout 1"), vec![]),
        (format!("auth/auth_saslauthd {socket} timeout 1"), vec![]),
        (
            format!("auth/auth_cvm_unix_local cvm_socket {socket} timeout 1"),
            vec![],
        ),
        ("auth/auth_ldap_bind".to_owned(), ldap(format!("ldap_port {port}"))),
        ("auth/auth_ldap_bind".to_owned(), ldap(format!("ldap_host {socket}"))),
        (
            "auth/auth_vpopmail_sql timeout 1".to_owned(),
            dsn(format!("host=127.0.0.1;port={port}")),
        ),
        (
            "auth/auth_vpopmail_sql timeout 1".to_owned(),
            dsn(format!("mysql_socket={socket}")),
        ),
    ]
}

fn all_put_off(port: u16, socket: &str) {
    for (line, files) in lines(port, socket) {
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        check_unavailable(&serve(&line, &files), "");
    }
}

/// Listeners at a port and a socket.
fn listen(folder: &Site) -> (TcpListener, u16, UnixListener, String) {
    let socket = folder.path().join("socket");
    let unix = UnixListener::bind(&socket).expect("bind");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("mode");
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = tcp.local_addr().expect("address").port();
    (tcp, port, unix, socket.display().to_string())
}

#[test]
fn silence_has_an_end() {
    let folder = Site::empty();
    // connections are made, and nobody takes them
    let (_tcp, port, _unix, socket) = listen(&folder);
    all_put_off(port, &socket);
}

#[test]
fn rubbish_is_no_answer() {
    let folder = Site::empty();
    let (tcp, port, unix, socket) = listen(&folder);
    const RUBBISH: &[u8] = b"HTTP/1.1 400 \xff\xfe\x00Bad Request\r\nOK\r\n\r\n";
    std::thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let _ = stream.write_all(RUBBISH);
        }
    });
    std::thread::spawn(move || {
        for mut stream in unix.incoming().flatten() {
            let _ = stream.write_all(RUBBISH);
        }
    });
    all_put_off(port, &socket);
}
