//! DNS with deadlines: hickory-resolver on a runtime of its own, made on the first question of a process.
//!
//! The only door to hickory and tokio, and the only place that is async. Nothing here runs before the fork.
//!
//! All threads of a process ask with the same resolver, and what one has learned, all know. With one for each thread
//! a session took 4 descriptors and 80 KiB, and left some 700 KiB behind when its thread ended: the cache of a resolver
//! that is dropped hands its remains to a collector, which works only while others ask.

mod secure;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record};
use hickory_resolver::{Resolver as Hickory, ResolverBuilder, TokioResolver};
use tokio::runtime::{Builder, Runtime};

use crate::session::services::{Dns, Resolver};
use crate::session::trust::Tlsa;

/// The name servers of the system, as /etc/resolv.conf has them.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDns;

/// What a process asks with. Whoever asks drives the runtime, for all who wait for an answer; when it has its own, the
/// next of them does.
struct Asker {
    runtime: Runtime,
    resolver: TokioResolver,
    /// One that believes only what DNSSEC vouches for; made when it is first needed.
    validating: OnceLock<Result<TokioResolver, String>>,
}

static ASKER: Mutex<Option<Arc<Asker>>> = Mutex::new(None);

/// The name servers of the system.
fn system() -> ResolverBuilder<TokioRuntimeProvider> {
    let mut builder = match TokioResolver::builder_tokio() {
        Ok(builder) => builder,
        // no file: what the C library does then
        Err(_) => {
            let own = NameServerConfig::udp_and_tcp(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let config = ResolverConfig::from_parts(None, Vec::new(), vec![own]);
            Hickory::builder_with_config(config, TokioRuntimeProvider::default())
        }
    };
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.timeout = Duration::from_secs(5);
    options.attempts = 2;
    options.ndots = 0;
    builder
}

impl Asker {
    fn new() -> Result<Asker, String> {
        Asker::with(system())
    }

    fn with(builder: ResolverBuilder<TokioRuntimeProvider>) -> Result<Asker, String> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|why| why.to_string())?;
        Ok(Asker {
            runtime,
            resolver: builder.build().map_err(|why| why.to_string())?,
            validating: OnceLock::new(),
        })
    }

    /// Asks a question, for at most `wait`.
    fn ask<'a, A, T>(
        &'a self,
        wait: Duration,
        question: impl Future<Output = Result<A, NetError>> + 'a,
        found: impl FnOnce(&A) -> Dns<T>,
    ) -> Dns<T> {
        let answer = self
            .runtime
            .block_on(async { tokio::time::timeout(wait, question).await });
        match answer {
            Err(_) => Dns::Failed(format!("no answer within {} s", wait.as_secs())),
            Ok(Err(why)) if why.is_nx_domain() => Dns::NoName,
            Ok(Err(why)) if why.is_no_records_found() => Dns::NoData,
            Ok(Err(why)) => Dns::Failed(why.to_string()),
            Ok(Ok(answer)) => found(&answer),
        }
    }
}

/// The asker of this process.
fn asker() -> Result<Arc<Asker>, String> {
    let mut slot = ASKER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(asker) = &*slot {
        return Ok(asker.clone());
    }
    let made = Arc::new(Asker::new()?);
    *slot = Some(made.clone());
    Ok(made)
}

/// Runs a question with it.
fn with_asker<T>(ask: impl FnOnce(&Asker) -> Dns<T>) -> Dns<T> {
    match asker() {
        Ok(asker) => ask(&asker),
        Err(why) => Dns::Failed(why),
    }
}

impl Resolver for SystemDns {
    fn reverse(&self, ip: IpAddr, wait: Duration) -> Dns<String> {
        if ip.is_loopback() {
            return Dns::Found(vec!["localhost".to_owned()]);
        }
        let name = |record: &Record| match &record.data {
            RData::PTR(name) => Some(name.0.to_utf8()),
            _ => None,
        };
        with_asker(|asker| {
            asker.ask(wait, asker.resolver.reverse_lookup(ip), |lookup| {
                Dns::Found(lookup.answers().iter().filter_map(name).collect())
            })
        })
    }

    fn addresses(&self, host: &str, wait: Duration) -> Dns<IpAddr> {
        with_asker(|asker| {
            asker.ask(wait, asker.resolver.lookup_ip(host), |lookup| {
                Dns::Found(lookup.iter().collect())
            })
        })
    }

    fn tlsa(&self, host: &str, port: u16, wait: Duration) -> Dns<Tlsa> {
        with_asker(|asker| {
            let made = asker.validating.get_or_init(|| secure::validating(system(), None));
            match made {
                Ok(resolver) => secure::tlsa(asker, resolver, host, port, wait),
                Err(why) => Dns::Failed(why.clone()),
            }
        })
    }
}
