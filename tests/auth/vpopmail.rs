//! The users of vpopmail: its table in a real MariaDB, its files, and a fake of its daemon, for no registry has vpopmail.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::harness::Site;
use crate::login::{PASSWORD, USER, check, check_unavailable, login, serve};
use crate::process::PATIENCE;
use crate::programs::{need, succeed};
use crate::servers::{Server, listens, listens_at, write};

/// An MD5 hash of the password, as vpopmail makes them.
fn md5() -> Option<String> {
    let output = need("openssl")?
        .command()
        .args(["passwd", "-1", PASSWORD])
        .output()
        .expect("openssl");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn mariadb() -> Option<Server> {
    let (program, install, client) = (need("mariadbd")?, need("mariadb-install-db")?, need("mariadb")?);
    let me = nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .expect("a user")
        .name;
    let user = format!("--user={me}");
    let server = Server::start(
        |folder, [port, _]| {
            let here = folder.display();
            let data = format!("--datadir={here}/data");
            let mut make = install.command();
            make.args([
                "--no-defaults",
                &data,
                &user,
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ]);
            succeed(&mut make);
            let mut command: Command = program.command();
            command.args([
                "--no-defaults",
                &data,
                &user,
                "--bind-address=127.0.0.1",
                "--skip-networking=0",
            ]);
            command.args(["--innodb-buffer-pool-size=8M", "--skip-name-resolve"]);
            command
                .arg(format!("--port={port}"))
                .arg(format!("--socket={here}/socket"));
            command.arg(format!("--pid-file={here}/pid"));
            command
        },
        |folder, [port, _]| listens(port) && listens_at(&folder.join("socket")),
    );
    let tables = format!(
        "CREATE DATABASE vpopmail; USE vpopmail;
         CREATE TABLE vpopmail (pw_name char(32) NOT NULL, pw_domain char(96) NOT NULL, pw_passwd char(128),
         pw_uid int, pw_gid int, pw_gecos char(48), pw_dir char(160), pw_shell char(20), pw_clear_passwd char(16),
         PRIMARY KEY (pw_name, pw_domain));
         INSERT INTO vpopmail (pw_name, pw_domain, pw_passwd, pw_clear_passwd) VALUES
         ('joe', 'example.com', '{}', NULL), ('tim', 'example.com', '', 'tanstaaf'), ('none', 'example.com', '', '');
         CREATE USER 'vpopmailuser'@'127.0.0.1' IDENTIFIED BY 'vpop pass';
         CREATE USER 'vpopmailuser'@'localhost' IDENTIFIED BY 'vpop pass';
         GRANT SELECT ON vpopmail.vpopmail TO 'vpopmailuser'@'127.0.0.1', 'vpopmailuser'@'localhost';",
        md5()?
    );
    let mut fill = client.command();
    fill.arg("--no-defaults")
        .arg(format!("--socket={}", server.file("socket").display()));
    succeed(fill.args(["-uroot", "-e", &tables]));
    Some(server)
}

#[test]
fn the_table_in_mariadb() {
    let Some(mut server) = mariadb() else {
        return;
    };
    let port = server.ports[0];
    let tcp = format!("dbi:mysql:dbname=vpopmail;host=127.0.0.1;port={port}");
    let socket = format!(
        "dbi:mysql:database=vpopmail;mysql_socket={}",
        server.file("socket").display()
    );
    let plugin = "auth/auth_vpopmail_sql timeout 5";
    for dsn in [&tcp, &socket] {
        let daemon = serve(
            plugin,
            &[("vpopmail_mysql_dsn", dsn), ("vpopmail_mysql_pass", "vpop pass")],
        );
        check(&daemon);
        assert_eq!(login(&daemon, "Tim@Example.COM", "tanstaaf"), 235);
        for (user, password) in [
            ("none@example.com", "x"),
            ("joe@example.org", PASSWORD),
            ("x' OR '1'='1@example.com", PASSWORD),
            ("joe@example.com' OR 'a'='a", PASSWORD),
            ("%@example.com", PASSWORD),
        ] {
            assert_eq!(login(&daemon, user, password), 535, "{user}");
        }
        assert!(
            !daemon
                .lines()
                .iter()
                .any(|line| line.contains("vpop pass") || line.contains("tanstaaf"))
        );
    }
    let files = [("vpopmail_mysql_dsn", tcp.as_str()), ("vpopmail_mysql_pass", "wrong")];
    check_unavailable(&serve(plugin, &files), "");
    let daemon = serve(
        plugin,
        &[("vpopmail_mysql_dsn", &tcp), ("vpopmail_mysql_pass", "vpop pass")],
    );
    assert_eq!(login(&daemon, USER, PASSWORD), 235);
    server.crash();
    check_unavailable(&daemon, "");
}

#[test]
fn the_files() {
    let Some(hash) = md5() else {
        return;
    };
    let folder = Site::empty();
    let here = folder.path();
    let (users, domain) = (here.join("users"), here.join("elsewhere/example.com"));
    for made in [&users, &domain, &here.join("domains")] {
        std::fs::create_dir_all(made).expect("made");
    }
    write(
        &domain.join("vpasswd"),
        &format!("joe:{hash}:1:0:Joe:{}/joe:NOQUOTA\n", domain.display()),
    );
    write(
        &users.join("assign"),
        &format!("+example.com-:example.com:89:89:{}:-::\n.\n", domain.display()),
    );
    let line = format!(
        "auth/auth_vpopmail users {} domains {}/domains",
        users.display(),
        here.display()
    );
    let daemon = serve(&line, &[]);
    check(&daemon);
    std::fs::remove_file(domain.join("vpasswd")).expect("removed");
    check_unavailable(&daemon, &domain.join("vpasswd").display().to_string());
}

/// vpopmaild as its source has it; every byte of the dialogue is checked.
fn vpopmaild(stream: TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
    let mut stream = BufReader::new(stream);
    let say = |stream: &mut BufReader<TcpStream>, text: &str| {
        let _ = stream.get_mut().write_all(text.as_bytes());
    };
    say(&mut stream, "+OK\r\n");
    let mut line = String::new();
    let _ = stream.read_line(&mut line);
    let sound = line.starts_with("login ") && line.ends_with("\r\n") && line.split(' ').count() == 3;
    let answer = match sound {
        true if line == format!("login {USER} {PASSWORD}\r\n") => "+OK+\r\nname joe\r\n.\r\n",
        true => "-ERR XXX Login failed\r\n",
        false => "what?\r\n",
    };
    say(&mut stream, answer);
    line.clear();
    let _ = stream.read_line(&mut line);
    if line != "quit\r\n" {
        say(&mut stream, "what?\r\n");
    }
}

#[test]
fn a_fake_of_vpopmaild() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bind");
    let port = listener.local_addr().expect("address").port();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let fake = std::thread::spawn(move || {
        listener.set_nonblocking(true).expect("nonblocking");
        while stopped.recv_timeout(Duration::from_millis(5)).is_err() {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nonblocking(false).expect("blocking");
                std::thread::spawn(move || vpopmaild(stream));
            }
        }
    });
    let daemon = serve(&format!("auth/auth_vpopmaild host 127.0.0.1 port {port}"), &[]);
    check(&daemon);
    assert_eq!(login(&daemon, USER, &format!("{PASSWORD} x")), 535);
    stop.send(()).expect("stop");
    fake.join().expect("the fake");
    check_unavailable(&daemon, &format!("vpopmaild at 127.0.0.1 port {port}: "));
}
