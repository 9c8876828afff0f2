//! Tests of the writer: names, sessions, rotation, several processes, commands.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A started writer into `path`; the options are `nosplit`, `reopen` and `prefix`.
fn writer(path: &Path, options: &str) -> Arc<Writer> {
    let writer = Writer::new(Target::new(&path.to_string_lossy()).unwrap(), style(options));
    assert_eq!(writer.start(), Ok(()));
    Arc::new(writer)
}

fn style(options: &str) -> Style {
    Style {
        time: TimeFormat::new("T%s").unwrap(),
        nosplit: options.contains("nosplit"),
        reopen: options.contains("reopen"),
        prefix: options.contains("prefix"),
    }
}

fn write(writer: &Writer, number: u64, second: u64, text: &str) {
    let record = Record {
        level: Level::Info,
        number,
        hook: Some("rcpt"),
        plugin: Some("rcpt_ok"),
        ordered: false,
        text: format_args!("{text}"),
    };
    writer.write(&record, at(second));
}

/// The words of each line of a file.
fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let words = |line: &str| line.split_once("]: ").map_or(line, |(_, words)| words).to_owned();
    text.lines().map(words).collect()
}

#[test]
fn lines_have_time_host_and_number() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    write(&writer(&path, ""), 42, 7, "pass\r\n8 forged");
    write(&writer(&path, "prefix"), 43, 8, "pass");
    write(&writer(&path, ""), 44, 8, &"\u{e9}".repeat(3000));
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let host = host_name();
    assert_eq!(lines[0], format!("T7 {host}[42]: pass\\r\\n8 forged"));
    assert_eq!(lines[1], format!("T8 {host}[43]: (rcpt) rcpt_ok: pass"));
    assert!((LONGEST - 2..LONGEST).contains(&lines[2].len()));
    assert_eq!(lines.len(), 3);
}

#[test]
fn several_processes_append_to_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let writers = [writer(&path, ""), writer(&path, ""), writer(&path, "")];
    std::thread::scope(|scope| {
        for (number, writer) in writers.iter().enumerate() {
            scope.spawn(move || {
                (0..200).for_each(|count| write(writer, number as u64, 1, &format!("{number} {count}")))
            });
        }
    });
    let mut lines = words(&path);
    lines.sort();
    let mut expected: Vec<String> = (0..600).map(|all| format!("{} {}", all / 200, all % 200)).collect();
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn the_name_follows_the_time_but_not_within_a_session_that_must_not_be_split() {
    let dir = tempfile::tempdir().unwrap();
    for (options, first, second) in [("", vec!["a"], vec!["b", "c"]), ("nosplit", vec!["a", "b"], vec!["c"])] {
        let path = dir.path().join(options).join("%s");
        let writer = writer(&path, options);
        let mut guards = Guards::default();
        guards.begin(&writer, 42, at(100));
        write(&writer, 42, 100, "a");
        write(&writer, 42, 101, "b");
        drop(guards);
        write(&writer, 42, 101, "c");
        assert_eq!(words(&path.with_file_name("100")), first, "{options}");
        assert_eq!(words(&path.with_file_name("101")), second, "{options}");
    }
}

#[test]
fn a_file_that_was_moved_away_is_left_at_reload_or_by_the_next_session() {
    let dir = tempfile::tempdir().unwrap();
    for (options, old, new) in [("", vec!["a", "b"], vec!["d"]), ("reopen", vec!["a"], vec!["b", "d"])] {
        let path = dir.path().join(format!("log{options}"));
        let moved = path.with_extension("0");
        let running = writer(&path, options);
        write(&running, 1, 1, "a");
        fs::rename(&path, &moved).unwrap();
        Guards::default().begin(&running, 1, at(1));
        write(&running, 1, 1, "b");
        let reloaded = writer(&path, options);
        write(&reloaded, 2, 1, "d");
        assert_eq!(words(&moved), old, "{options}");
        assert_eq!(words(&path), new, "{options}");
    }
}

#[test]
fn sessions_have_names_and_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let writer = writer(&dir.path().join("%i"), "");
    let (mut one, mut two) = (Guards::default(), Guards::default());
    one.begin(&writer, 1, at(5));
    one.begin(&writer, 1, at(6));
    two.begin(&writer, 2, at(7));
    for number in [1, 2, 3, 1] {
        write(&writer, number, 8, &number.to_string());
    }
    let own = |second, count| dir.path().join(format!("{second}-{}-{count}", std::process::id()));
    assert_eq!(words(&own(5, 1)), ["1", "1"]);
    assert_eq!(words(&own(7, 2)), ["2"]);
    assert_eq!(words(&dir.path().join(NO_SESSION)), ["3"]);
    drop((one, two));
    assert!(writer.state().sessions.is_empty());
}

#[test]
fn nothing_is_opened_before_the_start_and_failures_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let early = Writer::new(Target::new(&path.to_string_lossy()).unwrap(), style(""));
    write(&early, 1, 1, "to standard error");
    assert!(!path.exists());
    let folder = Writer::new(Target::new(&dir.path().to_string_lossy()).unwrap(), style(""));
    assert!(
        folder
            .start()
            .is_err_and(|why| why.contains(&*dir.path().to_string_lossy()))
    );
    // and records find standard error at run time
    let gone = writer(&dir.path().join("a%s"), "");
    fs::create_dir(dir.path().join("a9")).unwrap();
    write(&gone, 1, 9, "lost");
    write(&gone, 1, 10, "found");
    assert_eq!(words(&dir.path().join("a10")), ["found"]);
}

#[test]
fn a_command_reads_the_records_and_outlives_reloads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let command = format!("|cat >>{}", path.display());
    let first = writer(Path::new(&command), "reopen");
    write(&first, 1, 1, "a");
    let second = writer(Path::new(&command), "");
    drop(first);
    Guards::default().begin(&second, 1, at(1));
    write(&second, 1, 1, "b");
    drop(second);
    output::wait_for(&command[1..]);
    assert_eq!(words(&path), ["a", "b"]);
}

#[test]
fn a_command_that_has_ended_is_started_by_a_reload() {
    let command = "true; : ended-early";
    let first = output::run(command).unwrap();
    output::wait_for(command);
    let second = output::run(command).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    output::wait_for(command);
}

#[test]
fn a_pipe_that_nobody_reads_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let alone = Writer::new(Target::new(&path.to_string_lossy()).unwrap(), style(""));
    assert!(alone.start().is_err(), "nobody has opened it");
    let mut other_end = fs::File::options().read(true).write(true).open(&path).unwrap();
    let writer = writer(&path, "");
    // as much as it holds
    let mut all = vec![b'.'; 64 * 1024];
    other_end.write_all(&all).unwrap();
    let began = Instant::now();
    (0..5).for_each(|_| write(&writer, 42, 7, "lost, after one wait"));
    let waited = began.elapsed();
    assert!(waited >= PATIENCE && waited < 3 * PATIENCE, "{waited:?}");
    other_end.read_exact(&mut all).unwrap();
    write(&writer, 42, 8, "read again");
    let mut line = vec![0; 512];
    let count = other_end.read(&mut line).unwrap();
    assert!(line[..count].ends_with(b"]: read again\n"));
}
