//! What a refresh sees, and what it leaves alone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::config::{Lines, Lookup, Map, Settings};

/// Two folders, `a` before `b`, and a lookup over them.
struct Site {
    root: TempDir,
    lookup: Lookup,
}

impl Site {
    fn with(files: &[(&str, &str)]) -> Site {
        let root = TempDir::new().expect("a folder");
        for dir in ["a", "b"] {
            fs::create_dir(root.path().join(dir)).expect("a folder");
        }
        let lookup = Lookup::with_dirs(vec![root.path().join("a"), root.path().join("b")]);
        let site = Site { root, lookup };
        files.iter().for_each(|(name, text)| site.write(name, text));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    fn cdb(&self, name: &str, key: &str) {
        let mut writer = cdb2::CDBWriter::create(self.path(name)).expect("a writer");
        writer.add(key.as_bytes(), b"").expect("room");
        writer.finish().expect("written");
    }

    /// The lines, joined by commas.
    fn now(&self, name: &str) -> String {
        let lines = self.lookup.lines(name);
        lines.iter().map(|line| &*line.text).collect::<Vec<_>>().join(",")
    }

    /// Whether a refresh moves the number of changes.
    fn refresh_moves(&self) -> bool {
        let before = self.lookup.changes();
        self.lookup.refresh();
        self.lookup.changes() != before
    }
}

#[test]
fn it_can_be_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Lookup>();
    shared::<Settings>();
    shared::<Map>();
    shared::<Lines>();
}

#[test]
fn an_edit_is_seen_by_the_next_refresh_and_not_before() {
    let site = Site::with(&[("a/x", "1")]);
    let before = site.lookup.lines("x");
    site.write("a/x", "2");
    assert_eq!(site.now("x"), "1");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "2");
    assert!(!before.same(&site.lookup.lines("x")));
}

#[test]
fn an_edit_of_the_same_size_in_the_same_instant_is_seen() {
    let site = Site::with(&[("a/x", "0")]);
    for n in 1..10 {
        site.lookup.refresh();
        site.write("a/x", &n.to_string());
        site.lookup.refresh();
        assert_eq!(site.now("x"), n.to_string());
    }
}

#[test]
fn what_reads_the_same_stays_the_same() {
    let site = Site::with(&[("a/x", "1\n")]);
    let before = site.lookup.lines("x");
    assert!(!site.refresh_moves());
    site.write("a/x", "1");
    assert!(!site.refresh_moves());
    assert!(before.same(&site.lookup.lines("x")));
}

#[test]
fn files_that_come_and_go_are_seen() {
    let site = Site::with(&[("b/x", "b")]);
    assert_eq!((site.now("x"), site.now("y")), ("b".into(), "".into()));
    assert!(site.lookup.exists("x") && !site.lookup.exists("y"));
    site.write("a/x", "a");
    site.write("b/y", "");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "a");
    assert!(site.lookup.exists("y"));
    fs::remove_file(site.path("a/x")).expect("removed");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "b");
}

#[test]
fn changes_of_included_files_and_folders_are_seen() {
    let site = Site::with(&[("a/x", "$include y\n$include parts\n$include later")]);
    assert_eq!(site.now("x"), "");
    site.write("b/y", "y");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "y");
    fs::create_dir(site.path("a/parts")).expect("a folder");
    site.write("a/parts/1", "one");
    assert!(site.refresh_moves());
    site.write("a/parts/2", "two");
    assert!(site.refresh_moves());
    site.write("b/later", "later");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "y,one,two,later");
}

#[test]
fn files_that_rest_are_not_read_again() {
    // These files are older than the test that was built from them.
    let site = Lookup::with_dirs(vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config")]);
    let before = site.lines("stamp.rs");
    let reads = site.readings();
    site.refresh();
    assert!(before.same(&site.lines("stamp.rs")));
    assert_eq!(site.readings(), reads);
}

/// Waits until a change of the folders would move their stamps, so that one look answers for what is missing.
fn settle(site: &Site) {
    let until = Instant::now() + Duration::from_secs(20);
    while !site.lookup.is_quiet() {
        assert!(Instant::now() < until, "the folders never settle");
        std::thread::park_timeout(Duration::from_millis(20));
        site.lookup.refresh();
    }
}

#[test]
fn what_comes_into_settled_folders_is_seen() {
    let site = Site::with(&[("b/x", "b")]);
    symlink(site.path("target"), site.path("a/link")).expect("a link");
    symlink(site.path("folder"), site.path("c")).expect("a link");
    let below = site.path("c/z");
    for name in ["x", "y", "link", below.to_str().expect("text"), "m"] {
        site.now(name);
    }
    settle(&site);
    site.write("target", "1");
    assert!(site.refresh_moves());
    assert_eq!(site.now("link"), "1", "a link that led nowhere");
    site.write("a/x", "a");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "a");
    fs::create_dir(site.path("folder")).expect("a folder");
    site.write("folder/z", "2");
    assert!(site.refresh_moves());
    assert_eq!(
        site.now(below.to_str().expect("text")),
        "2",
        "a folder that was not there"
    );
    assert!(site.lookup.map("m").expect("sound").is_empty());
    site.lookup.refresh();
    site.cdb("a/m.cdb", "k");
    assert!(site.refresh_moves());
    assert!(has(&site.lookup, "m", b"k"));
}

