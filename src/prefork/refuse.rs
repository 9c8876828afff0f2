//! Sending away a client that is not served.

use std::io::{Read, Write};
use std::net::Shutdown;

use socket2::Socket;

/// Writes `words` and closes, without ever waiting.
pub(super) fn refuse(mut stream: Socket, words: &[u8]) {
    if stream.set_nonblocking(true).is_err() {
        return;
    }
    // A new connection has room for a line; who has none has gone.
    let _ = stream.write(words).and_then(|_| stream.shutdown(Shutdown::Write));
    // Closing with bytes unread would send a reset, which takes the words back from the client.
    let mut unread = [0; 4096];
    let _ = stream.read(&mut unread);
}
