//! Dates as mail writes them (RFC 5322, 3.3).

use chrono::{DateTime, Datelike, Local, Offset, TimeZone, Timelike};

/// The present time in the local zone: `Mon, 01 Jan 2024 10:00:00 +0100`.
pub fn now() -> String {
    format(&Local::now())
}

/// A time as mail writes it. Chrono's `%a` and its kin would parse the pattern each time, which costs five times as
/// much.
pub fn format<Z: TimeZone>(time: &DateTime<Z>) -> String {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let zone = time.offset().fix().local_minus_utc() / 60;
    let sign = if zone < 0 { '-' } else { '+' };
    format!(
        "{}, {:02} {} {} {:02}:{:02}:{:02} {sign}{:02}{:02}",
        time.weekday(),
        time.day(),
        MONTHS[time.month0() as usize],
        time.year(),
        time.hour(),
        time.minute(),
        time.second(),
        zone.abs() / 60,
        zone.abs() % 60,
    )
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, TimeZone};

    #[test]
    fn form() {
        let zone = FixedOffset::west_opt(5 * 3600 + 1800).unwrap();
        let time = zone.with_ymd_and_hms(2024, 2, 9, 3, 4, 5).unwrap();
        assert_eq!(super::format(&time), "Fri, 09 Feb 2024 03:04:05 -0530");
        let zone = FixedOffset::east_opt(3600).unwrap();
        let time = zone.with_ymd_and_hms(2025, 12, 31, 23, 59, 59).unwrap();
        assert_eq!(super::format(&time), "Wed, 31 Dec 2025 23:59:59 +0100");
        assert!(chrono::DateTime::parse_from_rfc2822(&super::now()).is_ok());
    }
}
