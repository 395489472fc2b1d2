//! The size and the times of a run, and its checks before any load: a run that cannot succeed fails at once.

use std::time::Duration;

use anyhow::bail;

/// Connections that the service may open to the sink: as many as it makes attempts at once, and idle ones.
const FIRES: usize = 2_048;
/// Everything else: standard streams, the runtime, the listener, registrations, the JWKS, metrics.
const OTHERS: usize = 96;

/// The size and the times of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Number of one-shots in the lateness phase.
    pub(super) jobs: usize,
    /// Period over which they are spread.
    pub(super) over: Duration,
    /// Number of one-shots that are due at one instant.
    pub(super) burst: usize,
    /// Number of agents that do not respond to the burst's fires. They have no part in the lateness phase.
    pub(super) slow: usize,
    /// Time for which they hold a fire.
    pub(super) hang: Duration,
    /// Maximum concurrent calls of the agent API.
    pub(super) concurrency: usize,
    /// Number of one-shots that are armed for next week before the phases.
    pub(super) armed: usize,
    /// Minimum time between the last provision and the first fire.
    pub(super) lead: Duration,
    /// Time to wait for late fires.
    pub(super) stragglers: Duration,
}

impl Plan {
    /// Fails if the options contradict each other.
    pub(super) fn check(&self, agents: usize) -> anyhow::Result<()> {
        let Self { jobs, burst, slow, concurrency, .. } = *self;
        if slow >= agents {
            bail!("--slow-agents {slow} leaves no healthy agent: --agents is {agents}");
        }
        if slow > 0 && burst < agents {
            bail!(
                "--burst {burst} is less than --agents {agents}: with --slow-agents, each agent needs a one-shot of the \
                burst"
            );
        }
        if concurrency > jobs.max(burst) {
            bail!(
                "--provision-concurrency {concurrency} is more than there are provisions ({}): raise --jobs or --burst",
                jobs.max(burst)
            );
        }
        Ok(())
    }

    /// Fails if this process may not open enough files.
    pub(super) fn check_descriptors(&self, limit: u64) -> anyhow::Result<()> {
        let needed = (self.jobs.max(self.burst).min(FIRES) + self.concurrency + OTHERS) as u64;
        if limit < needed {
            bail!(
                "too few file descriptors: this run needs {needed}, and the limit is {limit}; raise it with \
                `ulimit -n {needed}`, or reduce --burst, --jobs or --provision-concurrency"
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        Plan {
            jobs: 20,
            over: Duration::ZERO,
            burst: 30,
            slow: 0,
            hang: Duration::ZERO,
            concurrency: 8,
            armed: 0,
            lead: Duration::ZERO,
            stragglers: Duration::ZERO,
        }
    }

    #[test]
    fn contradictory_options_are_rejected_by_name() {
        plan().check(100).unwrap();
        for (plan, agents, said) in [
            (Plan { slow: 10, ..plan() }, 10, "--slow-agents 10 leaves no healthy agent: --agents is 10"),
            (Plan { slow: 1, ..plan() }, 31, "--burst 30 is less than --agents 31"),
            (
                Plan { concurrency: 31, ..plan() },
                1,
                "--provision-concurrency 31 is more than there are provisions (30)",
            ),
        ] {
            let error = plan.check(agents).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn too_few_descriptors_are_reported_with_the_fix() {
        plan().check_descriptors(134).unwrap();
        let error = plan().check_descriptors(133).unwrap_err().to_string();
        assert!(
            error.contains("needs 134, and the limit is 133") && error.contains("ulimit -n 134"),
            "{error}"
        );
        Plan { burst: 1_000_000, ..plan() }.check_descriptors(4_096).unwrap();
    }
}
