//! Name resolution for the agent client: only addresses that may be dialled come out of it.
//!
//! Checking here, and not before, is what makes the check hold: a name that resolves to a public address when
//! it is checked and to a private one when it is dialled (DNS rebinding) gains nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use futures::FutureExt;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address_policy::{AddressError, AddressPolicy};
use super::shortage::{Recent, Shortage};

/// Resolves like the machine does and leaves out what the policy refuses.
#[derive(Clone, Debug)]
pub(crate) struct GuardedResolver {
    policy: AddressPolicy,
    scope: Scope,
    names: Names,
    shortages: Recent,
}

/// Which addresses are left in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Whatever the policy permits.
    Permitted,
    /// The allow-list alone: for plain http, see [`AddressPolicy::check_url`].
    AllowListed,
}

/// Who knows the names.
#[derive(Clone, Debug, Default)]
pub(crate) enum Names {
    /// The machine: `/etc/hosts`, DNS, whatever it is set up with.
    #[default]
    System,
    /// A table, for tests that must not depend on the machine's.
    #[cfg(test)]
    Table(std::collections::HashMap<String, Vec<IpAddr>>),
}

/// Why a name leads nowhere. Carried through `reqwest`'s errors and found again by `client::classify`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    /// It could not be resolved, or to nothing.
    #[error("{0}")]
    Lookup(String),
    /// It could not be looked up, and that is our own shortage.
    #[error(transparent)]
    Shortage(Shortage),
    /// It resolves only to addresses that are not dialled.
    #[error(transparent)]
    NotPermitted(AddressError),
}

impl GuardedResolver {
    pub(super) fn new(policy: AddressPolicy, scope: Scope, names: Names, shortages: Recent) -> Self {
        Self { policy, scope, names, shortages }
    }

    /// Returns the addresses of `host` that may be dialled, with port 0.
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
        // Port 0: the client puts in the one from the URL.
        Ok(permitted.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect())
    }
}

impl Names {
    async fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        match self {
            Self::System => {
                // The runtime panics where the system gives it no thread for the lookup.
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
    async fn only_what_may_be_dialled_comes_out() {
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
