//! Overload: new clients are turned away before the machine breaks down, and under stress slow ones are waited for
//! no longer than needed (the semantics of loadcheck, catalogue 13.12, and of Postfix's stress).

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::config::{Overload, Settings};

/// How long a look at the machine is good for.
const FRESH: Duration = Duration::from_secs(10);

/// The load of the machine, as /proc tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Burden {
    /// Averaged over a minute; none if the kernel does not say.
    load: Option<f64>,
    /// Available memory in MiB.
    memory: Option<u64>,
}

/// Looks at the machine, but not for every client.
pub(super) struct Watch {
    proc: PathBuf,
    last: Mutex<Option<(Instant, Burden)>>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            proc: "/proc".into(),
            last: Mutex::new(None),
        }
    }
}

impl Watch {
    /// Why a new client must be turned away, naming the limit; none if it need not.
    pub(super) fn too_much(&self, limits: &Overload) -> Option<String> {
        if limits.max_load == 0.0 && limits.min_free_memory == 0 {
            return None;
        }
        let burden = self.burden();
        match burden {
            Burden { load: Some(load), .. } if limits.max_load > 0.0 && load > limits.max_load => {
                Some(format!("load {load:.2}, limit max_load {}", limits.max_load))
            }
            Burden { memory: Some(free), .. } if free < limits.min_free_memory => Some(format!(
                "{free} MiB of memory available, limit min_free_memory {}",
                limits.min_free_memory
            )),
            _ => None,
        }
    }

    fn burden(&self) -> Burden {
        let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match *last {
            Some((when, burden)) if when.elapsed() < FRESH => burden,
            _ => {
                let burden = self.look();
                *last = Some((Instant::now(), burden));
                burden
            }
        }
    }

    fn look(&self) -> Burden {
        let read = |name: &str| fs::read_to_string(self.proc.join(name)).unwrap_or_default();
        let memory = read("meminfo");
        let available = memory.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
        let kib = available.and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok());
        Burden {
            load: read("loadavg").split(' ').next().and_then(|first| first.parse().ok()),
            memory: kib.map(|kib| kib / 1024),
        }
    }
}

/// Shortens the time-outs while most workers are busy.
pub(super) fn hurry(settings: &mut std::sync::Arc<Settings>, busy: u32, most: u32) {
    let Overload {
        stress_level,
        stress_timeout,
        ..
    } = settings.overload;
    let stressed = stress_level > 0 && most > 1 && u64::from(busy) * 100 >= u64::from(most) * u64::from(stress_level);
    if stressed && (settings.timeout > stress_timeout || settings.timeoutsmtpd > stress_timeout) {
        let settings = std::sync::Arc::make_mut(settings);
        settings.timeout = settings.timeout.min(stress_timeout);
        settings.timeoutsmtpd = settings.timeoutsmtpd.min(stress_timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn watch(load: &str, kib: u64) -> (tempfile::TempDir, Watch) {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("loadavg"), format!("{load} 0.10 0.05 1/100 42\n")).expect("written");
        let text = format!("MemTotal: 999 kB\nMemAvailable: {kib} kB\n");
        fs::write(dir.path().join("meminfo"), text).expect("written");
        let watch = Watch {
            proc: dir.path().to_owned(),
            ..Watch::default()
        };
        (dir, watch)
    }

    fn limits(max_load: f64, min_free_memory: u64) -> Overload {
        Overload {
            max_load,
            min_free_memory,
            ..Settings::default().overload
        }
    }

    #[test]
    fn the_limit_that_is_passed_is_named() {
        let (_dir, watch) = watch("7.50", 2048);
        assert_eq!(watch.too_much(&limits(0.0, 0)), None);
        assert_eq!(watch.too_much(&limits(8.0, 2)), None);
        assert_eq!(
            watch.too_much(&limits(7.0, 0)).as_deref(),
            Some("load 7.50, limit max_load 7")
        );
        let memory = watch.too_much(&limits(0.0, 3));
        assert_eq!(
            memory.as_deref(),
            Some("2 MiB of memory available, limit min_free_memory 3")
        );
    }

    #[test]
    fn what_the_kernel_does_not_say_turns_nobody_away() {
        let watch = Watch {
            proc: "/no/such/folder".into(),
            ..Watch::default()
        };
        assert_eq!(watch.too_much(&limits(1.0, 1)), None);
    }

    #[test]
    fn clients_must_hurry_when_most_workers_are_busy() {
        let calm = Arc::new(Settings::default());
        for (busy, most, seconds) in [(13, 15, 1200), (14, 15, 10), (1, 1, 1200)] {
            let mut settings = calm.clone();
            hurry(&mut settings, busy, most);
            assert_eq!(settings.timeoutsmtpd.as_secs(), seconds, "{busy} of {most}");
        }
    }
}
