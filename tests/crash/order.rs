//! What kill -9 cannot show, because the kernel lives on: the order in which things reach the disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;

use crate::matrix::reference;
use crate::place::Place;
use crate::rights::inside;
use crate::scene;

/// What a power failure would take from the maildirs.
struct Disk<'a> {
    site: &'a Path,
    /// The files and folders that descriptors lead to, below the site.
    open: HashMap<String, PathBuf>,
    /// Files with something in them, and folders with entries, that have not been synced since.
    unsynced: BTreeSet<PathBuf>,
    /// How many files each folder `new` has got.
    published: BTreeMap<PathBuf, usize>,
    /// The answers to messages.
    answers: usize,
}

impl<'a> Disk<'a> {
    /// The disk of a worker that keeps some folders open.
    fn of(site: &'a Path, worker: Pid) -> Disk<'a> {
        let mut disk = Disk {
            site,
            open: HashMap::new(),
            unsynced: BTreeSet::new(),
            published: BTreeMap::new(),
            answers: 0,
        };
        let entries = fs::read_dir(format!("/proc/{worker}/fd")).expect("descriptors");
        for entry in entries.flatten() {
            // one that has been closed meanwhile leads nowhere
            if let (Ok(path), Ok(number)) = (fs::read_link(entry.path()), entry.file_name().into_string()) {
                disk.open.insert(number, disk.below(&path));
            }
        }
        disk
    }

    /// A path as it is below the site.
    fn below(&self, path: &Path) -> PathBuf {
        path.strip_prefix(self.site)
            .unwrap_or(path)
            .components()
            .filter(|part| *part != Component::CurDir)
            .collect()
    }

    /// Something has changed that is to be synced if it belongs to a maildir.
    fn change(&mut self, path: &Path) {
        if path.starts_with("disk") && !path.starts_with("disk/spool") {
            self.unsynced.insert(path.to_owned());
        }
    }

    /// There is another entry in the folder of this path.
    fn enter(&mut self, path: &Path) {
        self.change(path.parent().expect("a folder"));
    }

    /// Follows a call that has succeeded.
    ///
    /// # Panics
    /// If a file becomes visible, or a message is answered, before all that belongs to it is on the disk.
    fn follow(&mut self, line: &str) {
        let Some((call, rest)) = line.split_once('(') else {
            return;
        };
        let Some((arguments, result)) = rest.rsplit_once(" = ").filter(|(_, result)| !result.starts_with('-')) else {
            return;
        };
        let words: Vec<&str> = arguments.trim_end().trim_end_matches(')').split(", ").collect();
        let mut paths = arguments
            .split('"')
            .skip(1)
            .step_by(2)
            .map(|path| self.below(path.as_ref()));
        match call {
            "openat" => {
                let path = paths.next().expect("a path");
                if arguments.contains("O_CREAT") {
                    self.change(&path);
                }
                self.open.insert(result.to_owned(), path);
            }
            "mkdir" => {
                let path = paths.next().expect("a path");
                self.enter(&path);
            }
            "write" | "writev" | "sendfile" | "copy_file_range" | "splice" => {
                let at = if matches!(call, "copy_file_range" | "splice") {
                    2
                } else {
                    0
                };
                if let Some(path) = self.open.get(words[at]).cloned() {
                    self.change(&path);
                }
            }
            "fsync" => {
                self.unsynced.remove(&self.open[words[0]]);
            }
            "rename" => {
                let (from, to) = (paths.next().expect("a path"), paths.next().expect("a path"));
                assert!(!self.unsynced.contains(&from), "moved before it is synced: {line}");
                self.enter(&to);
                *self.published.entry(to.with_file_name("")).or_default() += 1;
            }
            "sendto" if arguments.contains("Queued!") => {
                assert!(
                    self.unsynced.is_empty(),
                    "answered before it is synced: {:?}",
                    self.unsynced
                );
                self.answers += 1;
            }
            _ => {}
        }
    }
}

#[test]
fn the_answer_comes_after_the_disk() {
    if !inside("order::the_answer_comes_after_the_disk") {
        return;
    }
    for scene in [&scene::PLAIN, &scene::SMALL, &scene::RECIPIENTS] {
        let mut place = Place::new(scene);
        let out = place.path().join("trace");
        for is_new in [false, true] {
            place.warm_up();
            if is_new {
                // the worker may make what is below the plugin's directory, which has been there all along
                let entries = fs::read_dir(place.disk().join("Maildir")).expect("the maildir");
                entries.for_each(|entry| fs::remove_dir_all(entry.expect("an entry").path()).expect("remove"));
            }
            let site = place.path().to_owned();
            let mut disk = Disk::of(&site, place.worker());
            let (_, text) = reference(&place, &out);
            text.lines().for_each(|line| disk.follow(line));
            assert_eq!(disk.answers, 1, "{text}");
            let folders = scene.boxes().into_iter();
            let expected = folders.map(|name| (Path::new("disk/Maildir").join(name).join("new/"), 1));
            assert_eq!(disk.published, expected.collect(), "{text}");
            let made = text
                .lines()
                .filter(|line| line.starts_with("mkdir(") && line.ends_with(" = 0"));
            assert_eq!(made.count() > 0, is_new, "{text}");
        }
    }
}
