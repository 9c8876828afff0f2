//! The limits that hold, how much of each is used, and who uses most.

use super::super::gauge::Gauge;
use super::super::meter::SharedMeter;
use super::table::{Table, Value};
use crate::config::{Rate, Settings};
use crate::prefork::House;
use crate::session::Tally;
use crate::session::services::Event;

/// So many of those who use most are named.
const NAMED: usize = 3;

/// One row: the limit, its value, what is used, and by whom.
fn row(name: &str, value: impl Into<Value>, used: impl Into<Value>, by: &[(String, u32)]) -> Vec<Value> {
    let named: Vec<String> = by
        .iter()
        .take(NAMED)
        .map(|(who, count)| format!("{who} ({count})"))
        .collect();
    let by = if named.is_empty() {
        Value::None
    } else {
        named.join(", ").into()
    };
    vec![name.into(), value.into(), used.into(), by]
}

/// A limit that is just a number.
fn plain(name: &str, value: impl Into<Value>) -> Vec<Value> {
    row(name, value, Value::None, &[])
}

/// A limit of what clients have: used is what the first of them has.
fn crowd(name: &str, limit: impl Into<Value>, by: &[(String, u32)]) -> Vec<Value> {
    let most = by.first().map_or(0, |(_, count)| *count);
    row(name, limit, most, by)
}

/// A limit of which 0 means none.
fn unless_zero(limit: u32) -> Value {
    if limit == 0 { Value::None } else { limit.into() }
}

/// The table of limits.
pub(super) fn limits(house: &House<'_>, gauge: &Gauge, meter: Option<&SharedMeter>, settings: &Settings) -> Table {
    let (plan, rates, own) = (house.plan(), &settings.rates, &settings.limits);
    let [addresses, networks, listeners] = house.crowds();
    let pair = |(four, six): (u8, u8)| format!("{four},{six}");
    let rate = |name: &str, what: Event, rate: Option<Rate>| {
        let heaviest = rate.and_then(|rate| Some(meter?.heaviest(what, rate, NAMED)));
        let shown = |(network, count): (u128, u32)| (rates.show(network), count);
        let by: Vec<_> = heaviest.unwrap_or_default().into_iter().map(shown).collect();
        let value = rate.map_or(Value::None, |rate| {
            format!("{}/{}", rate.events, rate.within.as_secs()).into()
        });
        crowd(name, value, &by)
    };
    let rows = vec![
        row("children", plan.children, house.workers().len(), &[]),
        row("sessions", plan.most_sessions(), house.sessions().len(), &[]),
        plain("sessions_per_worker", plan.sessions),
        plain("idle_children", plan.idle_children),
        plain("lifetime", plan.sessions_per_worker),
        crowd("max_from_ip", unless_zero(plan.max_from_ip), &addresses),
        crowd("max_from_net", unless_zero(plan.max_from_net), &networks),
        crowd("max_per_listener", unless_zero(plan.max_per_listener), &listeners),
        row("refused_by_these", Value::None, house.refused(), &[]),
        plain("ipv6_prefix", u32::from(plan.ipv6_prefix)),
        plain("net_prefix", pair(plan.net_prefixes)),
        rate("connection_rate", Event::Connection, rates.connections),
        rate("message_rate", Event::Message, rates.messages),
        rate("recipient_rate", Event::Recipient, rates.recipients),
        rate("error_rate", Event::Error, rates.errors),
        rate("auth_failure_rate", Event::AuthFailure, rates.auth_failures),
        row("refused_by_rates", Value::None, gauge.tally(Tally::OverRate), &[]),
        plain("rate_networks", pair(rates.prefixes())),
        plain("databytes", settings.databytes),
        plain("maxrcpts", own.maxrcpts),
        plain("max_errors", own.max_errors),
        plain("max_transactions", own.max_transactions),
        plain("timeout", settings.timeout),
        plain("timeoutsmtpd", settings.timeoutsmtpd),
    ];
    Table {
        columns: &["limit", "value", "used", "by"],
        rows,
    }
}
