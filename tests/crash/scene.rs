//! The scenes in which faults are tried: how a client speaks, and where its message goes.

/// Where messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// One maildir for all.
    Maildir,
    /// A maildir for each recipient.
    MaildirEach,
    /// A program with the interface of qmail-queue.
    Qmail,
    /// A next server, over a connection that is made anew for each message.
    Forward,
    /// A server of LMTP, over a connection that is kept.
    Lmtp,
}

/// A scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    /// Its name in the tables.
    pub name: &'static str,
    /// Whether the client speaks TLS.
    pub tls: bool,
    /// How many sessions a worker serves at a time. If several, two neighbours are there when the fault comes.
    pub sessions: usize,
    /// Whom messages are for.
    pub recipients: &'static [&'static str],
    /// Whether they are sent by BDAT.
    pub chunks: bool,
    /// Their size in bytes.
    pub size: usize,
    /// In how many pieces they are sent.
    pub pieces: usize,
    /// From which size on they pass through the spool, in bytes.
    pub threshold: u32,
    /// How many come in the session.
    pub messages: usize,
    /// Where they go.
    pub queue: Queue,
}

/// One message, large enough for a file in the spool, in clear, into a maildir.
pub const PLAIN: Scene = Scene {
    name: "plain",
    tls: false,
    sessions: 1,
    recipients: &["user@example.com"],
    chunks: false,
    size: 150_000,
    pieces: 3,
    threshold: 0,
    messages: 1,
    queue: Queue::Maildir,
};

pub const SMALL: Scene = Scene {
    name: "small",
    size: 1000,
    pieces: 1,
    threshold: 10_000,
    ..PLAIN
};

pub const TLS: Scene = Scene {
    name: "TLS",
    tls: true,
    ..PLAIN
};

pub const CHUNKS: Scene = Scene {
    name: "BDAT",
    chunks: true,
    ..PLAIN
};

pub const RECIPIENTS: Scene = Scene {
    name: "two recipients",
    recipients: &["user@example.com", "two@example.com"],
    queue: Queue::MaildirEach,
    ..SMALL
};

pub const MESSAGES: Scene = Scene {
    name: "two messages",
    messages: 2,
    ..SMALL
};

pub const SESSIONS: Scene = Scene {
    name: "three sessions",
    sessions: 4,
    ..PLAIN
};

pub const QMAIL: Scene = Scene {
    name: "qmail-queue",
    queue: Queue::Qmail,
    ..PLAIN
};

pub const FORWARD: Scene = Scene {
    name: "smtp-forward",
    recipients: RECIPIENTS.recipients,
    queue: Queue::Forward,
    ..PLAIN
};

pub const LMTP: Scene = Scene {
    name: "lmtp",
    queue: Queue::Lmtp,
    ..SMALL
};

pub const TOGETHER: Scene = Scene {
    name: "together",
    tls: true,
    chunks: true,
    sessions: 4,
    messages: 2,
    pieces: 2,
    ..LMTP
};

impl Scene {
    /// The line of config/plugins that takes the messages; `next` is the port of the next server.
    pub fn line(&self, site: &std::path::Path, next: u16) -> String {
        match self.queue {
            Queue::Maildir => "queue/maildir ./disk/Maildir".to_owned(),
            Queue::MaildirEach => "queue/maildir ./disk/Maildir %d/%l".to_owned(),
            Queue::Qmail => format!("queue/qmail-queue {}/qmail-queue", site.display()),
            Queue::Forward => format!("queue/smtp-forward 127.0.0.1 {next} keep 0 rest 0"),
            Queue::Lmtp => format!("queue/lmtp 127.0.0.1:{next}"),
        }
    }

    /// Whether another server takes the messages.
    pub fn has_next(&self) -> bool {
        matches!(self.queue, Queue::Forward | Queue::Lmtp)
    }

    /// The folders of maildirs below that of all.
    pub fn boxes(&self) -> Vec<String> {
        match self.queue {
            Queue::Maildir | Queue::Qmail => vec![String::new()],
            Queue::MaildirEach => {
                let parts = self.recipients.iter().filter_map(|one| one.split_once('@'));
                parts.map(|(local, domain)| format!("{domain}/{local}")).collect()
            }
            Queue::Forward | Queue::Lmtp => Vec::new(),
        }
    }
}
