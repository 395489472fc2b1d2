//! The pace of one instance's calls of the agent API: an agent that calls in a loop is delayed, so that others are not.
//!
//! Real agents do not repeat a failed provision, so a call waits for its turn and is refused only if it would wait too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::InstanceId;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::ApiError;
use crate::metrics;

/// Calls per second that a replica accepts from one instance, on average.
const CALLS_PER_SECOND: u32 = 1_000;
/// Calls that it accepts at once.
const BURST: u32 = 200;
/// Maximum delay of a call. It leaves time for the database before the agent gives up. As many jobs as an instance may have by
/// default can be armed again at once, within the burst and this delay.
const MAX_DELAY: Duration = Duration::from_secs(10);
/// The part of the requests in progress that may wait for one instance's turns.
const PART: usize = 4;
/// One-shots in a response that count as one call.
const ROWS_OF_A_CALL: usize = 50;
/// Interval between removals of instances that do not call.
const TIDIED_EVERY: Duration = Duration::from_secs(10);

/// The recent calls of each instance.
#[derive(Debug)]
pub struct Pace {
    instances: Mutex<Instances>,
    max_waiting: usize,
}

#[derive(Debug)]
struct Instances {
    calls: HashMap<InstanceId, Calls>,
    tidied: Instant,
}

#[derive(Debug)]
struct Calls {
    /// Time at which all calls so far have had their turn.
    over: Instant,
    waiting: usize,
}

impl Pace {
    /// The pace at a listener that serves so many requests at the same time.
    pub fn new(requests_at_once: usize) -> Self {
        let instances = Instances { calls: HashMap::new(), tidied: Instant::now() };
        Self { instances: Mutex::new(instances), max_waiting: (requests_at_once / PART).max(1) }
    }

    /// Waits for the turn of a call. Fails if that would take too long, or if too many calls of the instance wait.
    pub(super) async fn turn(self: &Arc<Self>, instance_id: &InstanceId) -> Result<(), ApiError> {
        let turn = self.take(instance_id, Instant::now()).map_err(|retry_after| {
            metrics::call_refused();
            ApiError::TooFast(retry_after)
        })?;
        if let Some(at) = turn {
            metrics::call_delayed();
            let _waiting = Waiting { of: Arc::clone(self), instance_id: instance_id.clone() };
            tokio::time::sleep_until(at).await;
        }
        Ok(())
    }

    /// Counts a response with so many one-shots as further calls.
    pub(super) fn answered(&self, instance_id: &InstanceId, rows: usize) {
        let calls = u32::try_from(rows / ROWS_OF_A_CALL).unwrap_or(u32::MAX);
        if let Some(known) = self.instances.lock().calls.get_mut(instance_id) {
            known.over += Duration::from_secs(1) / CALLS_PER_SECOND * calls;
        }
    }

    /// Returns the time of the call's turn if that is later. Fails with the time after which a call is accepted again.
    fn take(&self, instance_id: &InstanceId, now: Instant) -> Result<Option<Instant>, Duration> {
        let mut instances = self.instances.lock();
        instances.tidy(now);
        let calls = match instances.calls.get_mut(instance_id) {
            Some(calls) => calls,
            None => instances.calls.entry(instance_id.clone()).or_insert(Calls { over: now, waiting: 0 }),
        };
        let at_once = Duration::from_secs(1) / CALLS_PER_SECOND * BURST;
        let over = calls.over.max(now) + Duration::from_secs(1) / CALLS_PER_SECOND;
        let delay = over.duration_since(now).saturating_sub(at_once);
        if delay.is_zero() {
            calls.over = over;
            return Ok(None);
        }
        if delay > MAX_DELAY || calls.waiting >= self.max_waiting {
            return Err((delay / 2).max(Duration::from_secs(1)));
        }
        calls.over = over;
        calls.waiting += 1;
        Ok(Some(now + delay))
    }
}

impl Instances {
    fn tidy(&mut self, now: Instant) {
        if now.duration_since(self.tidied) >= TIDIED_EVERY {
            self.tidied = now;
            self.calls.retain(|_, calls| calls.waiting > 0 || calls.over > now);
        }
    }
}

/// A call that waits. It also stops waiting if its caller gives up.
struct Waiting {
    of: Arc<Pace>,
    instance_id: InstanceId,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(calls) = self.of.instances.lock().calls.get_mut(&self.instance_id) {
            calls.waiting -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(id: &str) -> InstanceId {
        InstanceId::new(id).unwrap()
    }

    #[test]
    fn calls_beyond_the_burst_wait_for_their_turn_and_those_of_others_do_not() {
        let (pace, now) = (Pace::new(1_000_000), Instant::now());
        let (loops, healthy) = (instance("loops"), instance("healthy"));
        for _ in 0..BURST {
            assert_eq!(pace.take(&loops, now), Ok(None));
        }
        let interval = Duration::from_secs(1) / CALLS_PER_SECOND;
        for call in 1..=100 {
            assert_eq!(pace.take(&loops, now), Ok(Some(now + interval * call)));
        }
        assert_eq!(pace.take(&healthy, now), Ok(None));
        assert_eq!(pace.take(&loops, now + interval * 101), Ok(None), "its calls have had their turn");
    }

    #[test]
    fn all_jobs_of_an_instance_can_be_armed_again_at_once() {
        let (pace, now) = (Pace::new(1_000_000), Instant::now());
        let jobs = 10_000;
        assert!((0..jobs).all(|_| pace.take(&instance("many"), now).is_ok()));
        let refused = (0..jobs).find_map(|_| pace.take(&instance("many"), now).err());
        assert!(refused.is_some_and(|retry_after| retry_after >= Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn no_instance_holds_more_than_its_part_of_the_requests() {
        let pace = Arc::new(Pace::new(40));
        let loops = instance("loops");
        for _ in 0..BURST {
            pace.turn(&loops).await.unwrap();
        }
        let mut waiting = Vec::new();
        for _ in 0..10 {
            let (pace, loops) = (Arc::clone(&pace), loops.clone());
            waiting.push(tokio::spawn(async move { pace.turn(&loops).await }));
            tokio::task::yield_now().await;
        }
        assert!(matches!(pace.turn(&loops).await, Err(ApiError::TooFast(_))));
        // A caller that gives up makes room for another one.
        waiting.pop().unwrap().abort();
        tokio::task::yield_now().await;
        pace.turn(&loops).await.unwrap();
    }

    #[test]
    fn long_list_counts_as_several_calls() {
        let (pace, now) = (Pace::new(1_000), Instant::now());
        let lists = instance("lists");
        assert_eq!(pace.take(&lists, now), Ok(None));
        pace.answered(&lists, 10_000);
        assert!(pace.take(&lists, now).unwrap().is_some());
    }

    #[test]
    fn instances_that_do_not_call_are_forgotten() {
        let (pace, now) = (Pace::new(1_000), Instant::now());
        assert_eq!(pace.take(&instance("old"), now), Ok(None));
        assert_eq!(pace.take(&instance("new"), now + TIDIED_EVERY), Ok(None));
        assert_eq!(pace.instances.lock().calls.len(), 1);
    }
}
