//! Clients of others: what they send lies in the maildir byte for byte, once, with 20 of them at a time.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::corpus::{Item, check, corpus, delivered};
use crate::harness::{Daemon, Site};
use crate::programs::{need, need_python, succeed};

/// How many clients at a time.
const CLIENTS: usize = 20;

fn daemon() -> Daemon {
    let options = [
        "--listen-address",
        "127.0.0.1:0",
        "--max-from-ip",
        "0",
        "--children",
        "25",
    ];
    Daemon::serve(Site::new(), &options)
}

/// Runs `count` jobs, `CLIENTS` at a time.
fn at_a_time(count: usize, job: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS.min(count) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    job(number);
                }
            });
        }
    });
}

/// Checks that the maildir holds the corpus, with the recipients that `recipient` names, and nothing else.
fn check_all(daemon: &Daemon, items: &[Item], recipient: impl Fn(&Item, usize) -> String) {
    let mut messages = delivered(&daemon.site.path().join("Maildir"));
    for item in items {
        for number in 0..item.copies {
            check(&mut messages, &recipient(item, number), &item.stored());
        }
    }
    assert!(messages.is_empty(), "nobody sent: {:?}", messages.keys());
}

/// The files of the corpus, as a client reads them.
fn files(items: &[Item]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for item in items {
        std::fs::write(directory.path().join(item.name), &item.text).expect("write");
    }
    directory
}

#[test]
fn swaks() {
    let Some(swaks) = need("swaks") else {
        return;
    };
    let (daemon, mut items) = (daemon(), corpus());
    // it sends no file without content, adds to a header that nothing follows, and ends the last line once more
    items.retain(|item| !["empty", "header-only", "no-body"].contains(&item.name));
    for item in &mut items {
        item.text.pop();
    }
    let files = files(&items);
    items.iter_mut().for_each(|item| item.text.push(b'\n'));
    // each is a process of its own, and slow
    items.iter_mut().for_each(|item| item.copies = item.copies.min(4));
    let jobs: Vec<(&Item, usize)> = items
        .iter()
        .flat_map(|item| (0..item.copies).map(move |n| (item, n)))
        .collect();
    let recipient = |item: &Item, number: usize| format!("{}-{number}@example.com", item.name);
    let port = daemon.addresses[0].port().to_string();
    at_a_time(jobs.len(), |job| {
        let (item, number) = jobs[job];
        let mut command = swaks.command();
        command.args([
            "--server",
            "127.0.0.1",
            "--port",
            &port,
            "--helo",
            "client.example.net",
            "--hide-all",
        ]);
        command.args([
            "--from",
            "sender@example.net",
            "--to",
            &recipient(item, number),
            "--timeout",
            "60",
        ]);
        succeed(
            command
                .arg("--data")
                .arg(format!("@{}", files.path().join(item.name).display())),
        );
    });
    check_all(&daemon, &items, recipient);
}

/// Sends each file `copies` times, with as many threads as clients. The first arguments are port and number of
/// clients, then a path and a number of copies for each file.
const PYTHON: &str = r#"
import os, queue, smtplib, sys, threading
port, clients = int(sys.argv[1]), int(sys.argv[2])
jobs = queue.Queue()
for path, copies in zip(sys.argv[3::2], sys.argv[4::2]):
    text = open(path, "rb").read().replace(b"\n", b"\r\n")
    for number in range(int(copies)):
        jobs.put((os.path.basename(path), number, text))
failures = []
def work():
    try:
        with smtplib.SMTP("127.0.0.1", port, "client.example.net", timeout=60) as smtp:
            while True:
                try:
                    name, number, text = jobs.get_nowait()
                except queue.Empty:
                    return
                recipient = f"{name}-{number}@example.com"
                if text:
                    smtp.sendmail("sender@example.net", recipient, text, ["BODY=8BITMIME"])
                    continue
                # sendmail, which says EHLO by itself, would make a line of nothing
                smtp.ehlo_or_helo_if_needed()
                smtp.mail("sender@example.net")
                smtp.rcpt(recipient)
                smtp.docmd("DATA")
                code, words = smtp.docmd(".")
                assert code == 250, words
    except Exception as e:
        failures.append(e)
threads = [threading.Thread(target=work) for _ in range(clients)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.exit(f"{failures}" if failures else 0)
"#;

#[test]
fn smtplib() {
    let Some(python) = need_python("smtplib") else {
        return;
    };
    let (daemon, items) = (daemon(), corpus());
    let files = files(&items);
    let mut command = python.command();
    command.args([
        "-c",
        PYTHON,
        &daemon.addresses[0].port().to_string(),
        &CLIENTS.to_string(),
    ]);
    for item in &items {
        command.arg(files.path().join(item.name)).arg(item.copies.to_string());
    }
    succeed(&mut command);
    check_all(&daemon, &items, |item, number| {
        format!("{}-{number}@example.com", item.name)
    });
}

#[test]
fn smtp_source() {
    let Some(source) = need("smtp-source") else {
        return;
    };
    let (daemon, mut items) = (daemon(), corpus());
    // it sends no file without content, and an empty line after the last
    items.retain(|item| !item.text.is_empty());
    let files = files(&items);
    items.iter_mut().for_each(|item| item.text.push(b'\n'));
    for item in &items {
        let mut command = source.command();
        // with a number before each recipient, from 1
        command.args(["-N", "-s", &CLIENTS.to_string(), "-m", &item.copies.to_string()]);
        command.args(["-f", "sender@example.net", "-t", &format!("{}@example.com", item.name)]);
        command.arg("-F").arg(files.path().join(item.name));
        succeed(command.arg(daemon.addresses[0].to_string()));
    }
    check_all(&daemon, &items, |item, number| {
        format!("{}{}@example.com", number + 1, item.name)
    });
}
