//! Configuration files that are spoilt while the daemon runs, every file of every plugin in every way: nobody is let in
//! because a list cannot be read.
//!
//! What a file says then is not known. Whoever asks for it fails, which is logged with the plugin and the path, and the
//! client is asked to try again; nothing gets another answer than before but one of 4xx.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use qpsmtpd::config::{Fault, Kind, Lines, Lookup, setting};
use qpsmtpd::plugin::{Declaration, Extensions, Loaded, load_line};
use qpsmtpd::plugins::REGISTER;

use super::caller::{Seen, talk};
use super::cast;

/// What the files say while they are sound: nothing that keeps this client or its message out.
pub const SOUND: [(&str, &str); 21] = [
    ("auth_clientcerts", "client.example.net x@example.com"),
    ("badmailfrom", "bad@x.example"),
    ("badmailfrom_patterns", "^bad@"),
    ("badmailfromto", "bad@x.example y@example.com"),
    ("badrcptto", "bad@example.com"),
    ("badrcptto_patterns", "^bad@"),
    ("flat_auth_pw", "y@example.com:pw"),
    ("hosts_allow", "203.0.113.1 DENY"),
    ("ldap", "ldap_base dc=example"),
    ("morercpthosts", "example.net"),
    ("morerelayclients", "203.0.113.2"),
    ("norelayclients", "203.0.113.3"),
    ("rcpt_regexp", "/^bad@/ DENY"),
    ("rcpthosts", "example.org"),
    (
        "relay_clientcerts",
        "9F86D081884C7D659A2FEAA0C55AD015A3BF4F1B2B0B822CD15D6C15B0F00A08",
    ),
    ("relayclients", "203.0.113.4"),
    ("smtpauth-checkpassword", "/bin/true /bin/true"),
    ("tls_ciphers", "HIGH"),
    ("tls_protocols", "TLSv1_3"),
    ("vpopmail_mysql_dsn", "dbi:mysql:dbname=vpopmail;host=192.0.2.1"),
    ("vpopmail_mysql_user", "x"),
];

/// Files that are asked for only while a plugin is being loaded.
const ONCE: [&str; 4] = ["ldap", "smtpauth-checkpassword", "tls_ciphers", "tls_protocols"];

/// What becomes of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    /// It is gone, which only a few files may not be.
    Gone,
    /// A folder is in its place.
    Folder,
    /// A pipe that nobody writes into.
    Pipe,
    /// A link to itself, at which nobody can look.
    Loop,
    /// More than is read.
    Huge,
    /// What it includes cannot be read.
    Include,
    /// The bytes of a database, and no database.
    Damaged,
}

impl Spoil {
    const TEXTS: [Spoil; 5] = [Spoil::Folder, Spoil::Pipe, Spoil::Loop, Spoil::Huge, Spoil::Include];
    const DATABASES: [Spoil; 3] = [Spoil::Pipe, Spoil::Loop, Spoil::Damaged];

    pub fn put(self, path: &Path) {
        let _ = fs::remove_file(path);
        match self {
            Spoil::Gone => {}
            Spoil::Folder => fs::create_dir(path).expect("a folder"),
            Spoil::Pipe => nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe"),
            Spoil::Loop => symlink(path, path).expect("a link"),
            Spoil::Huge => {
                let file = fs::File::create(path).expect("a file");
                file.set_len((16 << 20) + 1).expect("a size");
            }
            Spoil::Include => {
                let part = path.with_extension("part");
                Spoil::Pipe.put(&part);
                fs::write(path, format!("$include {}\n", part.display())).expect("written");
            }
            Spoil::Damaged => fs::write(path, [0xff; 4000]).expect("written"),
        }
    }
}

/// A folder of configuration in which the files of a plugin are sound.
struct Site {
    folder: tempfile::TempDir,
    plugin: &'static Declaration,
}

