//! Resolves the claims of a verified token to the calling agent instance (docs/contract.md#who-calls).
//!
//! [`identify`] returns the identity to look up, and [`admit`] checks the instance that was found. Both are pure. A
//! caller that does not resolve causes the same statement and gets the same response in all cases.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};

use super::claims::{AccessClaims, agent_id};
use crate::domain::agent_instance::AgentInstance;

/// Token age up to which the portal may still be registering the instance.
pub const REGISTRATION_GRACE: TimeDelta = TimeDelta::minutes(10);

/// The identity by which to find the caller's instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A client, or an audience in its place, `agent:<id>`.
    Client(InstanceId),
    /// A bootstrap session within its org.
    Session(OrgId, SessionId),
    /// A well-formed identity whose ID is invalid, so that no instance can have it.
    Nowhere,
}

/// A verified token gives no access. The texts are public.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token belongs to no instance. Real clients stop calling for good.
    #[error("this token does not belong to an agent instance")]
    InvalidClient,
    /// A session without an org, which therefore belongs to no instance.
    #[error(
        "this token has a `sid` and no `org_id`: a session identifies an agent instance only within its org"
    )]
    SessionWithoutOrg,
    /// An agent's audience without the claims that it needs in the absence of a client.
    #[error(
        "this token names an agent only in `aud`: it needs `org_id`, and the same instance in `agent_instance_id`"
    )]
    AudienceAlone,
    /// The instance is disabled. Its fires are held until it is enabled.
    #[error("this agent instance is disabled")]
    Disabled,
    /// The instance was not found, but the token is so young that it may still be registered.
    #[error("this agent instance is not registered yet; retry later")]
    NotYetKnown,
}

/// Returns the identity in the claims: an agent's client or audience, otherwise a session within an org. Fails if there is
/// neither.
pub fn identify(claims: &AccessClaims) -> Result<Identity, Refusal> {
    if let Some(id) = agent_of(claims) {
        return Ok(InstanceId::new(id).map_or(Identity::Nowhere, Identity::Client));
    }
    match (&claims.sid, &claims.org_id) {
        (Some(sid), Some(org_id)) => Ok(match (OrgId::new(org_id), SessionId::new(sid)) {
            (Ok(org_id), Ok(sid)) => Identity::Session(org_id, sid),
            _ => Identity::Nowhere,
        }),
        (Some(_), None) => Err(Refusal::SessionWithoutOrg),
        (None, _) if names_agent_by_audience(claims) => Err(Refusal::AudienceAlone),
        (None, _) => Err(Refusal::InvalidClient),
    }
}

fn names_agent_by_audience(claims: &AccessClaims) -> bool {
    claims.client_id.is_none() && claims.audience.as_deref().and_then(agent_id).is_some()
}

/// Checks the instance that was found. An instance that is unknown, deleted, in another org, or different from the one
/// in the other claims gives the same result, so that callers cannot distinguish these cases.
pub fn admit(
    claims: &AccessClaims,
    found: Option<AgentInstance>,
    now: DateTime<Utc>,
) -> Result<AgentInstance, Refusal> {
    let Some(instance) = found.filter(|instance| agrees(claims, instance)) else {
        // A token without a date counts as young, because a wrong `invalid_client` cannot be undone.
        let young = claims.age(now).is_none_or(|age| age < REGISTRATION_GRACE);
        return Err(if young { Refusal::NotYetKnown } else { Refusal::InvalidClient });
    };
    if instance.enabled { Ok(instance) } else { Err(Refusal::Disabled) }
}

/// Returns the `<id>` of a client `agent:<id>`. Without a client, a sole audience of this form counts as one if the
/// token's other claims name the instance and its org: else it may be a token that another client obtained for the agent.
fn agent_of(claims: &AccessClaims) -> Option<&str> {
    match (&claims.client_id, &claims.audience) {
        (Some(client), _) => agent_id(client),
        (None, Some(audience)) => agent_id(audience)
            .filter(|id| claims.org_id.is_some() && claims.agent_instance_id.as_deref() == Some(*id)),
        (None, None) => None,
    }
}

