//! From a verified token's claims to the agent instance that calls (docs/contract.md#who-calls).
//!
//! [`identify`] says what to look for, [`admit`] judges what was found. Both are pure: the statement between
//! them is the same for whoever does not resolve, and so is the answer.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};

use super::claims::AccessClaims;
use crate::domain::agent_instance::AgentInstance;

/// Under a younger token an instance that is not found may still be being registered by the portal.
pub const REGISTRATION_GRACE: TimeDelta = TimeDelta::minutes(10);

const AGENT_CLIENT: &str = "agent:";

/// Where the caller's instance is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A client `agent:<id>`.
    Client(InstanceId),
    /// A bootstrap session within its org.
    Session(OrgId, SessionId),
    /// Of the right shape, but no instance can be called that.
    Nowhere,
}

/// Why a verified token opens nothing. The texts may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// This identity can never provision: real clients stop calling for good.
    #[error("this token does not belong to an agent instance")]
    InvalidClient,
    /// Its instance is switched off; its fires are held until it is enabled.
    #[error("this agent instance is disabled")]
    Disabled,
    /// Not found, under a token so young that it may still come.
    #[error("this agent instance is not known yet")]
    NotYetKnown,
}

/// What the claims name: an `agent:<id>` client, else a session within an org, else nothing that ever calls.
pub fn identify(claims: &AccessClaims) -> Result<Identity, Refusal> {
    if let Some(id) = agent_of(claims) {
        return Ok(InstanceId::new(id).map_or(Identity::Nowhere, Identity::Client));
    }
    match (&claims.sid, &claims.org_id) {
        (Some(sid), Some(org_id)) => Ok(match (OrgId::new(org_id), SessionId::new(sid)) {
            (Ok(org_id), Ok(sid)) => Identity::Session(org_id, sid),
            _ => Identity::Nowhere,
        }),
        _ => Err(Refusal::InvalidClient),
    }
}

/// Judges what was found. An instance that is unknown, deleted, another org's, or not the one that the other
/// claims name gets one and the same answer: nobody may tell them apart.
pub fn admit(
    claims: &AccessClaims,
    found: Option<AgentInstance>,
    now: DateTime<Utc>,
) -> Result<AgentInstance, Refusal> {
    let Some(instance) = found.filter(|instance| agrees(claims, instance)) else {
        // Without a date it may be young, and a wrong `invalid_client` is for good.
        let young = claims.age(now).is_none_or(|age| age < REGISTRATION_GRACE);
        return Err(if young { Refusal::NotYetKnown } else { Refusal::InvalidClient });
    };
    if instance.enabled { Ok(instance) } else { Err(Refusal::Disabled) }
}

/// The `<id>` of a client `agent:<id>`.
fn agent_of(claims: &AccessClaims) -> Option<&str> {
    claims.client_id.as_deref()?.strip_prefix(AGENT_CLIENT).filter(|id| !id.is_empty())
}

