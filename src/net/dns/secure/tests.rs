//! A zone that is signed, and served by a real name server (nsd): what DNSSEC vouches for is found, and nothing else.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use hickory_resolver::Resolver as Hickory;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::proto::rr::RecordType;

use super::*;

const ZONE: &str = "\
$ORIGIN example.
$TTL 3600
@ SOA ns.example. root.example. 1 3600 900 604800 300
@ NS ns.example.
ns A 127.0.0.1
mx A 127.0.0.1
_25._tcp.mx TLSA 3 1 1 0101010101010101010101010101010101010101010101010101010101010101
_25._tcp.forged TLSA 3 1 1 0202020202020202020202020202020202020202020202020202020202020202
unsigned NS ns.example.
";

const UNSIGNED: &str = "\
$ORIGIN unsigned.example.
$TTL 3600
@ SOA ns.example. root.example. 1 3600 900 604800 300
@ NS ns.example.
_25._tcp.mx TLSA 3 1 1 0303030303030303030303030303030303030303030303030303030303030303
";

/// A program; none, loudly, if it is missing and may be.
fn need(name: &str) -> Option<PathBuf> {
    let exe = std::env::current_exe().expect("a program");
    let target = exe.ancestors().nth(3).expect("the folder of build results");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.push(target.join("real/nsd/usr/sbin"));
    let found = places.iter().map(|place| place.join(name)).find(|path| path.is_file());
    if found.is_none() {
        let required = std::env::var_os("QPSMTPD_REQUIRE_REAL").is_some_and(|value| value == "1");
        assert!(!required, "{name} is missing; .ci/real-programs gets it");
        eprintln!("SKIPPED: {name} is missing; .ci/real-programs gets it");
    }
    found
}

fn run(program: &Path, dir: &Path, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .expect("run");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// nsd with both zones; killed when this is dropped.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
    address: SocketAddr,
    anchors: PathBuf,
}

impl Server {
    fn start() -> Option<Server> {
        let (keygen, sign, nsd) = (need("ldns-keygen")?, need("ldns-signzone")?, need("nsd")?);
        let dir = tempfile::tempdir().expect("a folder");
        let place = dir.path();
        fs::write(place.join("example"), ZONE).expect("written");
        fs::write(place.join("unsigned"), UNSIGNED).expect("written");
        let key = run(&keygen, place, &["-a", "ECDSAP256SHA256", "-k", "example."]);
        run(&sign, place, &["example", &key]);
        // the signature says something else then
        let signed = fs::read_to_string(place.join("example.signed")).expect("read");
        fs::write(
            place.join("example.signed"),
            signed.replace(&"02".repeat(32), &"04".repeat(32)),
        )
        .expect("written");
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .expect("a port")
            .local_addr()
            .expect("a port");
        let at = place.display();
        let config = format!(
            "server:\n ip-address: 127.0.0.1@{port}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{at}\"\n database: \
             \"\"\n zonelistfile: \"{at}/list\"\n pidfile: \"{at}/pid\"\n xfrdfile: \"{at}/xfrd\"\n xfrdir: \"{at}\"\n \
             server-count: 1\nremote-control:\n control-enable: no\nzone:\n name: example\n zonefile: \
             example.signed\nzone:\n name: unsigned.example\n zonefile: unsigned\n",
            port = free.port()
        );
        fs::write(place.join("nsd.conf"), config).expect("written");
        let child = Command::new(nsd)
            .args(["-d", "-c", &format!("{at}/nsd.conf")])
            .stderr(Stdio::null())
            .spawn()
            .expect("start");
        let anchors = place.join(format!("{key}.key"));
        Some(Server {
            dir,
            child,
            address: free,
            anchors,
        })
    }

    fn builder(&self) -> ResolverBuilder<TokioRuntimeProvider> {
        let mut server = NameServerConfig::new(
            self.address.ip(),
            true,
            vec![ConnectionConfig::udp(), ConnectionConfig::tcp()],
        );
        server
            .connections
            .iter_mut()
            .for_each(|way| way.port = self.address.port());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Hickory::builder_with_config(config, TokioRuntimeProvider::default())
    }

    /// Waits until it answers.
    fn answers(&self, asker: &Asker) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let wait = Duration::from_secs(1);
        loop {
            // one that has not been answered remembers it
            let resolver = self.builder().build().expect("a resolver");
            let soa = resolver.lookup("example.", RecordType::SOA);
            let answer = asker.ask(wait, soa, |_| Dns::Found(vec![()]));
            if matches!(answer, Dns::Found(_)) {
                return;
            }
            let place = self.dir.path().display();
            assert!(Instant::now() < deadline, "nsd in {place} does not answer: {answer:?}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // the first process ends the others
        let order = format!("kill {}", self.child.id());
        let _ = Command::new("/bin/sh").args(["-c", &order]).status();
        let _ = self.child.wait();
    }
}

#[test]
fn only_what_is_vouched_for_is_found() {
    let Some(server) = Server::start() else { return };
    let asker = Asker::new().expect("an asker");
    server.answers(&asker);
    let anchors = TrustAnchors::from_file(&server.anchors).expect("anchors");
    let resolver = validating(server.builder(), Some(anchors)).expect("a resolver");
    let ask = |host: &str, port| tlsa(&asker, &resolver, host, port, Duration::from_secs(20));
    let found = Tlsa {
        usage: 3,
        selector: 1,
        matching: 1,
        data: vec![1; 32],
    };
    assert_eq!(ask("mx.example", 25), Dns::Found(vec![found.clone()]));
    assert_eq!(ask("mx.example.", 25), Dns::Found(vec![found]));
    // that there is none is signed, too
    assert!(matches!(ask("mx.example", 465), Dns::NoName | Dns::NoData));
    assert!(matches!(ask("nobody.example", 25), Dns::NoName | Dns::NoData));
    // it is known that nobody vouches for it
    assert_eq!(ask("mx.unsigned.example", 25), Dns::NoData);
    let forged = ask("forged.example", 25);
    assert!(matches!(forged, Dns::Failed(_)), "{forged:?}");
    // without the key nothing is vouched for, and the zone should be: the root's keys are not to be had here
    let strangers = validating(server.builder(), None).expect("a resolver");
    let unknown = tlsa(&asker, &strangers, "mx.example", 25, Duration::from_secs(20));
    assert!(matches!(unknown, Dns::Failed(_)), "{unknown:?}");
}
