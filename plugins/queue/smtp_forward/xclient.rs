//! Telling the next server who the client is: the command XCLIENT of Postfix.

use std::net::IpAddr;

use crate::plugin::*;

/// The longest command, in bytes.
const MAX_COMMAND: usize = 500;
/// What stands for an attribute that is not known.
const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// The commands for the attributes that the server wants.
pub fn commands(s: &Session, wanted: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut command = String::new();
    for name in wanted.split_ascii_whitespace() {
        let Some(value) = attribute(s, &name.to_ascii_uppercase()) else {
            continue;
        };
        let word = format!(" {}={}", name.to_ascii_uppercase(), value);
        if !command.is_empty() && "XCLIENT".len() + command.len() + word.len() > MAX_COMMAND {
            commands.push(format!("XCLIENT{command}"));
            command.clear();
        }
        command.push_str(&word);
    }
    if !command.is_empty() {
        commands.push(format!("XCLIENT{command}"));
    }
    commands
}

/// The value of an attribute; none for one we know nothing of.
fn attribute(s: &Session, name: &str) -> Option<String> {
    let known = |value: Option<String>| Some(value.unwrap_or_else(|| UNAVAILABLE.to_owned()));
    let port = |port: u16| (port != 0).then(|| port.to_string());
    match name {
        "NAME" => {
            let host = &s.peer.host;
            known((host != "Unknown" && !host.starts_with('[')).then(|| xtext(host)))
        }
        "ADDR" => Some(address(s.peer.ip)),
        "PORT" => known(port(s.peer.port)),
        "DESTADDR" => known(s.peer.local_ip.map(address)),
        "DESTPORT" => known(port(s.peer.local_port)),
        "PROTO" => Some(match s.hello.as_ref().map(|hello| hello.kind) {
            Some(HelloKind::Ehlo) => "ESMTP".to_owned(),
            _ => "SMTP".to_owned(),
        }),
        "HELO" => known(s.hello.as_ref().map(|hello| xtext(&hello.host))),
        "LOGIN" => known(s.login.user.as_ref().map(|(user, _)| xtext(user))),
        _ => None,
    }
}

fn address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("IPV6:{ip}"),
    }
}

/// xtext (RFC 3461 4), at most 255 bytes of it, so that a command holds at least one attribute.
fn xtext(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        let plain = (b'!'..=b'~').contains(&byte) && !matches!(byte, b'+' | b'=');
        if out.len() + 3 > 255 {
            break;
        }
        match plain {
            true => out.push(byte.into()),
            false => out.push_str(&format!("+{byte:02X}")),
        }
    }
    out
}

/// The name with which to greet the server in the client's place.
pub fn hello_name(s: &Session) -> &str {
    let good = |name: &&str| name.len() <= 255 && !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    let name = s.hello.as_ref().map(|hello| hello.host.as_str());
    name.filter(good).unwrap_or(&s.settings.me)
}
