//! Name resolution for the agent client. It returns only addresses that the policy permits.
//!
//! The check is here and not earlier because of DNS rebinding: a name could resolve to a public address when it is
//! checked, and to a private one when it is dialled.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address_policy::{AddressError, AddressPolicy};
use super::shortage::{Recent, Shortage};

/// Resolves names with the system's resolver, and removes the addresses that the policy refuses.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver {
    policy: AddressPolicy,
    scope: Scope,
    names: Names,
    shortages: Recent,
}

/// The addresses that a resolver returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All addresses that the policy permits.
    Permitted,
    /// Addresses in the allow-list only: for plain http, see [`AddressPolicy::check_url`].
    AllowListed,
}

/// The source of names.
#[derive(Clone, Debug, Default)]
pub(crate) enum Names {
    /// The system's resolver: `/etc/hosts`, DNS, or anything else that is configured.
    #[default]
    System,
    /// A table, for tests that must not depend on the system.
    #[cfg(test)]
    Table(std::collections::HashMap<String, Vec<IpAddr>>),
}

/// Reasons for which a name has no usable address. They pass through `reqwest`'s errors, and `client::classify` extracts
/// them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// The lookup failed or returned no address.
    #[error("{0}")]
    Lookup(String),
    /// The lookup failed because of a shortage of this process or its machine.
    #[error(transparent)]
    Shortage(Shortage),
    /// The policy refuses all addresses of the name.
    #[error(transparent)]
    NotPermitted(AddressError),
}

impl GuardedResolver {
    pub(super) fn new(policy: AddressPolicy, scope: Scope, names: Names, shortages: Recent) -> Self {
        Self { policy, scope, names, shortages }
    }

    /// Returns the permitted addresses of `host`, with port 0: the client inserts the port of the URL.
    pub(super) async fn permitted(&self, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
        let began = Instant::now();
        let all = self.names.lookup(host).await.map_err(|error| {
            let cause = error.to_string();
            match self.shortages.behind_lookup(&error, began) {
                Some(reason) => ResolveError::Shortage(Shortage { reason, cause }),
                None => ResolveError::Lookup(cause),
            }
        })?;
        let (permitted, refused): (Vec<_>, Vec<_>) = all.into_iter().partition(|&ip| match self.scope {
            Scope::Permitted => self.policy.permits(ip),
            Scope::AllowListed => self.policy.allow_lists(ip),
        });
        if permitted.is_empty() {
            return Err(match refused.first() {
                Some(&ip) if self.policy.permits(ip) => ResolveError::NotPermitted(AddressError::PlainHttp),
                Some(_) => ResolveError::NotPermitted(AddressError::NameNotPermitted),
                None => ResolveError::Lookup("the name has no addresses".to_owned()),
            });
        }
        Ok(permitted.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }
}

impl Names {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                // The runtime panics if it cannot create a thread for the lookup.
                let found = AssertUnwindSafe(async { tokio::net::lookup_host((host, 0)).await })
                    .catch_unwind()
                    .await
                    .map_err(|_panic| io::Error::from(rustix::io::Errno::AGAIN))??;
                Ok(found.map(|address| address.ip()).collect())
            }
            #[cfg(test)]
            Self::Table(names) => names
                .get(host)
                .cloned()
                .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such name")),
        }
    }
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.permitted(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver(scope: Scope) -> GuardedResolver {
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let names = [
            ("mixed.test", vec![ip("10.0.0.1"), ip("8.8.8.8"), ip("::1"), ip("127.0.0.1")]),
            ("public.test", vec![ip("8.8.8.8")]),
            ("metadata.test", vec![ip("169.254.169.254")]),
            ("mapped.test", vec![ip("::ffff:10.0.0.1")]),
            ("empty.test", vec![]),
        ];
        let names = Names::Table(names.map(|(name, ips)| (name.to_owned(), ips)).into());
        GuardedResolver::new(
            AddressPolicy::new(vec!["127.0.0.0/8".parse().unwrap()]),
            scope,
            names,
            Recent::default(),
        )
    }

    async fn resolved(scope: Scope, host: &str) -> Result<Vec<String>, String> {
        let addresses = resolver(scope).permitted(host).await.map_err(|error| error.to_string())?;
        Ok(addresses.iter().map(|address| address.ip().to_string()).collect())
    }

    #[tokio::test]
    async fn resolver_returns_permitted_addresses_only() {
        use Scope::{AllowListed, Permitted};
        let not_permitted = || Err(AddressError::NameNotPermitted.to_string());
        let found = |ips: &[&str]| Ok(ips.iter().map(|&ip| ip.to_owned()).collect::<Vec<_>>());
        for (scope, host, expected) in [
            (Permitted, "mixed.test", found(&["8.8.8.8", "127.0.0.1"])),
            (AllowListed, "mixed.test", found(&["127.0.0.1"])),
            (Permitted, "public.test", found(&["8.8.8.8"])),
            (AllowListed, "public.test", Err(AddressError::PlainHttp.to_string())),
            (Permitted, "metadata.test", not_permitted()),
            (AllowListed, "metadata.test", not_permitted()),
            (Permitted, "mapped.test", not_permitted()),
            (Permitted, "empty.test", Err("the name has no addresses".to_owned())),
            (Permitted, "unknown.test", Err("no such name".to_owned())),
        ] {
            assert_eq!(resolved(scope, host).await, expected, "{host}");
        }
    }
}
