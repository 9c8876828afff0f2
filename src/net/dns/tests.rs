//! What many threads that ask at the same time can rely on, with a name server that answers when it is told to.

use std::net::{SocketAddr, UdpSocket};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use hickory_resolver::config::ConnectionConfig;
use hickory_resolver::proto::rr::RecordType;

use super::*;

/// Longer than anything here may take.
const WAIT: Duration = Duration::from_secs(20);

#[test]
fn loopback_needs_no_server() {
    let name = SystemDns.reverse(IpAddr::from([127, 0, 0, 9]), Duration::ZERO);
    assert_eq!(name, Dns::Found(vec!["localhost".to_owned()]));
}

#[test]
fn all_threads_ask_with_the_same() {
    let here = asker().expect("an asker");
    let there = thread::spawn(asker).join().expect("a thread").expect("an asker");
    assert!(Arc::ptr_eq(&here, &there));
}

/// A name server that answers only what it is told to.
struct Server {
    socket: UdpSocket,
    /// First label, reply, and who asked.
    asked: Vec<(String, Vec<u8>, SocketAddr)>,
}

impl Server {
    fn start() -> Server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        // of whoever looks whether the answer has arrived
        let look = Duration::from_millis(20);
        socket.set_read_timeout(Some(look)).expect("a time-out");
        Server {
            socket,
            asked: Vec::new(),
        }
    }

    fn asker(&self) -> Asker {
        let at = self.socket.local_addr().expect("an address");
        let mut server = NameServerConfig::new(at.ip(), true, vec![ConnectionConfig::udp()]);
        server.connections.iter_mut().for_each(|way| way.port = at.port());
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        Asker::with(Hickory::builder_with_config(config, TokioRuntimeProvider::default())).expect("an asker")
    }

    /// Takes a question, if one comes soon.
    fn take(&mut self) {
        let mut buffer = [0; 1500];
        let Ok((length, client)) = self.socket.recv_from(&mut buffer) else {
            return;
        };
        let question = &buffer[..length];
        let label = &question[13..13 + usize::from(question[12])];
        let name = question[12..].iter().position(|byte| *byte == 0).expect("a name");
        // the question without what follows it
        let mut reply = question[..12 + name + 5].to_vec();
        // an answer, recursion available, no error; one question, one answer
        reply[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
        // that name, A, IN, an hour, 4 bytes
        reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, 1]);
        let label = String::from_utf8_lossy(label).to_lowercase();
        self.asked.push((label, reply, client));
    }

    /// Until somebody has asked for the name.
    fn is_asked(&mut self, name: &str) {
        let deadline = Instant::now() + WAIT;
        while !self.asked.iter().any(|(label, _, _)| label == name) {
            assert!(Instant::now() < deadline, "nobody asks for {name}");
            self.take();
        }
    }

    /// Answers those who ask for the name, until `done`.
    fn answer(&mut self, name: &str, done: impl Fn() -> bool) {
        while !done() {
            for (_, reply, client) in self.asked.extract_if(.., |(label, _, _)| label == name) {
                self.socket.send_to(&reply, client).expect("sent");
            }
            self.take();
        }
    }
}

type Asking<'a> = ScopedJoinHandle<'a, Dns<()>>;

#[test]
fn who_waits_for_an_answer_holds_up_nobody() {
    let mut server = Server::start();
    let asker = &server.asker();
    thread::scope(|scope| {
        let begin = |server: &mut Server, name: &'static str| -> Asking<'_> {
            let question = asker.resolver.lookup(format!("{name}.example."), RecordType::A);
            let asking = scope.spawn(move || asker.ask(WAIT, question, |_| Dns::Found(vec![()])));
            server.is_asked(name);
            asking
        };
        let end = |server: &mut Server, name: &str, asking: Asking<'_>| {
            server.answer(name, || asking.is_finished());
            assert_eq!(asking.join().expect("no panic"), Dns::Found(vec![()]), "{name}");
        };
        let first = begin(&mut server, "first");
        let second = begin(&mut server, "second");
        end(&mut server, "second", second);
        // the first has driven the runtime so far, and leaves
        let third = begin(&mut server, "third");
        end(&mut server, "first", first);
        end(&mut server, "third", third);
    });
}
