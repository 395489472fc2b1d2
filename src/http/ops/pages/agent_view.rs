//! The state of an agent, as pages show it.

use crate::domain::PortalDenial;
use crate::domain::quota::is_nearly_used;
use crate::domain::registration::Agent;
use crate::http::ops::frame::Tone;

/// The states of an agent, as badges. `quota` is that of its armed jobs.
pub(super) fn badges(agent: &Agent, quota: i64) -> Vec<(Tone, String)> {
    let mut badges = Vec::new();
    if !agent.enabled {
        badges.push((Tone::Warning, "disabled".to_owned()));
    } else if let Some(denial) = agent.denied_by_portal {
        let word = match denial {
            PortalDenial::Unknown => "unknown to the portal",
            PortalDenial::Disabled => "disabled by the portal",
        };
        badges.push((Tone::Warning, word.to_owned()));
    } else if agent.on_hold {
        badges.push((Tone::Warning, "on hold".to_owned()));
    }
    if agent.unreachable_since.is_some() {
        badges.push((Tone::Alarm, "unreachable".to_owned()));
    }
    if agent.alternating_callback_url.is_some() {
        badges.push((Tone::Warning, "two homes".to_owned()));
    }
    if agent.busy_until.is_some() {
        badges.push((Tone::Busy, "busy".to_owned()));
    }
    if agent.armed >= quota {
        badges.push((Tone::Warning, "quota used up".to_owned()));
    } else if is_nearly_used(agent.armed, quota) {
        badges.push((Tone::Warning, "quota nearly used".to_owned()));
    }
    if badges.is_empty() {
        badges.push((Tone::Calm, "enabled".to_owned()));
    }
    badges
}