impl Site {
    fn of(plugin: &'static Declaration) -> Site {
        let folder = tempfile::tempdir().expect("a folder");
        for name in files(plugin) {
            let sound = SOUND.iter().find(|(file, _)| *file == name);
            let text = sound.map_or("x", |(_, text)| text);
            fs::write(folder.path().join(name), format!("{text}\n")).expect("written");
        }
        Site { folder, plugin }
    }

    /// The configuration, and the plugin if it can be loaded with it.
    fn load(&self) -> (Arc<Lookup>, Result<Loaded, Vec<Fault>>) {
        let lookup = Arc::new(Lookup::with_dirs(vec![self.folder.path().to_owned()]));
        let lines = Lines::of("config/plugins", [self.plugin.name]);
        let mut faults = Vec::new();
        let loaded = load_line(&lines[0], &lookup, &REGISTER, &mut faults);
        faults.extend(lookup.faults());
        let loaded = match loaded {
            Some(loaded) if !faults.iter().any(Fault::is_error) => Ok(loaded),
            _ => Err(faults),
        };
        (lookup, loaded)
    }

    /// A session in which a file is spoilt before something is said; at once, if that is nothing.
    fn session(&self, spoil: Option<(&'static str, Spoil, String)>) -> Seen {
        let (lookup, loaded) = self.load();
        let plugin = loaded.unwrap_or_else(|faults| panic!("{}: {faults:?}", self.plugin.name));
        let mut meanwhile = None;
        if let Some((before, spoil, file)) = spoil {
            let (path, lookup) = (self.folder.path().join(file), lookup.clone());
            let happens = move || {
                spoil.put(&path);
                lookup.refresh();
            };
            match before {
                "" => happens(),
                before => meanwhile = Some((before, Box::new(happens) as _)),
            }
        }
        talk(lookup, meanwhile, |queue| {
            let takes_all = cast::scripted("rcpt OK").expect("a line");
            vec![plugin, takes_all, cast::keeper(queue.clone(), Extensions::default())]
        })
    }
}

/// The files of a plugin that are not the core's as well.
fn files(plugin: &'static Declaration) -> impl Iterator<Item = &'static str> {
    plugin.files.iter().copied().filter(|file| *file != "me")
}

/// What is wrong with a session after something was spoilt, as compared with one without that.
fn judge(name: &str, file: &str, before: &Seen, after: &Seen) -> Result<(), String> {
    // the first digit
    let code = |seen: &Seen, at: usize| {
        seen.replies
            .get(at)
            .map_or(' ', |(_, reply)| reply.chars().next().unwrap_or(' '))
    };
    let lengths = before.replies.len().min(after.replies.len());
    // what is offered may be other, and so what is not
    let other: Vec<usize> = (0..lengths)
        .filter(|at| code(before, *at) != code(after, *at))
        .collect();
    let is_soft = (0..after.replies.len()).any(|at| code(after, at) == '4');
    let none_let_in = other
        .iter()
        .all(|at| code(after, *at) != '2' && code(after, *at) != '3');
    let first_is_soft = other.first().is_none_or(|at| code(after, *at) == '4');
    let same_end = before.replies.len() == after.replies.len();
    if !is_soft || !none_let_in || !first_is_soft || !(same_end || after.queued == 0) {
        return Err("not put off".to_owned());
    }
    let log_name = name.replace('/', "::");
    let tells = |line: &&String| line.contains(&log_name) && line.contains(file) && line.contains("cannot");
    match after.log.iter().any(|line| tells(&line)) {
        true => Ok(()),
        false => Err("the log does not tell".to_owned()),
    }
}

#[test]
fn a_file_that_is_spoilt_lets_nobody_in() {
    cast::hush();
    let (mut tried, mut wrong) = (0, Vec::new());
    for plugin in REGISTER.plugins.iter().filter(|plugin| !plugin.files.is_empty()) {
        let healthy = Site::of(plugin).session(None);
        for file in files(plugin) {
            let texts = Spoil::TEXTS.map(|spoil| (spoil, file.to_owned()));
            let databases = Spoil::DATABASES.map(|spoil| (spoil, format!("{file}.cdb")));
            let is_map = setting(file).is_some_and(|setting| setting.kind == Kind::Map);
            let databases = databases.into_iter().filter(|_| is_map);
            for (spoil, path) in texts.into_iter().chain(databases) {
                tried += 1;
                let mut blame = |why: String| wrong.push(format!("{}: {path} {spoil:?}: {why}", plugin.name));
                let site = Site::of(plugin);
                if spoil == Spoil::Loop && path.ends_with(".cdb") {
                    // only what was a database is one though nobody can look at it
                    let mut writer = cdb2::CDBWriter::create(site.folder.path().join(&path)).expect("a writer");
                    writer.add(b"nobody.example", b"").expect("room");
                    writer.finish().expect("written");
                }
                if !ONCE.contains(&file) {
                    let seen = site.session(Some(("", spoil, path.clone())));
                    if let Err(why) = judge(plugin.name, file, &healthy, &seen) {
                        blame(format!("{why}\n{:#?}\n{:#?}", seen.replies, seen.log));
                    }
                }
                let site = Site::of(plugin);
                spoil.put(&site.folder.path().join(&path));
                if spoil != Spoil::Loop && site.load().1.is_ok() {
                    blame("loaded all the same".to_owned());
                }
            }
        }
    }
    assert!(tried > 50, "{tried}");
    assert!(wrong.is_empty(), "of {tried}:\n{}", wrong.join("\n"));
}

#[test]
fn a_file_that_is_spoilt_during_a_session_lets_nobody_in() {
    cast::hush();
    for (name, file, before, code) in [
        ("badmailfrom", "badmailfrom", "MAIL", "450"),
        ("badrcptto", "badrcptto", "RCPT", "450"),
        ("badmailfromto", "badmailfromto", "RCPT", "450"),
        ("rcpt_regexp", "rcpt_regexp", "RCPT", "450"),
        ("rcpt_ok", "rcpthosts", "RCPT", "450"),
        ("rcpt_ok", "morercpthosts", "RCPT", "450"),
        ("auth/auth_flat_file", "flat_auth_pw", "AUTH PLAIN", "454"),
    ] {
        let plugin = REGISTER.find(name).expect("a plugin").0;
        for spoil in Spoil::TEXTS {
            let seen = Site::of(plugin).session(Some((before, spoil, file.to_owned())));
            let all = format!("{name}, {spoil:?}: {:#?}\n{:#?}", seen.replies, seen.log);
            assert!(seen.answered(before, code), "{all}");
            assert!(code == "454" || seen.queued == 0, "{all}");
            // what came before was served
            assert!(seen.answered("EHLO", "250"), "{all}");
        }
    }
}

/// Does something as a user who is not root, in a thread of its own.
fn as_anybody(act: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            if nix::unistd::geteuid().is_root() {
                nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            }
            act();
        });
        done.join().expect("done");
    });
}

#[test]
fn a_folder_that_is_shut_hides_nothing_that_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    };
    mode(folder.path(), 0o755);
    let config = folder.path().join("config");
    fs::create_dir(&config).expect("a folder");
    fs::write(config.join("x"), "1\n").expect("written");
    let lookup = Lookup::with_dirs(vec![config.clone()]);
    let lines = |name: &str| lookup.sound_lines(name).map(|lines| lines.len());
    assert_eq!((lines("x"), lines("none")), (Ok(1), Ok(0)));
    mode(&config, 0o000);
    as_anybody(|| {
        for _ in 0..2 {
            lookup.refresh();
            let why = lines("x").expect_err("shut").to_string();
            let told = format!("{}: cannot look into this folder: ", config.display());
            assert!(why.starts_with(&told), "{why}");
            // what was not there is not missed
            assert_eq!(lines("none"), Ok(0));
        }
        assert!(lookup.map("none").is_ok_and(|map| map.is_empty()));
    });
    mode(&config, 0o755);
    as_anybody(|| {
        lookup.refresh();
        assert_eq!(lines("x"), Ok(1));
    });
}
