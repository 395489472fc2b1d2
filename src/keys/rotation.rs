//! Key rotation: pure functions from the current keys to the next steps and their reasons.
//!
//! A key is **next** (published, so that caches learn it), then **active** (signs), then **retired** (published until all
//! tokens that it signed have expired), then **gone**. The margins are from the contract ("Keys"):
//!
//! - Caches chain: an agent caches a key set for 300 s, it may come from a shared cache where it was 300 s old, and the
//!   replica that filled that cache had a view 10 s old. A key signs only 900 + 10 s after its publication: 610 s for the
//!   chain, and the rest for commits that become visible late.
//! - A replica may still sign with its view for 10 s after another key was activated. A token lives for up to 120 s, and
//!   agents tolerate 30 s more. A key is removed 10 s + the longer of 300 s and 150 s after it was retired.
//! - The first key of a service signs at once: no cache can have an older set.
//!
//! **By hand.** While an imported key is next or active, the service generates and activates no keys: agents use the
//! portal's JWKS, which the service does not write. An operator activates a key ([`may_activate`]), and only after it was
//! visible at that URL for as long as caches need to learn it.
//!
//! All times are by the database's clock, so that a replica with a wrong clock cannot activate a key too early.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::fire_token::TokenTtl;
use crate::domain::{KeyRecord, KeyState};

/// Maximum age of the view of the keys that a replica signs with (docs/contract.md#keys).
pub const VIEW_STALENESS: Duration = Duration::from_secs(10);
/// Cache lifetime of the JWKS: the `max-age` that it is served with.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
/// Minimum time from a key's publication to its first signature.
pub const PUBLISH_AHEAD: Duration = Duration::from_mins(15);
/// Agents' tolerance for `exp` (docs/clients.md#consequences-for-a-server, 9).
const TOKEN_LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// The margins of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    period: TimeDelta,
    publish_ahead: TimeDelta,
    view_staleness: TimeDelta,
    jwks_max_age: TimeDelta,
    /// Maximum lifetime of tokens that any replica may be configured with: replicas may differ during a deploy.
    token_ttl: TimeDelta,
}

/// A rotation period outside its limits; a shorter one would leave no time to publish ahead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid rotation period {0:?} of signing keys: use 1 hour to 10 years")]
pub struct InvalidPeriod(Duration);

impl RotationPolicy {
    /// Returns the contract's margins with a new key every `period` (1 hour to 10 years).
    pub fn with_period(period: Duration) -> Result<Self, InvalidPeriod> {
        const HOUR: u64 = 3600;
        if !(HOUR..=10 * 366 * 24 * HOUR).contains(&period.as_secs()) {
            return Err(InvalidPeriod(period));
        }
        Ok(Self {
            period: delta(period),
            publish_ahead: delta(PUBLISH_AHEAD),
            view_staleness: delta(VIEW_STALENESS),
            jwks_max_age: delta(JWKS_MAX_AGE),
            token_ttl: delta(TokenTtl::MAX.as_duration()),
        })
    }

    /// Extends the margins for tokens that live up to `longest`, if that is longer than the contract's 120 s: a key stays
    /// published until all tokens that it signed have expired.
    #[must_use]
    pub fn tokens_live_for(self, longest: Duration) -> Self {
        Self { token_ttl: self.token_ttl.max(delta(longest)), ..self }
    }

    /// Returns the time from publication to the first signature: every cache knows the key by then.
    pub fn lead(&self) -> TimeDelta {
        self.publish_ahead + self.view_staleness
    }

    /// Returns the time from retirement to removal: no token that the key signed is valid by then.
    pub fn linger(&self) -> TimeDelta {
        self.view_staleness + self.jwks_max_age.max(self.token_ttl + TOKEN_LEEWAY)
    }
}

impl Default for RotationPolicy {
    /// Returns the margins with a new key every 90 days.
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self::with_period(Duration::from_secs(90 * DAY)).expect("90 days lie within the bounds")
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).expect("all margins are far below chrono's range of 292 million years")
}

/// One change of the set of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Generate a key and publish it. The first key of a service is also activated.
    Generate {
        /// True if the key signs at once.
        activate: bool,
        /// The reason.
        reason: Reason,
    },
    /// Activate `kid`, and retire the active key, if any.
    Activate {
        /// The key.
        kid: String,
        /// The reason.
        reason: Reason,
    },
    /// Remove `kid` from the JWKS, and erase its private half.
    Remove {
        /// The key.
        kid: String,
        /// The reason.
        reason: Reason,
    },
}

/// The reason for a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The service never had a key.
    FirstKey,
    /// No key is active, and none is next.
    NothingSigns,
    /// The active key's period ends soon.
    PeriodEnds,
    /// The next key was published long enough ago.
    CachesKnowIt,
    /// All tokens that the retired key signed have expired.
    TokensExpired,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstKey => "a new service needs its first key",
            Self::NothingSigns => "no key is active, and no next key is published",
            Self::PeriodEnds => {
                "the active key's period ends soon, and caches must learn its successor before"
            }
            Self::CachesKnowIt => "it was published long enough for every cache to know it",
            Self::TokensExpired => "all tokens that it signed have expired",
        })
    }
}

