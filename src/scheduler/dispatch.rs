//! The limits of attempts in flight, per replica and per instance, as plain state without I/O.
//!
//! A due lease that finds no free slot waits in its instance's queue. Queues are first come, first served, and instances
//! take turns: a slow agent fills only its own slots.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use nas_cron_protocol::InstanceId;

use crate::domain::lease::Lease;

/// Time without an ended attempt after which an instance with all slots taken is stuck: it gets no further claims.
const STUCK_AFTER: Duration = Duration::from_secs(1);
/// Time in which an instance's ended attempts are counted. Its queue may be as long as what ends in two such times, and
/// [`SPARE`] more: leases further back would end before their turn.
const WINDOW: Duration = Duration::from_secs(1);
/// Minimum limit of an instance's queue, as a multiple of its slots.
const SPARE: usize = 4;

/// The limits and the current load.
#[derive(Debug)]
pub struct Dispatch {
    max_in_flight: usize,
    max_per_instance: usize,
    in_flight: usize,
    queued: usize,
    loads: HashMap<InstanceId, Load>,
    /// Instances with a queued lease and a free slot, each once.
    turn: VecDeque<InstanceId>,
    /// True if an instance has stopped being saturated.
    relieved: bool,
}

#[derive(Debug)]
struct Load {
    in_flight: usize,
    queue: VecDeque<Lease>,
    in_turn: bool,
    /// Time of the last ended attempt, or of the first lease.
    progress: Instant,
    /// Start of the current window.
    window: Instant,
    /// Number of attempts that ended in the current window, and in the one before.
    ended: [usize; 2],
    /// It was saturated when the last claim asked.
    is_left_out: bool,
}

impl Dispatch {
    /// Returns a state without attempts.
    pub fn new(max_in_flight: usize, max_per_instance: usize) -> Self {
        Self {
            max_in_flight,
            max_per_instance,
            in_flight: 0,
            queued: 0,
            loads: HashMap::new(),
            turn: VecDeque::new(),
            relieved: false,
        }
    }

    /// Adds a lease that has become due.
    pub fn offer(&mut self, lease: Lease, now: Instant) {
        let instance_id = lease.instance_id.clone();
        let load = self.loads.entry(instance_id.clone()).or_insert_with(|| Load {
            in_flight: 0,
            queue: VecDeque::new(),
            in_turn: false,
            progress: now,
            window: now,
            ended: [0, 0],
            is_left_out: false,
        });
        load.queue.push_back(lease);
        self.queued += 1;
        if !load.in_turn && load.in_flight < self.max_per_instance {
            load.in_turn = true;
            self.turn.push_back(instance_id);
        }
    }

    /// Removes up to `max` leases whose attempts may start. Each one holds a slot until [`Self::ended`].
    pub fn take(&mut self, max: usize) -> Vec<Lease> {
        let mut taken = Vec::new();
        while taken.len() < max && self.in_flight < self.max_in_flight {
            let Some(instance_id) = self.turn.pop_front() else { break };
            let Some(load) = self.loads.get_mut(&instance_id) else { continue };
            load.in_turn = false;
            let Some(lease) = load.queue.pop_front() else { continue };
            taken.push(lease);
            self.queued -= 1;
            self.in_flight += 1;
            load.in_flight += 1;
            self.relieved |= load.is_relieved(self.max_per_instance);
            if !load.queue.is_empty() && load.in_flight < self.max_per_instance {
                load.in_turn = true;
                self.turn.push_back(instance_id);
            }
        }
        taken
    }

    /// Frees a slot of the instance.
    pub fn ended(&mut self, instance_id: &InstanceId, now: Instant) {
        let Some(load) = self.loads.get_mut(instance_id) else { return };
        load.in_flight -= 1;
        load.note_end(now);
        self.relieved |= load.is_relieved(self.max_per_instance);
        self.in_flight -= 1;
        if load.in_flight == 0 && load.queue.is_empty() {
            self.loads.remove(instance_id);
        } else if !load.queue.is_empty() && !load.in_turn {
            load.in_turn = true;
            self.turn.push_back(instance_id.clone());
        }
    }

    /// Returns true if an instance has stopped being [saturated](Self::saturated) since the last call: its due one-shots
    /// may be claimed now.
    pub fn take_relieved(&mut self) -> bool {
        std::mem::take(&mut self.relieved)
    }

