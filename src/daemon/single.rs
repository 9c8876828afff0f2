//! One session on stdin and stdout, as super-servers want it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::log::Level;
use crate::net::{self, PolledWire, Stdio};
use crate::prefork;
use crate::session::Peer;
use crate::smtp::Entry;

use super::doors::SUBMISSIONS;
use super::generation::Recipe;
use super::{EX_CONFIG, EX_OSERR, print};

/// One session on stdin and stdout (catalogue 8.1).
pub fn single(config: Option<&Path>, reverse_name: bool, lmtp: bool) -> ExitCode {
    prefork::keep_stderr_from_client();
    if let Err(why) = prefork::outlive_limits_of_files() {
        super::complain(&why.to_string());
        return ExitCode::from(EX_OSERR);
    }
    let recipe = Recipe {
        config: config.map(Path::to_owned),
        reverse_name,
        ..Recipe::default()
    };
    let (generation, faults) = recipe.load();
    if print(&faults) {
        return ExitCode::from(EX_CONFIG);
    }
    let stdio = match generation
        .prepare()
        .and_then(|()| Stdio::open().map_err(|why| why.to_string()))
    {
        Ok(stdio) => stdio,
        Err(why) => {
            super::complain(&why);
            return ExitCode::from(EX_CONFIG);
        }
    };
    if let Some(bad) = variable("DATABYTES").filter(|text| text.parse::<u64>().is_err()) {
        generation.log(
            Level::Error,
            &format!("DATABYTES '{bad}' is no whole number; what config/databytes says holds"),
        );
    }
    let (peer, named) = super_server_peer().unwrap_or_else(|| (socket_peer(&stdio), false));
    let entry = Entry {
        pre_connection: false,
        reverse_name: reverse_name && !named,
        lmtp,
        // without a certificate of ours, the super-server may have dealt with it
        tls: peer.local_port == SUBMISSIONS && generation.services.tls.is_some(),
    };
    let wire = PolledWire::new(stdio, Arc::new(net::NoEnding));
    let session = generation.session(
        wire,
        peer,
        generation.settings(),
        None,
        entry,
        std::process::id().into(),
    );
    generation.converse(session, entry);
    ExitCode::SUCCESS
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The client as tcpserver describes it; true: its name is settled (catalogue 8.1).
fn super_server_peer() -> Option<(Peer, bool)> {
    let ip: IpAddr = variable("TCPREMOTEIP")?.parse().ok()?;
    let mut peer = Peer::new(ip);
    peer.set_host(&variable("TCPREMOTEHOST").unwrap_or_else(|| format!("[{ip}]")));
    if let Some(info) = variable("TCPREMOTEINFO") {
        peer.info = format!("{info}@{}", peer.host);
    }
    let port = |name| variable(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    peer.port = port("TCPREMOTEPORT");
    peer.local_port = port("TCPLOCALPORT");
    peer.local_ip = variable("TCPLOCALIP").and_then(|text| text.parse().ok());
    peer.local_host = variable("TCPLOCALHOST");
    Some((peer, true))
}

/// The client as the socket knows it; whoever writes into a pipe or a terminal is on this machine.
fn socket_peer(stdio: &Stdio) -> Peer {
    let Some((client, local)) = stdio.addresses() else {
        return Peer::new(Ipv4Addr::LOCALHOST.into());
    };
    let mut peer = Peer::new(client.ip());
    peer.set_host(&format!("[{}]", peer.ip));
    peer.port = client.port();
    peer.local_ip = Some(local.ip().to_canonical());
    peer.local_port = local.port();
    peer
}
