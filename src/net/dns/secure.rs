//! Records that DNSSEC vouches for. They are validated here, from the root's keys on, so that neither the name server
//! nor the way to it must be trusted; it only has to pass on what belongs to DNSSEC, as all of today do.

use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::dnssec::{Proof, TrustAnchors};
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use hickory_resolver::{ResolverBuilder, TokioResolver};

use super::Asker;
use crate::session::services::Dns;
use crate::session::trust::Tlsa;

/// A resolver that validates, with these keys in place of the root's.
pub(super) fn validating(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
    anchors: Option<TrustAnchors>,
) -> Result<TokioResolver, String> {
    builder.options_mut().validate = true;
    if let Some(anchors) = anchors {
        builder = builder.with_trust_anchor(Arc::new(anchors));
    }
    builder.build().map_err(|why| why.to_string())
}

/// The TLSA records of a port of a host; see [`Resolver::tlsa`](crate::session::services::Resolver::tlsa).
pub(super) fn tlsa(asker: &Asker, resolver: &TokioResolver, host: &str, port: u16, wait: Duration) -> Dns<Tlsa> {
    // the whole name: what is searched for elsewhere would be of somebody else
    let name = format!("_{port}._tcp.{}.", host.trim_end_matches('.'));
    asker.ask(wait, resolver.lookup(name, RecordType::TLSA), |lookup| {
        let records = lookup.answers();
        // of the links of a chain of aliases each counts
        match records.iter().map(|record| record.proof).min() {
            Some(Proof::Secure) => Dns::Found(records.iter().filter_map(read).collect()),
            Some(Proof::Insecure) | None => Dns::NoData,
            Some(_) => Dns::Failed("DNSSEC does not vouch for the answer, and should".to_owned()),
        }
    })
}

fn read(record: &Record) -> Option<Tlsa> {
    match &record.data {
        RData::TLSA(found) => Some(Tlsa {
            usage: found.cert_usage.into(),
            selector: found.selector.into(),
            matching: found.matching.into(),
            data: found.cert_data.clone(),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
