//! Tests of the page, against answers as the master gives them.

use std::time::Duration;

use super::rows::amount;
use super::*;

const LIST: &str = "\
id  pid   peer          port  age    phase   plugin     hook     for
 3  4711  192.0.2.7     1025  1m01s  decide  uribl      data_post  2.5s
 4  4712  2001:db8::25  1026  900ms  greeted -          -        900ms
 5  4713  192.0.2.10    1027  1.5s   rcpt    check_all  rcpt     12us
";
const PLUGINS: &str = "\
plugin     hook       calls  decline  accept  deny  soft  error  panic  p50   p99   max
uribl      data_post     10       10       0     0     0      0      0  8ms   1.2s  2.0s
check_all  rcpt         300      290       5     5     0      0      0  16us  64us  1ms
unused     mail           0        0       0     0     0      0      0  0us   0us   0us
";

fn status(accepted: u32) -> String {
    format!(
        "version  2.0.0\nstate  serving\nsessions  3\nmost sessions  15\naccepted  {accepted}\nbytes  {}\n",
        accepted * 1000
    )
}

fn looks() -> (Look, Look) {
    let before = Look::of(&status(10), LIST, &PLUGINS.replace("300", "100"));
    let mut now = Look::of(&status(30), LIST, PLUGINS);
    now.at = before.at + Duration::from_secs(2);
    (before, now)
}

fn words(page: &[Line]) -> Vec<&str> {
    page.iter().map(|line| line.text.as_str()).collect()
}

/// The first word of each line of the table under the heading that begins so.
fn column<'a>(page: &'a [Line], head: &str) -> Vec<&'a str> {
    let lines = words(page).into_iter();
    let table = lines
        .skip_while(|line| !line.trim_start().to_lowercase().starts_with(head))
        .skip(1);
    table.map_while(|line| line.split_whitespace().next()).collect()
}

#[test]
fn rates_are_differences_over_time() {
    let (before, now) = looks();
    let page = View::default().page(&now, Some(&before), (132, usize::MAX));
    let text = words(&page).join("\n");
    assert!(text.contains("accepted 30 (10.0/s)"), "{text}");
    assert!(text.contains("30.0 kB (10.0 kB/s)"), "{text}");
    assert!(text.contains("100.0 "), "calls of check_all: {text}");
    // counters that began anew
    assert_eq!(before.rate("accepted", Some(&now)), 0.0);
}

#[test]
fn tables_are_sorted_as_the_keys_say() {
    let (before, now) = looks();
    let mut view = View::default();
    let ids = |view: &View| {
        let page = view.page(&now, Some(&before), (80, usize::MAX));
        column(&page, "id ").into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ids(&view), ["3", "5", "4"], "the oldest first");
    view.press(Key::Letter('s'));
    assert_eq!(ids(&view), ["3", "4", "5"], "the one that takes longest first");
    view.press(Key::Letter('r'));
    assert_eq!(ids(&view), ["5", "4", "3"]);
    view.press(Key::Letter('r'));
    for _ in 0..3 {
        view.press(Key::Letter('s'));
    }
    assert_eq!(ids(&view), ["5", "3", "4"], "by plugin, without one last");
    let plugins = |view: &View| {
        let page = view.page(&now, Some(&before), (80, usize::MAX));
        column(&page, "plugin ")
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(plugins(&view), ["check_all", "uribl"], "unused ones are not shown");
    for _ in 0..2 {
        view.press(Key::Letter('p'));
    }
    assert_eq!(plugins(&view), ["uribl", "check_all"], "by p99");
    assert!(!view.press(Key::Letter('q')) && !view.press(Key::Leave));
}

#[test]
fn a_page_is_never_larger_than_its_terminal() {
    let (before, mut now) = looks();
    for number in 0..40 {
        let mut row = now.sessions.rows[0].clone();
        row[0] = format!("1{number:02}");
        row[2] = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".into();
        row[6] = "a_plugin_with_a_name_that_nobody_would_give".into();
        now.sessions.rows.push(row);
    }
    let mut view = View::default();
    for size @ (width, height) in [(80, 24), (132, 50), (80, 10), (40, 5), (20, 2), (1, 1)] {
        for _ in 0..3 {
            let page = view.page(&now, Some(&before), size);
            assert_eq!(page.len(), height, "{size:?}");
            if width >= 80 {
                assert!(page.iter().all(|line| line.text.len() <= width), "{page:#?}");
            }
            view.press(Key::Tab);
        }
    }
    let page = view.page(&now, Some(&before), (80, 24));
    let text = words(&page).join("\n");
    assert!(
        text.contains("check_all") && text.contains("uribl"),
        "plugins have room, too: {text}"
    );
    assert!(text.ends_with("scroll"), "{text}");
    // the last session can be reached, and nothing lies behind it
    view.press(Key::Tab);
    for _ in 0..100 {
        view.press(Key::Down);
    }
    let page = view.page(&now, Some(&before), (80, 24));
    let sessions = words(&page)
        .into_iter()
        .filter(|line| line.contains("192.0.2") || line.contains("2001:"));
    assert_eq!(sessions.count(), 16);
    assert!(page[22].text.trim_start().starts_with("4 "), "the youngest: {page:#?}");
}

#[test]
fn amounts_are_read_as_tables_write_them() {
    let amounts = ["12us", "1ms", "1.5s", "1m01s", "1h01m", "1d01h"].map(amount);
    assert!(amounts.is_sorted() && amounts[0].is_some(), "{amounts:?}");
    assert_eq!(amount("1m01s"), Some(61_000_000_000));
    assert_eq!((amount("7"), amount("0.5")), (Some(7000), Some(500)));
    for words in ["rcpt", "-", "", "3x", "s", "192.0.2.7", "2001:db8::25"] {
        assert_eq!(amount(words), None, "{words}");
    }
}

#[test]
fn trouble_is_told_and_what_was_seen_stays() {
    let (before, now) = looks();
    let view = View {
        trouble: Some("no answer at x".into()),
        ..View::default()
    };
    let page = view.page(&now, Some(&before), (80, 24));
    assert_eq!((page[0].text.as_str(), page[0].head), ("no answer at x", true));
    assert!(words(&page).join("\n").contains("uribl"));
    // before anything was seen
    assert_eq!(view.page(&Look::default(), None, (80, 24)).len(), 24);
}
