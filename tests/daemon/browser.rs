//! The status page in a real browser: headless Chromium, driven over WebDriver by chromedriver.
//!
//! Without them the test says so and passes; with `QPSMTPD_REQUIRE_REAL=1` it fails.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::process::{PATIENCE, eventually};
use crate::status::start;

/// What keeps Chromium to the page it is shown.
const QUIET: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
];

/// A browser with one window.
struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .map(|place| Path::new(place).join(program))
        .find(|file| file.exists())
}

impl Browser {
    /// None if there is no browser on this machine.
    fn start(home: &Path) -> Option<Browser> {
        let (Some(chromium), Some(driver)) = (find("chromium"), find("chromedriver")) else {
            let required = std::env::var("QPSMTPD_REQUIRE_REAL").is_ok_and(|value| value == "1");
            assert!(!required, "chromium and chromedriver are wanted");
            eprintln!("SKIPPED: the status page in a browser: no chromium or chromedriver");
            return None;
        };
        let mut command = Command::new(driver);
        command.arg("--port=0").env("HOME", home).env("TMPDIR", home);
        let mut driver = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let mut lines = BufReader::new(driver.stdout.take().expect("stdout")).lines();
        let told = lines.find_map(|line| {
            let line = line.expect("a line");
            line.split_once("started successfully on port ")
                .map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        std::thread::spawn(move || lines.for_each(drop));
        let mut browser = Browser {
            driver,
            port: told.expect("a port").parse().expect("a port"),
            session: String::new(),
        };
        let options = json!({"binary": chromium, "args": QUIET});
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let session = browser.ask("POST", "/session", &wanted);
        let id = session["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        Some(browser)
    }

    /// One command of WebDriver, and its value.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body).expect("an answer of chromedriver");
        assert!(answer["value"].get("error").is_none(), "{path}: {answer}");
        answer["value"].clone()
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> io::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(3 * PATIENCE))?;
        let body = body.to_string();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        );
        stream.write_all(request.as_bytes())?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let field = line.to_ascii_lowercase();
            if let Some(count) = field.strip_prefix("content-length:") {
                length = count.trim().parse().map_err(io::Error::other)?;
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut answer = String::new();
        reader.take(length).read_to_string(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    fn tell(&self, what: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}/{what}", self.session), body)
    }

    /// The value of an expression in the page.
    fn see(&self, expression: &str) -> Value {
        let script = format!("return {expression};");
        self.tell("execute/sync", &json!({"script": script, "args": []}))
    }

    fn text(&self, selector: &str) -> String {
        let seen = self.see(&format!("document.querySelector({selector:?})?.innerText ?? ''"));
        seen.as_str().unwrap_or_default().to_owned()
    }

    /// Makes the window as wide as a phone or a desk has it, in pixels of the page.
    fn resize(&self, width: u32) {
        let metrics = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        let command = json!({"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics});
        self.tell("goog/cdp/execute", &command);
        eventually("the window is resized", || self.see("window.innerWidth") == width);
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // ends the browser, also when the test has failed
        let _ = self.try_ask("DELETE", &self.session, &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
fn the_page_is_live_on_a_desk_and_on_a_phone() {
    let home = tempfile::tempdir().expect("a directory");
    let Some(browser) = Browser::start(home.path()) else {
        return;
    };
    let (daemon, address) = start(&[]);
    assert_eq!(daemon.client().message("counted"), 250);
    browser.tell("url", &json!({"url": format!("http://{address}/")}));
    let tile = |name: &str| {
        let find = format!("[...document.querySelectorAll('.tile')].find(t => t.firstChild.innerText === {name:?})");
        browser
            .see(&format!("{find}?.querySelector('b').innerText"))
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    eventually("what was accepted is seen", || tile("accepted") == "1");
    assert_eq!(browser.text("#state"), "serving");
    assert!(browser.text("#about").contains("generation 1"));
    assert_eq!(browser.see("document.querySelectorAll('#board .cell').length"), 2);
    let queue = browser.text("#plugins");
    assert!(queue.contains("queue::maildir\nqueue"), "{queue}");
    // it follows by itself
    let mut client = daemon.client();
    client
        .expect(250, "EHLO client.example.net")
        .expect(250, "MAIL FROM:<>");
    eventually("the session is seen", || {
        browser.text("#sessions").contains("127.0.0.1")
    });
    eventually("its phase is seen", || browser.text("#sessions").contains("mail"));
    client.expect(221, "QUIT");
    assert_eq!(daemon.client().message("counted, too"), 250);
    eventually("it has counted on", || tile("accepted") == "2");
    for (width, roomy) in [(1280, true), (390, true), (320, false)] {
        browser.resize(width);
        let whole = browser.see("document.documentElement.scrollWidth <= window.innerWidth");
        assert_eq!(whole, true, "nothing is cut off at {width}");
        let tables = "[...document.querySelectorAll('.scroll')].every(s => s.scrollWidth <= s.clientWidth)";
        assert!(!roomy || browser.see(tables) == true, "tables have room at {width}");
    }
    // what the page loaded came from the daemon alone
    let origins = "[...new Set(performance.getEntriesByType('resource').map(e => new URL(e.name).origin))]";
    assert_eq!(browser.see(origins), json!([format!("http://{address}")]));
    let paused = daemon
        .site
        .program("qpsmtpctl")
        .arg("pause")
        .output()
        .expect("qpsmtpctl");
    assert!(paused.status.success());
    eventually("it is seen to be paused", || browser.text("#state") == "paused");
}