/// True if the other claims agree with the instance. A session was looked up within its org, so `agent_instance_id` is
/// compared only for a client.
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
            version: 1,
        }
    }

    fn claims(client: &str, sid: Option<&str>, org: Option<&str>, instance: Option<&str>) -> AccessClaims {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        AccessClaims {
            client_id: owned(Some(client).filter(|client| !client.is_empty())),
            sid: owned(sid),
            org_id: owned(org),
            agent_instance_id: owned(instance),
            audience: None,
            issued_at: Some(NOW - REGISTRATION_GRACE),
        }
    }

    /// Claims without a client, and with this audience.
    fn to(audience: &str, sid: Option<&str>, org: Option<&str>, instance: Option<&str>) -> AccessClaims {
        AccessClaims { audience: Some(audience.to_owned()), ..claims("", sid, org, instance) }
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
    fn claims_are_resolved_in_the_order_of_the_contract() {
        let long = format!("agent:{}", "x".repeat(256));
        let vps = "hermes-cli-vps";
        let cases = [
            // 1. agent:<id>; other claims must agree if present
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
            // … or by the audience, if there is no client and both other claims are present
            (to("agent:i1", None, Some("o1"), Some("i1")), true),
            (to("agent:i1", Some("s9"), Some("o1"), Some("i1")), true),
            (to("agent:i1", None, None, Some("i1")), false),
            (to("agent:i1", None, Some("o1"), None), false),
            (to("agent:i1", None, Some("o2"), Some("i1")), false),
            (to("agent:i1", None, Some(""), Some("i1")), false),
            (to("agent:i1", None, Some("o1"), Some("i2")), false),
            (to("agent:i2", None, Some("o1"), Some("i1")), false),
            (to("agent:i2", None, Some("o1"), Some("i2")), false),
            (to("Agent:i1", None, Some("o1"), Some("i1")), false),
            (to("agent:I1", None, Some("o1"), Some("i1")), false),
            (to("agent:I1", None, Some("o1"), Some("I1")), false),
            (to(" agent:i1", None, Some("o1"), Some("i1")), false),
            (to("agent:i1 ", None, Some("o1"), Some("i1")), false),
            (to("agent:i1 ", None, Some("o1"), Some("i1 ")), false),
            (to("agent: i1", None, Some("o1"), Some("i1")), false),
            (to("agent:", None, Some("o1"), Some("")), false),
            (to("agent:*", None, Some("o1"), Some("i1")), false),
            (to("agent:*", None, Some("o1"), Some("*")), false),
            (to("i1", None, Some("o1"), Some("i1")), false),
            (to(&long, None, Some("o1"), Some(&long["agent:".len()..])), false),
            (
                AccessClaims {
                    client_id: Some(vps.to_owned()),
                    ..to("agent:i1", None, Some("o1"), Some("i1"))
                },
                false,
            ),
            (
                AccessClaims {
                    client_id: Some(String::new()),
                    ..to("agent:i1", None, Some("o1"), Some("i1"))
                },
                false,
            ),
            (
                AccessClaims {
                    client_id: Some("agent:i2".to_owned()),
                    ..to("agent:i1", None, Some("o1"), Some("i1"))
                },
                false,
            ),
            (to("agent:i2", Some("s1"), Some("o1"), None), true), // the session, as without an audience
            (to("agent:i2", Some("s1"), Some("o1"), Some("i2")), false),
            // 2. the session, in its org
            (claims(vps, Some("s1"), Some("o1"), None), true),
            (claims("", Some("s1"), Some("o1"), None), true),
            (claims("agent:", Some("s1"), Some("o1"), None), true), // not of the shape agent:<id>
            (claims("Agent:i1", Some("s1"), Some("o1"), None), true),
            (claims(vps, Some("s1"), Some("o2"), None), false),
            (claims(vps, Some("s2"), Some("o1"), None), false),
            (claims(vps, Some(""), Some("o1"), None), false),
            (claims(vps, Some("s1"), Some("\n"), None), false),
            // 3. neither
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
                use Refusal::{AudienceAlone, InvalidClient, SessionWithoutOrg};
                let refusal = resolved.unwrap_err();
                assert!(matches!(refusal, InvalidClient | AudienceAlone | SessionWithoutOrg), "{claims:?}");
            }
        }
    }

    #[test]
    fn refusal_names_the_claims_that_are_missing() {
        for (claims, refusal) in [
            (claims("hermes-cli-vps", Some("s1"), None, None), Refusal::SessionWithoutOrg),
            (claims("", Some("s1"), None, Some("i1")), Refusal::SessionWithoutOrg),
            (claims("agent:", Some("s1"), None, None), Refusal::SessionWithoutOrg),
            (to("agent:i1", None, Some("o1"), None), Refusal::AudienceAlone),
            (to("agent:i1", None, None, Some("i1")), Refusal::AudienceAlone),
            (to("agent:i1", None, Some("o1"), Some("i2")), Refusal::AudienceAlone),
            (to("agent:", None, Some("o1"), Some("i1")), Refusal::InvalidClient),
            (to("cron", None, Some("o1"), Some("i1")), Refusal::InvalidClient),
            (claims("hermes-cli-vps", None, Some("o1"), None), Refusal::InvalidClient),
        ] {
            assert_eq!(identify(&claims), Err(refusal), "{claims:?}");
        }
    }

    #[test]
    fn unknown_instance_and_another_orgs_instance_look_the_same() {
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
    fn unresolved_caller_is_invalid_client_only_if_its_token_is_ten_minutes_old() {
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
    fn disabled_instance_is_access_denied_and_never_invalid_client() {
        let mut disabled = instance("i1", "o1");
        disabled.enabled = false;
        let claims = claims("agent:i1", None, Some("o1"), None);
        assert_eq!(admit(&claims, Some(disabled), NOW), Err(Refusal::Disabled));
    }
}