#[test]
fn a_cdb_wins_over_text_and_the_first_folder_over_others() {
    let site = Site::with(&[("a/m", "Text.example\n")]);
    assert!(has(&site.lookup, "m", b"text.example"));
    site.cdb("b/m.cdb", "b.example");
    assert!(site.refresh_moves());
    assert!(has(&site.lookup, "m", b"b.example"));
    assert!(!has(&site.lookup, "m", b"text.example"));
    site.cdb("a/m.cdb", "a.example");
    assert!(site.refresh_moves());
    assert!(has(&site.lookup, "m", b"a.example"));
    assert!(!site.refresh_moves());
    fs::remove_file(site.path("a/m.cdb")).expect("removed");
    fs::remove_file(site.path("b/m.cdb")).expect("removed");
    assert!(site.refresh_moves());
    site.write("a/m", "new.example");
    assert!(has(&site.lookup, "m", b"text.example"));
    assert!(site.refresh_moves());
    assert!(has(&site.lookup, "m", b"new.example"));
}

#[test]
fn a_damaged_cdb_is_a_fault() {
    let site = Site::with(&[("a/m.cdb", "no database"), ("b/m", "x")]);
    assert!(site.lookup.map("m").is_err());
    let faults = site.lookup.faults();
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0]
            .to_string()
            .ends_with("m.cdb: cannot read: not a constant database, or a truncated one")
    );
    site.cdb("a/m.cdb", "k");
    site.lookup.refresh();
    assert!(has(&site.lookup, "m", b"k"));
    assert_eq!(site.lookup.faults(), []);
}

#[test]
fn settings_are_built_once_per_change() {
    let site = Site::with(&[("b/databytes", "10")]);
    let first = site.lookup.settings();
    assert_eq!(first.databytes, 10);
    site.lookup.refresh();
    assert!(Arc::ptr_eq(&first, &site.lookup.settings()));
    site.write("a/databytes", "20x");
    site.lookup.refresh();
    assert_eq!(site.lookup.settings().databytes, 10, "what held before");
    let fault = site.lookup.faults().remove(0).to_string();
    let told = format!(
        "{}:1:1: '20x' is no whole number\n    20x\n    ^~~",
        site.path("a/databytes").display()
    );
    assert_eq!(fault, told);
    site.write("a/databytes", "30");
    site.lookup.refresh();
    assert_eq!(site.lookup.settings().databytes, 30);
    assert_eq!(site.lookup.faults(), []);
}

/// Whether a map has a key.
fn has(lookup: &Lookup, map: &str, key: &[u8]) -> bool {
    let map = lookup.map(map).expect("sound");
    map.get(key).expect("sound").is_some()
}

/// The headlines of what is wrong with a name.
fn error_of(site: &Site, name: &str) -> String {
    let root = format!("{}/", site.root.path().display());
    let fault = site.lookup.sound_lines(name).expect_err("cannot be read");
    fault.to_string().replace(&root, "")
}

