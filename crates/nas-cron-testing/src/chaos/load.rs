//! The load: recurring jobs, which agents arm again after each fire, and independent one-shots.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::balancer::Failure;
use super::ledger::{Finding, OneShot, now};
use super::stage::Shared;

/// First number of independent one-shots; recurring jobs have smaller numbers.
const INDEPENDENT: u32 = 1_000_000_000;
/// First number of the one-shots that probe a replica.
const PROBES: u32 = 2_000_000_000;
/// Lifetime of an agent's token, in seconds.
const TOKEN_LIFETIME: i64 = 60;
/// Time between the provision and the instant, in microseconds: minimum, and range above it.
const AHEAD: (i64, i64) = (1_500_000, 20_000_000);

/// The size of the load.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Number of agents.
    pub agents: u32,
    /// Number of recurring jobs, assigned to the agents in turn.
    pub recurring: u32,
    /// Their period.
    pub period: Duration,
    /// Independent one-shots per second, which are armed whether or not fires arrive.
    pub one_shots: f64,
    /// Percentage of one-shots whose first attempt is answered with 503.
    pub refused_percent: u64,
}

impl Load {
    /// 115 provisions and 170 attempts per second from 100 agents.
    pub const FULL: Self = Self {
        agents: 100,
        recurring: 1_200,
        period: Duration::from_secs(20),
        one_shots: 55.0,
        refused_percent: 48,
    };
    /// About 8 provisions and 12 attempts per second, for a machine that is busy with other tests.
    pub const LOW: Self = Self {
        agents: 10,
        recurring: 30,
        period: Duration::from_secs(10),
        one_shots: 5.0,
        refused_percent: 48,
    };

    /// 200 provisions and about 220 attempts per second from 100 agents.
    pub const SOAK: Self = Self {
        agents: 100,
        recurring: 2_400,
        period: Duration::from_secs(20),
        one_shots: 80.0,
        refused_percent: 10,
    };

    /// 20 provisions per second, of which one in ten is answered with 503 at first: for comparisons of lateness.
    pub const STEADY: Self = Self {
        agents: 20,
        recurring: 200,
        period: Duration::from_secs(20),
        one_shots: 10.0,
        refused_percent: 10,
    };

    /// Returns the provisions per second.
    pub fn provisions(&self) -> f64 {
        f64::from(self.recurring) / self.period.as_secs_f64() + self.one_shots
    }
}

/// The running load.
pub(super) struct Running {
    state: Arc<State>,
    tasks: Vec<JoinHandle<()>>,
}

struct State {
    shared: Arc<Shared>,
    load: Load,
    running: AtomicBool,
    /// Calls in flight.
    calls: AtomicUsize,
    /// A lock for each recurring job, which serialises its calls.
    jobs: Vec<Mutex<()>>,
}

/// Starts the load.
pub(super) fn start(shared: Arc<Shared>, load: Load) -> Running {
    let state = Arc::new(State {
        shared,
        load,
        running: AtomicBool::new(true),
        calls: AtomicUsize::new(0),
        jobs: (0..load.recurring).map(|_| Mutex::default()).collect(),
    });
    let tasks = vec![
        tokio::spawn(Arc::clone(&state).arm_recurring()),
        tokio::spawn(Arc::clone(&state).re_arm()),
        tokio::spawn(Arc::clone(&state).arm_one_shots()),
    ];
    Running { state, tasks }
}

impl Running {
    /// Stops arming, and waits for the calls in flight.
    pub(super) async fn stop(self) {
        self.state.running.store(false, Ordering::Relaxed);
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        while self.state.calls.load(Ordering::Relaxed) > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for task in self.tasks {
            task.abort();
        }
    }
}

impl State {
    async fn arm_recurring(self: Arc<Self>) {
        let period = micros(self.load.period);
        for job in 0..self.load.recurring {
            let share = period * i64::from(job) / i64::from(self.load.recurring);
            let due = now() + AHEAD.0 + share;
            self.arm(OneShot { job, due });
            tokio::time::sleep(Duration::from_millis(4)).await;
        }
    }

