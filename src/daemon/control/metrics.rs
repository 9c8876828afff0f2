//! The counters in the text format of Prometheus.

use std::fmt::Write;

use super::super::gauge::{CLASSES, Calls, Gauge, Marked, class_end};
use crate::prefork::House;
use crate::session::{Ruling, Tally};

/// Begins a metric.
fn head(to: &mut String, name: &str, kind: &str, about: &str) {
    let _ = writeln!(to, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

/// All metrics.
pub(super) fn metrics(house: &House<'_>, gauge: &Gauge) -> String {
    let mut to = String::new();
    let mut one = |name: &str, kind: &str, about: &str, value: u64| {
        head(&mut to, name, kind, about);
        let _ = writeln!(to, "{name} {value}");
    };
    let tally = |what| gauge.tally(what);
    one(
        "qpsmtpd_connections_total",
        "counter",
        "Sessions begun.",
        tally(Tally::Connections),
    );
    one(
        "qpsmtpd_recipients_total",
        "counter",
        "Recipients accepted.",
        tally(Tally::Recipients),
    );
    let refused = tally(Tally::RefusedRecipients);
    one(
        "qpsmtpd_recipients_refused_total",
        "counter",
        "Recipients put off or refused.",
        refused,
    );
    one(
        "qpsmtpd_message_bytes_total",
        "counter",
        "Bytes of messages received.",
        tally(Tally::Bytes),
    );
    one(
        "qpsmtpd_over_rate_total",
        "counter",
        "Refusals by a rate.",
        tally(Tally::OverRate),
    );
    one(
        "qpsmtpd_killed_total",
        "counter",
        "Sessions ended by an operator.",
        tally(Tally::Killed),
    );
    let refused = house.refused();
    one(
        "qpsmtpd_refused_by_limit_total",
        "counter",
        "Clients refused by a limit of sessions.",
        refused,
    );
    let sessions = house.sessions().len() as u64;
    one("qpsmtpd_sessions", "gauge", "Sessions now.", sessions);
    one(
        "qpsmtpd_generation",
        "gauge",
        "Number of the configuration.",
        house.generation().into(),
    );
    one(
        "qpsmtpd_uptime_seconds",
        "gauge",
        "Age of the master.",
        house.uptime().as_secs(),
    );
    groups(house, gauge, &mut to);
    calls(&gauge.calls(), &mut to);
    to
}

fn groups(house: &House<'_>, gauge: &Gauge, to: &mut String) {
    head(to, "qpsmtpd_messages_total", "counter", "Messages by their end.");
    for what in [Tally::Accepted, Tally::Deferred, Tally::Rejected, Tally::Broken] {
        let _ = writeln!(
            to,
            "qpsmtpd_messages_total{{result=\"{}\"}} {}",
            what.word(),
            gauge.tally(what)
        );
    }
    head(to, "qpsmtpd_replies_total", "counter", "Replies by class.");
    for (class, what) in [("2xx", Tally::Positive), ("4xx", Tally::Soft), ("5xx", Tally::Hard)] {
        let _ = writeln!(to, "qpsmtpd_replies_total{{class=\"{class}\"}} {}", gauge.tally(what));
    }
    head(
        to,
        "qpsmtpd_tls_handshakes_total",
        "counter",
        "Handshakes of TLS by their end.",
    );
    for (result, what) in [("ok", Tally::Encrypted), ("failed", Tally::NotEncrypted)] {
        let count = gauge.tally(what);
        let _ = writeln!(to, "qpsmtpd_tls_handshakes_total{{result=\"{result}\"}} {count}");
    }
    head(to, "qpsmtpd_workers", "gauge", "Workers by state.");
    let workers = house.workers();
    for state in ["starting", "idle", "busy"] {
        let count = workers.iter().filter(|worker| worker.state == state).count();
        let _ = writeln!(to, "qpsmtpd_workers{{state=\"{state}\"}} {count}");
    }
}

fn calls(all: &[(Marked, Calls)], to: &mut String) {
    let label = |marked: &Marked| format!("plugin=\"{}\",hook=\"{}\"", escaped(&marked.plugin), marked.hook.name());
    head(to, "qpsmtpd_verdicts_total", "counter", "Verdicts of plugins at hooks.");
    for (marked, calls) in all {
        for ruling in Ruling::ALL {
            let (count, word) = (calls.rulings[*ruling as usize], ruling.word());
            let _ = writeln!(
                to,
                "qpsmtpd_verdicts_total{{{},verdict=\"{word}\"}} {count}",
                label(marked)
            );
        }
    }
    let name = "qpsmtpd_hook_seconds";
    head(to, name, "histogram", "Time that plugins take at hooks.");
    for (marked, calls) in all {
        let (label, mut sum) = (label(marked), 0);
        // the last class has no end
        for class in 0..CLASSES - 1 {
            sum += calls.classes[class];
            let end = class_end(class) as f64 / 1e6;
            let _ = writeln!(to, "{name}_bucket{{{label},le=\"{end}\"}} {sum}");
        }
        let _ = writeln!(to, "{name}_bucket{{{label},le=\"+Inf\"}} {}", calls.count());
        let _ = writeln!(to, "{name}_sum{{{label}}} {}", calls.sum as f64 / 1e6);
        let _ = writeln!(to, "{name}_count{{{label}}} {}", calls.count());
    }
}

/// The value of a label.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
