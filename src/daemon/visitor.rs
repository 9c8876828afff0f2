//! A connection becomes a client: what is known before anything has been said.

use crate::config::Settings;
use crate::plugin::Chain;
use crate::prefork::Connection;
use crate::session::{Local, Peer};

/// Who has connected. No limit of sessions is told for those for whom none holds.
pub(super) fn visitor(connection: &Connection<'_>, settings: &Settings, chain: &Chain) -> Peer {
    let all = |peer: Peer| Peer {
        all_sessions: connection.busy,
        max_all_sessions: connection.children,
        ..peer
    };
    if let Some(caller) = connection.caller {
        let (uid, gid, pid) = (caller.uid, caller.gid, caller.pid);
        return all(Peer::at_socket(Local { uid, gid, pid }));
    }
    let ip = connection.peer.ip();
    let exempt = settings.is_exempt(ip) || chain.is_proxy(ip);
    all(Peer {
        port: connection.peer.port(),
        local_ip: Some(connection.local.ip()),
        local_port: connection.local.port(),
        sessions: connection.same_address,
        max_sessions: if exempt { 0 } else { connection.limit },
        ..Peer::new(ip)
    })
}