    async fn re_arm(self: Arc<Self>) {
        let mut accepted = self.shared.accepted.lock().await;
        while let Some(OneShot { job, due }) = accepted.recv().await {
            if job < self.load.recurring && self.running.load(Ordering::Relaxed) {
                let next = (due + micros(self.load.period)).max(now() + AHEAD.0);
                self.arm(OneShot { job, due: next });
            }
        }
    }

    async fn arm_one_shots(self: Arc<Self>) {
        let mut interval = tokio::time::interval(Duration::from_secs_f64(1.0 / self.load.one_shots));
        interval.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for job in INDEPENDENT.. {
            interval.tick().await;
            if !self.running.load(Ordering::Relaxed) {
                return;
            }
            // Spread, and the same in every run.
            let ahead = AHEAD.0 + i64::from(job) * 7_919_333 % AHEAD.1;
            self.arm(OneShot { job, due: now() + ahead });
        }
    }

    /// Provisions the one-shot, and retries until it is acknowledged or has fired.
    fn arm(self: &Arc<Self>, one_shot: OneShot) {
        let this = Arc::clone(self);
        this.calls.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            this.provision(one_shot).await;
            this.calls.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn provision(&self, one_shot: OneShot) {
        let _turn = match self.jobs.get(one_shot.job as usize) {
            Some(job) => Some(job.lock().await),
            None => None,
        };
        let ledger = &self.shared.ledger;
        ledger.sent(one_shot);
        let mut pause = Duration::from_millis(500);
        while !ledger.is_accepted(one_shot) {
            let (token, body) = self.shared.call(one_shot);
            let start = now();
            let failure = match self.shared.balancer.provision(&token, &body).await {
                Ok(()) => return ledger.acknowledged(one_shot),
                Err(failure) => failure,
            };
            // Attributed to the fault during the call.
            let at = now().min(start + 1_000_000);
            let (finding, text) = match failure {
                Failure::Failed(text) => (Finding::Failed, text),
                Failure::Broken(text) => (Finding::Broken, text),
            };
            ledger.found(at, finding, format!("after {} ms: {text}", (now() - start) / 1_000));
            if !self.running.load(Ordering::Relaxed) {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(16));
        }
    }
}

impl Shared {
    /// Returns a fresh token and the body of a provision.
    pub(super) fn call(&self, one_shot: OneShot) -> (String, Value) {
        let agent = format!("inst-{}", one_shot.job % self.agents);
        let seconds = now() / 1_000_000;
        // Short-lived, so that a replica with a wrong clock would reject it.
        let token = self.portal.sign(json!({
            "client_id": format!("agent:{agent}"), "org_id": "org-1",
            "iat": seconds, "nbf": seconds, "exp": seconds + TOKEN_LIFETIME,
        }));
        let due = DateTime::from_timestamp_micros(one_shot.due).expect("a time of this century");
        let (job, due) = (format!("job-{}", one_shot.job), due.to_rfc3339_opts(SecondsFormat::Micros, false));
        let body = json!({
            "job_id": job, "fire_at": due, "dedup_key": format!("{job}:{due}"),
            "agent_callback_url": format!("{}/{agent}", self.callback),
        });
        (token, body)
    }

    /// Provisions a one-shot of its own at one replica. Returns true if it was acknowledged.
    pub(super) async fn probe(&self, replica: usize, limit: Duration) -> bool {
        let number = self.probes.fetch_add(1, Ordering::Relaxed);
        let one_shot = OneShot { job: PROBES + number, due: now() + AHEAD.0 };
        self.ledger.sent(one_shot);
        let (token, body) = self.call(one_shot);
        let provisioned = self.balancer.provision_at(replica, &token, &body, limit).await;
        if provisioned {
            self.ledger.acknowledged(one_shot);
        }
        provisioned
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).expect("a short time")
}