    /// Removes the waiting leases that end before `by`.
    pub fn take_ending(&mut self, by: Instant) -> Vec<Lease> {
        let mut ending = Vec::new();
        for load in self.loads.values_mut() {
            // Queues are only roughly ordered by the end of leases, so all leases are checked.
            if !load.queue.iter().any(|lease| lease.ends < by) {
                continue;
            }
            let (gone, kept): (VecDeque<_>, _) = load.queue.drain(..).partition(|lease| lease.ends < by);
            load.queue = kept;
            self.relieved |= load.is_relieved(self.max_per_instance);
            load.in_turn &= !load.queue.is_empty();
            ending.extend(gone);
        }
        self.queued -= ending.len();
        // Instances with an empty queue must leave `turn`: their next lease adds them again, and an instance that is there
        // twice would exceed its limit.
        let loads = &self.loads;
        self.turn.retain(|instance_id| loads.get(instance_id).is_some_and(|load| load.in_turn));
        self.loads.retain(|_, load| load.in_flight > 0 || !load.queue.is_empty());
        ending
    }

    /// Removes all waiting leases.
    pub fn take_queued(&mut self) -> Vec<Lease> {
        self.turn.clear();
        self.queued = 0;
        let queued = self.loads.values_mut().flat_map(|load| {
            load.in_turn = false;
            load.queue.drain(..)
        });
        let queued = queued.collect();
        self.loads.retain(|_, load| load.in_flight > 0);
        queued
    }

    /// Returns the instances that are stuck with all slots taken or have a long queue. Further claims for them would only
    /// wait.
    pub fn saturated(&mut self, now: Instant) -> Vec<String> {
        let slots = self.max_per_instance;
        for load in self.loads.values_mut() {
            load.is_left_out = load.is_stuck(slots, now) || load.has_long_queue(slots);
        }
        let left_out = self.loads.iter().filter(|(_, load)| load.is_left_out);
        left_out.map(|(instance_id, _)| instance_id.as_str().to_owned()).collect()
    }

    /// Returns the number of due leases that wait only for the attempts of other instances: theirs has free slots.
    pub fn crowded_out(&self) -> usize {
        let has_slots = |load: &&Load| load.in_flight < self.max_per_instance;
        self.loads.values().filter(has_slots).map(|load| load.queue.len()).sum()
    }

    /// Returns the number of taken slots: attempts in flight, and attempts that await their confirmation.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Returns the number of due leases without a slot.
    pub fn queued(&self) -> usize {
        self.queued
    }
}

impl Load {
    fn is_stuck(&self, slots: usize, now: Instant) -> bool {
        self.in_flight >= slots && now.saturating_duration_since(self.progress) >= STUCK_AFTER
    }

    fn has_long_queue(&self, slots: usize) -> bool {
        let [this, before] = self.ended;
        self.queue.len() >= slots * SPARE + 2 * this.max(before)
    }

    fn note_end(&mut self, now: Instant) {
        if now.saturating_duration_since(self.window) >= WINDOW {
            self.window = now;
            self.ended = [0, self.ended[0]];
        }
        self.ended[0] += 1;
        self.progress = now;
    }