impl Step {
    /// Returns the reason for the step.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Generate { reason, .. } | Self::Activate { reason, .. } | Self::Remove { reason, .. } => {
                *reason
            }
        }
    }

    /// Returns the key of the step; `None` for a key that does not exist yet.
    pub fn kid(&self) -> Option<&str> {
        match self {
            Self::Generate { .. } => None,
            Self::Activate { kid, .. } | Self::Remove { kid, .. } => Some(kid),
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Generate { activate: true, .. } => f.write_str("generate a key and activate it"),
            Self::Generate { activate: false, .. } => f.write_str("generate and publish the next key"),
            Self::Activate { kid, .. } => write!(f, "activate `{kid}`"),
            Self::Remove { kid, .. } => write!(f, "remove `{kid}`"),
        }
    }
}

/// A step and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Earliest time of the step.
    pub at: DateTime<Utc>,
    /// The step.
    pub step: Step,
}

/// Returns true if keys rotate by hand: an imported key is next or active.
pub fn is_by_hand(keys: &[KeyRecord]) -> bool {
    keys.iter().any(|key| key.imported && matches!(key.state, KeyState::Next | KeyState::Active))
}

/// Returns the next steps for `keys`, which must contain all keys, including gone ones.
pub fn plan(keys: &[KeyRecord], policy: &RotationPolicy) -> Vec<Planned> {
    let mut planned: Vec<_> = keys
        .iter()
        .filter(|key| key.state == KeyState::Retired)
        .filter_map(|key| {
            let step = Step::Remove { kid: key.kid.clone(), reason: Reason::TokensExpired };
            Some(Planned { at: key.retired_at? + policy.linger(), step })
        })
        .collect();
    if !is_by_hand(keys) {
        planned.push(succession(keys, policy));
    }
    planned
}

/// Returns the step towards the next active key.
fn succession(keys: &[KeyRecord], policy: &RotationPolicy) -> Planned {
    let generate = |at, activate, reason| Planned { at, step: Step::Generate { activate, reason } };
    let next = keys.iter().filter(|key| key.state == KeyState::Next).min_by_key(|key| key.published_at);
    let active = keys.iter().find(|key| key.state == KeyState::Active);
    match (next, active) {
        (Some(next), _) => Planned {
            at: next.published_at + policy.lead(),
            step: Step::Activate { kid: next.kid.clone(), reason: Reason::CachesKnowIt },
        },
        (None, Some(active)) => {
            let since = active.activated_at.unwrap_or(active.published_at);
            generate(since + policy.period - policy.lead(), false, Reason::PeriodEnds)
        }
        // Caches may still have an older set of keys, so the new key must be published ahead like any other.
        (None, None) if !keys.is_empty() => generate(DateTime::<Utc>::MIN_UTC, false, Reason::NothingSigns),
        (None, None) => generate(DateTime::<Utc>::MIN_UTC, true, Reason::FirstKey),
    }
}

/// Returns the steps that are due at `now`, by the database's clock. After these steps, another sweep at the same time
/// returns none.
pub fn sweep(now: DateTime<Utc>, keys: &[KeyRecord], policy: &RotationPolicy) -> Vec<Step> {
    plan(keys, policy).into_iter().filter(|one| one.at <= now).map(|one| one.step).collect()
}

/// Reasons for which a key cannot be activated yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// The key is not a next key.
    #[error("it is {0}: only a next key can be activated")]
    WrongState(KeyState),
    /// Keys rotate by hand, and the key was never seen at the agents' JWKS URL.
    #[error("it has not been seen at the JWKS URL that agents use")]
    NotSeen,
    /// The key was published too recently: caches may not know it.
    #[error("agents' caches may not know it before {at}", at = at.format("%Y-%m-%d %H:%M:%S UTC"))]
    TooYoung {
        /// Earliest time of activation.
        at: DateTime<Utc>,
    },
}

/// Checks that an operator may activate `key` at `now`. If keys rotate by hand, it must have been seen at the agents' JWKS
/// URL ([`KeyRecord::seen_at`]) for as long as the service's own keys are published ahead. If no key is active, it is
/// enough that it was seen, because waiting would only prolong the time without fires.
pub fn may_activate(
    now: DateTime<Utc>,
    key: &KeyRecord,
    keys: &[KeyRecord],
    policy: &RotationPolicy,
) -> Result<(), NotYet> {
    if key.state != KeyState::Next {
        return Err(NotYet::WrongState(key.state));
    }
    let known_since = if is_by_hand(keys) {
        let seen = key.seen_at.ok_or(NotYet::NotSeen)?;
        if !keys.iter().any(|one| one.state == KeyState::Active) {
            return Ok(());
        }
        seen
    } else {
        key.published_at
    };
    let at = known_since + policy.lead();
    if at <= now { Ok(()) } else { Err(NotYet::TooYoung { at }) }
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
