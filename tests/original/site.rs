//! A configuration that both serve as it is: a folder `config`, and a working directory for each of them.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::conversations::PEER;
use crate::harness::{Daemon, Site};
use crate::perl::{Original, Perl};
use crate::script::Script;
use crate::wire::{Side, play};

/// Makes the folder, with what all configurations of these tests have: a name, where the original finds plugins, and no
/// waiting after failed logins. The user who serves may write into the working directories.
pub fn site(perl: &Perl, settings: &[(String, Vec<String>)], plugins: &[String]) -> Site {
    let site = Site::empty();
    // the original does not make its spool where spool_perms is set
    for (name, mode) in [
        ("config", 0o755),
        ("original", 0o777),
        ("original/tmp", 0o700),
        ("ours", 0o777),
    ] {
        std::fs::create_dir(site.path().join(name)).expect("a folder");
        std::fs::set_permissions(site.path().join(name), Permissions::from_mode(mode)).expect("permissions");
    }
    let scripted = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/original/plugins");
    let folders = format!("{}\n{}\n", perl.plugins.display(), scripted.display());
    site.config("me", "mx.example.org\n")
        .config("loglevel", "6\n")
        .config("auth_delay", "0\n");
    site.config("plugin_dirs", &folders).config("plugins", &lines(plugins));
    for (name, text) in settings {
        site.config(name, &lines(text));
    }
    site
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The original, serving a site.
pub fn original(perl: &Perl, site: &Site) -> Original {
    Original::serve(perl, &site.path().join("config"), &site.path().join("original"))
}

/// Our daemon, serving a site; it keeps the directory.
pub fn ours(site: Site) -> Daemon {
    let mut command = site.program("qpsmtpd-forkserver");
    command
        .current_dir(site.path().join("ours"))
        .env("QPSMTPD_CONFIG", site.path().join("config"));
    command.args(["--no-rdns", "--listen-address", "127.0.0.1:0"]);
    Daemon::run(site, &mut command)
}

/// Both, serving one configuration.
pub struct Both {
    /// The original.
    pub original: Original,
    /// Our daemon, which keeps the directory.
    pub ours: Daemon,
}

impl Both {
    /// With these settings and plugins.
    pub fn serve(perl: &Perl, settings: &[(&str, &str)], plugins: &[&str]) -> Self {
        let split = |text: &str| text.lines().map(str::to_owned).collect();
        let settings: Vec<_> = settings
            .iter()
            .map(|(name, text)| ((*name).to_owned(), split(text)))
            .collect();
        let plugins: Vec<_> = plugins.iter().map(|line| (*line).to_owned()).collect();
        let site = site(perl, &settings, &plugins);
        Self {
            original: original(perl, &site),
            ours: ours(site),
        }
    }

    /// Plays a conversation with both; all must go as written.
    pub fn play(&self, text: &str) {
        let script = Script::parse("conversation", text).unwrap_or_else(|why| panic!("{why}"));
        for (side, address) in self.sides() {
            let played = play(&script, side, PEER.into(), address);
            assert!(played.wrong.is_empty(), "{side:?}:\n{}", played.wrong.join("\n"));
        }
    }

    /// Where each listens.
    pub fn sides(&self) -> [(Side, SocketAddr); 2] {
        [
            (Side::Original, self.original.address),
            (Side::Ours, self.ours.addresses[0]),
        ]
    }

    /// The working directory of one.
    pub fn place(&self, side: Side) -> PathBuf {
        self.ours.site.path().join(match side {
            Side::Original => "original",
            Side::Ours => "ours",
        })
    }
}

/// A message as it lies in a maildir: what queue/maildir has put before it, and the rest.
pub struct Delivered {
    /// `<sender> to <recipient> <recipient>`
    pub envelope: String,
    pub text: Vec<u8>,
}

/// Takes the messages out of `Maildir` in a working directory, in the order of their arrival.
pub fn delivered(place: &Path) -> Vec<Delivered> {
    let Ok(entries) = std::fs::read_dir(place.join("Maildir/new")) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort_by_cached_key(|path| arrival(path));
    let take = |path: PathBuf| {
        let text = std::fs::read(&path).expect("a message");
        std::fs::remove_file(&path).expect("remove");
        taken_apart(&text)
    };
    files.into_iter().map(take).collect()
}

/// When it came, by its name: `SECONDS.PpidMmicrosecondsQcounter.host`.
fn arrival(path: &Path) -> Vec<u64> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let (seconds, rest) = name.split_once('.').unwrap_or_default();
    let numbers = rest.split(|c: char| !c.is_ascii_digit()).skip(2).take(2);
    std::iter::once(seconds)
        .chain(numbers)
        .map(|number| number.parse().unwrap_or_default())
        .collect()
}

/// Takes the lines off that tell the envelope.
fn taken_apart(text: &[u8]) -> Delivered {
    let (mut sender, mut recipients, mut rest) = (String::new(), Vec::new(), text);
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]);
        match line.split_once(": ") {
            Some(("Return-Path", value)) => sender = value.to_owned(),
            Some(("Delivered-To", value)) => recipients.push(format!("<{value}>")),
            _ => break,
        }
        rest = &rest[end + 1..];
    }
    // each was put above the one before
    recipients.reverse();
    Delivered {
        envelope: format!("{sender} to {}", recipients.join(" ")),
        text: usual(rest),
    }
}

/// The message as all compare it, but for the date and the release. Without a look at the DNS we call a client by its
/// address, the original calls it `Unknown`, as the conversation files do. Authentication-Results stands above Received,
/// where releases after 0.94 have it, and we (catalogue 1.5).
pub fn usual(text: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = text
        .split_inclusive(|byte| *byte == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    let trace = |line: &[u8]| line.starts_with(b"Received: from ") || line.starts_with(b" by ");
    let below = lines.iter().position(|line| !trace(line));
    if let Some(at) = below.filter(|at| lines[*at].starts_with(b"Authentication-Results:")) {
        let results = lines.remove(at);
        lines.insert(0, results);
    }
    for line in &mut lines {
        if let Some(rest) = line.strip_prefix(b"Received: from [127.0.2.7]") {
            *line = [b"Received: from Unknown", rest].concat();
        }
    }
    lines.concat()
}
