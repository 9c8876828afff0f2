//! A client that speaks SMTP in clear or over TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::Site;
use crate::place::file;
use crate::process::PATIENCE;

enum Stream {
    Clear(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.read(buffer),
            Stream::Encrypted(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Clear(stream) => stream.write(bytes),
            Stream::Encrypted(stream) => stream.write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Clear(stream) => stream.flush(),
            Stream::Encrypted(stream) => stream.flush(),
        }
    }
}

/// A client.
pub struct Client(Stream);

/// What a client does in its handshake.
pub fn settings(site: &Site, shows: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(file(site, "ssl/qpsmtpd-ca.crt")).expect("the CA");
    roots.add(ca).expect("a root");
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match shows {
        false => builder.with_no_client_auth(),
        true => {
            let own = CertificateDer::from_pem_file(file(site, "ssl/qpsmtpd-server.crt")).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(file(site, "ssl/qpsmtpd-server.key")).expect("a key");
            builder.with_client_auth_cert(vec![own], key).expect("a pair")
        }
    }
}

impl Client {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect_timeout(&address, PATIENCE).expect("connect"))
    }

    /// A client over a connection that is there.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(PATIENCE)).expect("time-out");
        Client(Stream::Clear(stream))
    }

    /// Shakes hands.
    pub fn encrypt(self, settings: ClientConfig) -> Client {
        self.try_encrypt(settings).expect("a handshake")
    }

    /// Shakes hands, or says why not.
    pub fn try_encrypt(self, settings: ClientConfig) -> io::Result<Client> {
        let Stream::Clear(mut socket) = self.0 else {
            panic!("it is encrypted already")
        };
        let name = ServerName::try_from("mx.example.com").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(settings), name).expect("a client");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket)?;
        }
        Ok(Client(Stream::Encrypted(Box::new(StreamOwned::new(tls, socket)))))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("sent");
        self.0.flush().expect("sent");
    }

    /// The next reply, its lines joined by `\n`; empty if the connection has ended.
    pub fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let line = self.line();
            text.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return text;
            }
            text.push('\n');
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\r\n") {
            match self.0.read(&mut byte) {
                Ok(1) => line.push(byte[0]),
                _ => break,
            }
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    /// Sends a command and expects a reply that begins so.
    #[track_caller]
    pub fn expect(&mut self, start: &str, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        let reply = self.reply();
        assert!(reply.starts_with(start), "{command}: {reply:?}");
        reply
    }

    /// Greeted, and EHLO said; gives the reply to it.
    pub fn greeted(&mut self) -> String {
        assert!(self.reply().starts_with("220 "));
        self.expect("250", "EHLO client.example.net")
    }

    /// From a clear connection that has been greeted to an encrypted one.
    pub fn starttls(mut self, settings: ClientConfig) -> Client {
        self.expect("220 ", "STARTTLS");
        self.encrypt(settings)
    }

    /// Sends a message to a recipient.
    pub fn message(&mut self, recipient: &str) {
        self.expect("250 ", "MAIL FROM:<sender@example.net>");
        self.expect("250 ", &format!("RCPT TO:<{recipient}>"));
        self.expect("354 ", "DATA");
        self.expect("250 ", "Subject: x\r\n\r\ntext\r\n.");
    }

    /// All that still comes until the server closes.
    pub fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // a reset says the same as an end
        let _ = self.0.read_to_end(&mut rest);
        rest
    }
}
