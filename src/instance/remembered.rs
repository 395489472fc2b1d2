//! Instances as this process last read them, so that a provision needs no statement to read the caller's.
//!
//! Whoever uses one passes its version to the statement that it is used for, which has no effect if the instance has
//! changed since. So it does not matter how old it is, or what other replicas have changed.

use std::time::Duration;

use moka::future::Cache;
use tokio::time::Instant;

use super::AgentInstance;
use super::resolve::Identity;

/// Maximum number of instances. Each takes half a kilobyte.
const CAPACITY: u64 = 10_000;
/// Time after which an instance that does not call is forgotten.
const IDLE: Duration = Duration::from_mins(10);

/// Admitted instances by the identity in the caller's token.
#[derive(Clone, Debug)]
pub struct Remembered(Cache<Identity, (AgentInstance, Instant)>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(CAPACITY).time_to_idle(IDLE).build())
    }
}

impl Remembered {
    /// Remembers an instance that has just been read.
    pub(super) async fn add(&self, identity: Identity, instance: AgentInstance) {
        self.0.insert(identity, (instance, Instant::now())).await;
    }

    /// Returns the instance as it was read. Its lookup is as old as it is now.
    pub(super) async fn get(&self, identity: &Identity) -> Option<AgentInstance> {
        let (mut instance, read_at) = self.0.get(identity).await?;
        instance.looked_up = instance.looked_up.map(|age| age + read_at.elapsed());
        Some(instance)
    }
}