/// A session was looked for within its org, so only a client's other claims are left to compare.
fn agrees(claims: &AccessClaims, instance: &AgentInstance) -> bool {
    let same = |claim: &Option<String>, own: &str| claim.as_deref().is_none_or(|claim| claim == own);
    same(&claims.org_id, instance.org_id.as_str())
        && (agent_of(claims).is_none() || same(&claims.agent_instance_id, instance.instance_id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn instance(id: &str, org: &str) -> AgentInstance {
        AgentInstance {
            instance_id: InstanceId::new(id).unwrap(),
            org_id: OrgId::new(org).unwrap(),
            enabled: true,
            callback_url: None,
            skew_guard_ms: 0,
            skew_learned_at: None,
            unreachable_since: None,
            pulled_at: None,
            looked_up: None,
            denied_by_portal: None,
        }
    }

    fn claims(client: &str, sid: Option<&str>, org: Option<&str>, instance: Option<&str>) -> AccessClaims {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        AccessClaims {
            client_id: owned(Some(client).filter(|client| !client.is_empty())),
            sid: owned(sid),
            org_id: owned(org),
            agent_instance_id: owned(instance),
            issued_at: Some(NOW - REGISTRATION_GRACE),
        }
    }

    /// A world of one instance, `i1` of org `o1` with session `s1`.
    fn resolve(claims: &AccessClaims) -> Result<AgentInstance, Refusal> {
        let found = match identify(claims)? {
            Identity::Client(id) => Some(instance("i1", "o1")).filter(|one| one.instance_id == id),
            Identity::Session(org, sid) => {
                Some(instance("i1", "o1")).filter(|one| one.org_id == org && sid.as_str() == "s1")
            }
            Identity::Nowhere => None,
        };
        admit(claims, found, NOW)
    }

    #[test]
    fn resolution_in_the_contract_s_order() {
        let long = format!("agent:{}", "x".repeat(256));
        let vps = "hermes-cli-vps";
        let cases = [
            // 1. agent:<id>, and what is present must agree with it
            (claims("agent:i1", None, None, None), true),
            (claims("agent:i1", None, Some("o1"), None), true),
            (claims("agent:i1", None, Some("o1"), Some("i1")), true),
            (claims("agent:i1", Some("s9"), Some("o1"), None), true),
            (claims("agent:i1", None, Some("o2"), None), false),
            (claims("agent:i1", None, Some(""), None), false),
            (claims("agent:i1", None, Some("o1"), Some("i2")), false),
            (claims("agent:i1", None, Some("o1"), Some("")), false),
            (claims("agent:i2", None, Some("o1"), None), false),
            (claims("agent:i2", Some("s1"), Some("o1"), None), false), // never falls back to the session
            (claims("agent:i1 ", None, None, None), false),
            (claims("agent:I1", None, None, None), false),
            (claims("agent:a\0b", None, None, None), false),
            (claims(&long, None, None, None), false),
            // 2. the session, in its org
            (claims(vps, Some("s1"), Some("o1"), None), true),
            (claims("", Some("s1"), Some("o1"), None), true),
            (claims("agent:", Some("s1"), Some("o1"), None), true), // not of the shape agent:<id>
            (claims("Agent:i1", Some("s1"), Some("o1"), None), true),
            (claims(vps, Some("s1"), Some("o2"), None), false),
            (claims(vps, Some("s2"), Some("o1"), None), false),
            (claims(vps, Some(""), Some("o1"), None), false),
            (claims(vps, Some("s1"), Some("\n"), None), false),
            // 3. nothing that ever calls
            (claims(vps, None, Some("o1"), None), false),
            (claims(vps, Some("s1"), None, None), false),
            (claims(vps, None, Some("o1"), Some("i1")), false),
            (claims("", None, None, None), false),
            (claims("agent:", None, None, None), false),
        ];
        for (claims, resolves) in cases {
            let resolved = resolve(&claims);
            if resolves {
                assert_eq!(resolved.unwrap().instance_id.as_str(), "i1", "{claims:?}");
            } else {
                assert_eq!(resolved, Err(Refusal::InvalidClient), "{claims:?}");
            }
        }
    }

    #[test]
    fn nobody_may_tell_unknown_and_another_org_s_apart() {
        for issued_at in [None, Some(NOW), Some(NOW - REGISTRATION_GRACE), Some(NOW + TimeDelta::seconds(30))]
        {
            let mut unknown = claims("agent:i1", None, Some("o1"), None);
            unknown.issued_at = issued_at;
            let mut disabled = instance("i1", "o2");
            disabled.enabled = false;
            let answers = [
                admit(&unknown, None, NOW),
                admit(&unknown, Some(instance("i1", "o2")), NOW),
                admit(&unknown, Some(disabled), NOW),
            ];
            assert!(answers.iter().all(|answer| *answer == answers[0] && answer.is_err()), "{answers:?}");
        }
    }

    #[test]
    fn an_unresolved_caller_is_invalid_client_only_with_a_token_of_ten_minutes() {
        let ago = |age: TimeDelta| {
            let mut claims = claims("hermes-cli-vps", Some("s2"), Some("o1"), None);
            claims.issued_at = Some(NOW - age);
            admit(&claims, None, NOW).unwrap_err()
        };
        assert_eq!(ago(TimeDelta::zero()), Refusal::NotYetKnown);
        assert_eq!(ago(REGISTRATION_GRACE - TimeDelta::seconds(1)), Refusal::NotYetKnown);
        assert_eq!(ago(REGISTRATION_GRACE), Refusal::InvalidClient);
        assert_eq!(ago(TimeDelta::seconds(-30)), Refusal::NotYetKnown);
        let mut dateless = claims("agent:i2", None, None, None);
        dateless.issued_at = None;
        assert_eq!(admit(&dateless, None, NOW), Err(Refusal::NotYetKnown));
    }

    #[test]
    fn a_disabled_instance_is_access_denied_and_never_invalid_client() {
        let mut disabled = instance("i1", "o1");
        disabled.enabled = false;
        let claims = claims("agent:i1", None, Some("o1"), None);
        assert_eq!(admit(&claims, Some(disabled), NOW), Err(Refusal::Disabled));
    }
}