#[test]
fn what_cannot_be_read_any_more_is_not_empty() {
    let site = Site::with(&[
        ("a/x", "1"),
        ("a/y", "$include part"),
        ("a/part", "2"),
        ("a/databytes", "10"),
    ]);
    for name in ["x", "y"] {
        assert!(site.lookup.sound_lines(name).is_ok_and(|lines| lines.len() == 1));
    }
    assert_eq!(site.lookup.settings().databytes, 10);
    for name in ["x", "part", "databytes"] {
        fs::remove_file(site.path("a").join(name)).expect("removed");
        fs::create_dir(site.path("a").join(name)).expect("a folder");
    }
    assert!(site.refresh_moves());
    assert_eq!(error_of(&site, "x"), "a/x: cannot read: is a directory");
    assert_eq!(error_of(&site, "databytes"), "a/databytes: cannot read: is a directory");
    assert_eq!(site.lookup.settings().databytes, 10, "what held before");
    // a folder that is included is one of files
    assert!(site.lookup.sound_lines("y").is_ok_and(|lines| lines.is_empty()));
    // the next folder has it
    site.write("b/x", "3");
    assert!(site.refresh_moves());
    assert_eq!(site.now("x"), "3");
    let large = fs::File::create(site.path("b/x")).expect("a file");
    large.set_len((16 << 20) + 1).expect("a size");
    assert!(site.refresh_moves());
    assert_eq!(error_of(&site, "x"), "b/x: cannot read: too large");
}

#[test]
fn a_database_that_cannot_be_read_any_more_is_not_empty() {
    let site = Site::with(&[]);
    site.cdb("a/m.cdb", "k");
    assert!(
        site.lookup
            .map("m")
            .expect("sound")
            .get(b"k")
            .is_ok_and(|value| value.is_some())
    );
    // nobody can look at what a link to itself leads to
    fs::remove_file(site.path("a/m.cdb")).expect("removed");
    symlink("m.cdb", site.path("a/m.cdb")).expect("a link");
    assert!(site.refresh_moves());
    assert!(site.lookup.map("m").is_err());
    fs::remove_file(site.path("a/m.cdb")).expect("removed");
    assert!(site.refresh_moves());
    assert!(site.lookup.map("m").is_ok_and(|map| map.is_empty()), "it is gone");
}

#[test]
fn what_nobody_can_look_at_is_not_missing() {
    let site = Site::with(&[("a/x", "1")]);
    assert_eq!(site.now("x"), "1");
    fs::remove_file(site.path("a/x")).expect("removed");
    symlink("x", site.path("a/x")).expect("a link");
    assert!(site.refresh_moves());
    assert!(error_of(&site, "x").starts_with("a/x: cannot read: "));
    let long = "x".repeat(300);
    assert!(site.lookup.sound_lines(&long).is_ok_and(|lines| lines.is_empty()));
}

#[test]
fn memory_needs_no_folders() {
    let lookup = Lookup::in_memory();
    assert_eq!(lookup.first("me"), None);
    assert!(!lookup.exists("rcpthosts"));
    lookup.set("me", &["mail.example.com"]);
    lookup.set("morercpthosts", &["one.example"]);
    assert_eq!(lookup.first("me").as_deref(), Some("mail.example.com"));
    assert_eq!(lookup.settings().me, "mail.example.com");
    assert!(has(&lookup, "morercpthosts", b"one.example"));
    lookup.set("morercpthosts", &["two.example"]);
    assert!(has(&lookup, "morercpthosts", b"two.example"));
    lookup.set_map("morercpthosts", &[("three.example", "x")]);
    assert_eq!(
        lookup.map("morercpthosts").expect("sound").get(b"three.example"),
        Ok(Some(b"x".to_vec()))
    );
    lookup.refresh();
    assert_eq!(lookup.first("me").as_deref(), Some("mail.example.com"));
}

#[test]
fn files_without_a_name_are_read_by_the_same_rules() {
    let site = Site::with(&[("a/users", "# none\n x \n$include y"), ("b/y", "y")]);
    let lines = site
        .lookup
        .read_path(&site.path("a/users"))
        .expect("sound")
        .expect("there");
    assert_eq!(lines.iter().map(|line| &*line.text).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(site.lookup.read_path(&site.path("a/nobody")), Ok(None));
}

#[test]
fn the_files_behind_the_answers_are_known() {
    let site = Site::with(&[("a/x", "$include y"), ("b/y", "y")]);
    site.now("x");
    site.now("missing");
    assert_eq!(site.lookup.files_read(), [site.path("a/x"), site.path("b/y")]);
}

#[test]
fn threads_may_ask_while_another_refreshes() {
    let site = Site::with(&[("a/x", "0"), ("a/databytes", "0")]);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(site.lookup.lines("x").len(), 1);
                    site.lookup.settings();
                    site.lookup.refresh();
                }
            });
        }
        for n in 0..50 {
            // Replaced whole, as an editor does it.
            site.write("a/x.new", &n.to_string());
            fs::rename(site.path("a/x.new"), site.path("a/x")).expect("renamed");
        }
    });
    site.lookup.refresh();
    assert_eq!(site.now("x"), "49");
}