    /// Returns true, once, if claims left it out and need not any more.
    fn is_relieved(&mut self, slots: usize) -> bool {
        // After an end or a start, it is not stuck.
        self.is_left_out && !self.has_long_queue(slots) && {
            self.is_left_out = false;
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use nas_cron_protocol::JobId;
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::domain::stage::Stage;

    fn lease(instance: &str, ends: Instant) -> Lease {
        Lease {
            instance_id: InstanceId::new(instance).unwrap(),
            job_id: JobId::new("job").unwrap(),
            lease_token: Uuid::new_v4(),
            due_at: DateTime::UNIX_EPOCH,
            ends,
            claim: Stage::since(ends),
            woken_at: None,
            retries: None,
        }
    }

    #[test]
    fn slow_agent_does_not_delay_others() {
        let now = Instant::now();
        let mut dispatch = Dispatch::new(100, 2);
        for _ in 0..9 {
            dispatch.offer(lease("slow", now), now);
        }
        dispatch.offer(lease("other", now), now);
        let taken: Vec<_> = dispatch.take(100).into_iter().map(|l| l.instance_id.to_string()).collect();
        assert_eq!(taken, ["slow", "other", "slow"]);
        assert_eq!(dispatch.queued(), 7);
        assert_eq!(dispatch.saturated(now), Vec::<String>::new(), "busy is not stuck");
        assert_eq!(dispatch.saturated(now + STUCK_AFTER), ["slow"]);
        dispatch.ended(&InstanceId::new("slow").unwrap(), now + STUCK_AFTER);
        assert!(dispatch.take_relieved() && !dispatch.take_relieved());
        assert_eq!(dispatch.take(100).len(), 1);
    }

    #[test]
    fn instance_with_a_backlog_is_saturated_until_its_queue_shrinks() {
        let now = Instant::now();
        let mut dispatch = Dispatch::new(100, 1);
        for _ in 0..SPARE + 3 {
            dispatch.offer(lease("busy", now), now);
        }
        assert_eq!(dispatch.saturated(now), ["busy"]);
        let busy = InstanceId::new("busy").unwrap();
        assert_eq!(dispatch.take(1).len(), 1);
        assert_eq!(dispatch.saturated(now), ["busy"]);
        assert!(!dispatch.take_relieved());
        dispatch.ended(&busy, now);
        assert!(!dispatch.take_relieved(), "one attempt a second makes room for two");
        assert_eq!(dispatch.take(1).len(), 1);
        assert!(dispatch.take_relieved() && !dispatch.take_relieved(), "the claiming loop is notified once");
        assert_eq!(dispatch.saturated(now), Vec::<String>::new());
    }

    #[test]
    fn queue_of_a_fast_agent_may_be_longer() {
        let (mut now, mut dispatch) = (Instant::now(), Dispatch::new(100, 1));
        let fast = InstanceId::new("fast").unwrap();
        for _ in 0..3 {
            for _ in 0..50 {
                dispatch.offer(lease("fast", now), now);
                assert_eq!(dispatch.take(1).len(), 1);
                dispatch.ended(&fast, now);
                // Queued until the end, so that the instance is remembered.
                dispatch.offer(lease("fast", now), now);
            }
            now += WINDOW;
        }
        assert_eq!(dispatch.queued(), 150);
        assert_eq!(dispatch.saturated(now), ["fast"], "150 leases, and 50 attempts a second");
        assert_eq!(dispatch.take_ending(now).len(), 150);
        assert!(dispatch.take_relieved());
        for _ in 0..99 {
            dispatch.offer(lease("fast", now), now);
        }
        assert_eq!(dispatch.saturated(now), ["fast"], "it was forgotten with its last lease");
    }

    #[test]
    fn leases_of_a_full_instance_do_not_crowd_others_out() {
        let now = Instant::now();
        let mut dispatch = Dispatch::new(3, 2);
        for instance in ["full", "full", "full", "full", "other", "other"] {
            dispatch.offer(lease(instance, now), now);
        }
        assert_eq!(dispatch.take(100).len(), 3);
        assert_eq!((dispatch.queued(), dispatch.crowded_out()), (3, 1));
    }

    #[test]
    fn instance_keeps_a_single_turn_after_its_leases_were_given_back() {
        let now = Instant::now();
        let mut dispatch = Dispatch::new(2, 1);
        dispatch.offer(lease("a", now), now);
        assert_eq!(dispatch.take_ending(now + Duration::from_secs(1)).len(), 1);
        dispatch.offer(lease("a", now), now);
        dispatch.offer(lease("a", now), now);
        assert_eq!(dispatch.take(2).len(), 1, "one at a time");
    }

    #[test]
    fn leases_that_end_soon_are_found() {
        let now = Instant::now();
        let mut dispatch = Dispatch::new(1, 1);
        dispatch.offer(lease("a", now + Duration::from_secs(1)), now);
        dispatch.offer(lease("a", now + Duration::from_secs(3)), now);
        assert_eq!(dispatch.take_ending(now + Duration::from_secs(2)).len(), 1);
        assert_eq!(dispatch.take_queued().len(), 1);
        assert_eq!((dispatch.queued(), dispatch.in_flight(), dispatch.loads.len()), (0, 0, 0));
    }

    proptest! {
        /// For any sequence of steps: both limits hold, no lease is lost, and no lease waits while a slot is free.
        #[test]
        fn limits_hold_and_nothing_starves(steps in proptest::collection::vec((0_u8..4, 0_u8..4), 1..200)) {
            let now = Instant::now();
            let mut dispatch = Dispatch::new(5, 2);
            let (mut offered, mut flying): (usize, Vec<InstanceId>) = (0, Vec::new());
            let mut ended = 0;
            for (what, whom) in steps {
                match what {
                    0 => {
                        let ends = now + Duration::from_secs(offered as u64 % 2);
                        dispatch.offer(lease(&format!("i{whom}"), ends), now);
                        offered += 1;
                    }
                    3 => ended += dispatch.take_ending(now + Duration::from_millis(1)).len(),
                    1 => flying.extend(dispatch.take(usize::from(whom)).into_iter().map(|l| l.instance_id)),
                    _ => if let Some(instance) = flying.pop() { dispatch.ended(&instance, now); ended += 1; },
                }
                prop_assert_eq!(dispatch.in_flight(), flying.len());
                prop_assert!(flying.len() <= 5);
                for i in 0..4 {
                    let of_it = flying.iter().filter(|f| f.as_str() == ["i0", "i1", "i2", "i3"][i]).count();
                    prop_assert!(of_it <= 2);
                }
                prop_assert_eq!(offered, dispatch.queued() + flying.len() + ended);
            }
            flying.extend(dispatch.take(1000).into_iter().map(|l| l.instance_id));
            let room = flying.len() < 5;
            let starving = (0..4).any(|i| {
                let id = InstanceId::new(format!("i{i}")).unwrap();
                dispatch.loads.get(&id).is_some_and(|load| load.in_flight < 2 && !load.queue.is_empty())
            });
            prop_assert!(!(room && starving));
        }
    }
}
