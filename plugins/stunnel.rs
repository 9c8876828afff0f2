//! Take the client's address from a proxy on this machine, as stunnel is one (catalogue 14.3).

use std::net::IpAddr;

use crate::plugin::*;

plugin! {
    /// Takes the client's address from stunnel or another proxy on this machine (PROXY protocol, versions 1 and 2).
    ///
    /// With `proxy on` every connection from 127.0.0.1 or ::1 must begin with a PROXY header (stunnel: `protocol =
    /// proxy`), and its client counts as if it had come itself: for limits, lists, names and the log. FILEs
    /// proxy_networks and proxy_ports say the same of proxies anywhere and of single ports.
    "stunnel", Stunnel {
        /// Whether such connections begin with a PROXY header: on or off.
        proxy: OnOff = OnOff(false),
    }
    hooks [connect]
    with [is_proxy]
}

/// `on` or `off`.
#[derive(Clone, Copy, Debug)]
pub struct OnOff(bool);

impl Arg for OnOff {
    const WANTS: &'static str = "on or off";
    fn set(slot: &mut Option<Self>, _: &str, word: &str) -> Set {
        *slot = Some(OnOff(match word {
            "on" => true,
            "off" => false,
            other => return Err(format!("'{other}' is neither on nor off")),
        }));
        Ok(None)
    }
    fn show(&self) -> String {
        if self.0 { "on" } else { "off" }.to_owned()
    }
}

impl Stunnel {
    fn is_proxy(&self, peer: IpAddr) -> bool {
        self.proxy.0 && peer.is_loopback()
    }

    fn connect(&self, s: &mut Session) -> Answer {
        if let Some(proxied) = &s.proxied {
            info!(s, "pass, by the proxy {}", proxied.by);
        }
        declined()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_of_this_machine_are_believed_if_that_is_wanted() {
        for (arguments, here) in [("", false), ("proxy off", false), ("proxy on", true)] {
            let t = Kit::load(&DECLARATION, arguments);
            let proxies = ["127.0.0.1", "::1", "192.0.2.1"].map(|ip| t.is_proxy(ip));
            assert_eq!(proxies, [here, here, false]);
        }
        assert!(Kit::faults(&DECLARATION, "proxy yes")[0].contains("neither on nor off"));
    }
}
