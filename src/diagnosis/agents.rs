//! Findings about agents: outages, lost logins, and homes that share an identity.

use nas_cron_base::terminal::printable;
use nas_cron_protocol::admin_api::Count;

use super::Finding;

/// Maximum number of agents that are named.
const NAMED: usize = 5;
/// Number of agents to read: one more than are named shows that there are more.
pub const READ: i64 = 6;

/// Reports agents whose callback does not answer.
pub fn unreachable(agents: Count) -> Finding {
    if agents.is_zero() {
        return Finding::ok("none");
    }
    Finding::warning(
        format!("{}: of each, one job is tried, and the others wait until it answers", agents.of("agent")),
        "`nas-cron agents list --unreachable` lists them; check that their gateways run and that the network reaches their \
         callbacks; their fires follow when they answer",
    )
}

/// Reports agents whose login at the built-in portal a reused refresh token ended. They cannot call until they are enrolled
/// again.
pub fn logins(lost: &[String]) -> Finding {
    if lost.is_empty() {
        return Finding::ok("none ended by a reused token");
    }
    Finding::warning(
        format!("ended, because a spent refresh token was presented: {}", named(lost)),
        "remove the second copy of the agent's home; then create a new login: `nas-cron agents enroll --help` shows how",
    )
}

/// Reports agents whose callback moves back and forth: two homes with one identity cancel each other's jobs.
pub fn homes(alternating: &[String]) -> Finding {
    if alternating.is_empty() {
        return Finding::ok("no two share an identity");
    }
    Finding::warning(
        format!(
            "the callback moves back and forth, two homes seem to share an identity: {}",
            named(alternating)
        ),
        "`nas-cron agents show INSTANCE_ID` names both callbacks; give each home an instance of its own",
    )
}

/// Lists agents, up to a limit.
fn named(agents: &[String]) -> String {
    let mut named: Vec<_> = agents.iter().take(NAMED).map(|agent| printable(agent)).collect();
    if agents.len() > NAMED {
        named.push("others".to_owned());
    }
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::Status;

    #[test]
    fn unreachable_agents_are_a_warning() {
        assert_eq!(unreachable(Count::exactly(0)).status, Status::Ok);
        let found = unreachable(Count::up_to(10, 10));
        assert_eq!(found.status, Status::Warning);
        assert!(found.found.starts_with("10 or more agents: of each"), "{}", found.found);
        assert!(unreachable(Count::exactly(1)).found.starts_with("1 agent: of each"));
    }

    #[test]
    fn lost_logins_are_named_up_to_a_limit() {
        let lost: Vec<_> = (0..7).map(|n| format!("agent-{n}")).collect();
        assert_eq!(logins(&[]).status, Status::Ok);
        assert!(logins(&lost[..1]).found.ends_with(": agent-0"));
        assert!(logins(&lost).found.ends_with("agent-4, others"));
        assert_eq!(homes(&[]).status, Status::Ok);
        assert!(
            homes(&lost)
                .found
                .ends_with("share an identity: agent-0, agent-1, agent-2, agent-3, agent-4, others")
        );
    }
}
