//! Upper limits of the service's allocations for one provision and for one fire.
//!
//! Counts, not times, so the speed of the machine does not matter. The allocator counts all threads of the process. This
//! is therefore a binary of its own, the service runs in it, and the callers and agents do not allocate while they are at
//! work.

mod peers;
mod service;

use std::alloc::System;

use nas_cron_dev::private_postgres::PrivatePostgres;
use nas_cron_testing::database::{server_options, with_slow_disk};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use peers::{Agents, Request};
use serde_json::json;
use service::InProcess;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const JOBS: usize = 1_000;
const INSTANCES: usize = 20;
/// Concurrent provisions.
const CALLERS: usize = 16;

/// Allocations for one job.
#[derive(Clone, Copy, Debug)]
struct Cost {
    /// Number of allocations, and of changes of their size.
    count: usize,
    bytes: usize,
}

/// Counts the allocations of `work` for one of [`JOBS`].
fn cost(work: impl FnOnce()) -> Cost {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    Cost { count: (change.allocations + change.reallocations) / JOBS, bytes: change.bytes_allocated / JOBS }
}

impl Cost {
    fn is_at_most(self, limit: Self, what: &str) {
        println!("{what}: {self:?}");
        let within = self.count <= limit.count && self.bytes <= limit.bytes;
        assert!(within, "{what} costs {self:?}; the limit is {limit:?}");
    }

    fn without(self, other: Self) -> Self {
        Self { count: self.count.saturating_sub(other.count), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// The provisions of all jobs, due in `millis`.
fn provisions(portal: &Portal, agents: &Agents, millis: i64) -> Vec<Request> {
    let at = fire_at(millis);
    let tokens: Vec<_> = (0..INSTANCES).map(|n| portal.client_token("org-1", &format!("inst-{n}"))).collect();
    let provision = |number: usize| {
        let (job, instance) = (format!("job-{number}"), number % INSTANCES);
        let body = json!({
            "job_id": job, "fire_at": at, "agent_callback_url": agents.callback(instance),
            "dedup_key": format!("{job}:{at}"),
        });
        Request::new("/api/agent-cron/provision", &tokens[instance], &body)
    };
    (0..JOBS).map(provision).collect()
}

#[test]
fn provisions_and_fires_allocate_no_more_than_these_limits() {
    let postgres =
        PrivatePostgres::start(with_slow_disk(server_options())).unwrap_or_else(|error| panic!("{error}"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let portal = runtime.block_on(Portal::start());
    let settings = Settings::new(&postgres.tcp_url("postgres").expect("TCP is enabled"), &portal);
    let service = InProcess::start(&runtime, &settings);
    for number in 0..INSTANCES {
        service.register(&format!("inst-{number}"));
    }
    let agents = Agents::start();
    let provisions = |millis| provisions(&portal, &agents, millis);
    let arm = |requests: &[Request]| peers::send_all(service.address(), requests, CALLERS);
    let fire = |requests: &[Request], delivered: usize| {
        arm(requests);
        agents.wait_for(delivered);
        service.wait_for(delivered);
    };

    // Connections, prepared statements and buffers come first.
    fire(&provisions(3_000), JOBS);

    // Measured: 200 allocations of 41,000 bytes; 250 if each provision is a statement of its own.
    let requests = provisions(3_600_000);
    cost(|| arm(&requests)).is_at_most(Cost { count: 240, bytes: 60_000 }, "provision");

    let requests = provisions(7_200_000);
    let superseded = cost(|| arm(&requests));
    // Fires may begin before all are armed. The sum is the same.
    let requests = provisions(3_000);
    let fired = cost(|| fire(&requests, 2 * JOBS));
    // Measured: 145 allocations of 50,000 to 80,000 bytes, by the number of new connections. If each outcome is a
    // statement of its own: 190 of 216,000.
    fired.without(superseded).is_at_most(Cost { count: 180, bytes: 150_000 }, "fire");

    service.stop(&runtime);
}
