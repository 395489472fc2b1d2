//! When keys come and go: a pure function from the keys to what is due next, and why.
//!
//! A key is **next** (published, so that caches learn it), then **active** (signs), then **retired**
//! (published until what it signed has expired), then **gone**. The margins, all from the contract ("Keys"):
//!
//! - Caches chain: an agent holds a key set for 300 s that it may have got from a shared cache, where it was
//!   300 s old, filled by a replica whose view was 10 s old. So a key signs only 900 + 10 s after it was
//!   published: 610 s for the chain, the rest for commits that take long to show.
//! - A replica may sign with its view for 10 s after another one was activated. A token lives for up to 120 s,
//!   and agents grant 30 s more. So a key leaves 10 s + the longer of 300 s and 150 s after it was retired.
//! - The very first key of a service signs at once: no cache can hold an older set.
//!
//! **By hand.** While an imported key is next or active, nothing is made or activated here: agents then look
//! at the portal's JWKS, which this service does not fill. An operator activates ([`may_activate`]), and only
//! a key that was seen at that URL, for as long as caches there need to learn it.
//!
//! Times are the database's, so that one replica with a wrong clock cannot activate a key too early.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::fire_token::TokenTtl;
use crate::domain::{KeyRecord, KeyState};

/// The oldest view of the keys that a replica may sign with (docs/contract.md#keys).
pub const VIEW_STALENESS: Duration = Duration::from_secs(10);
/// For how long the JWKS may be cached: the `max-age` that it is served with.
pub const JWKS_MAX_AGE: Duration = Duration::from_mins(5);
/// How long a key is published before it signs.
pub const PUBLISH_AHEAD: Duration = Duration::from_mins(15);
/// What agents grant on `exp` (docs/clients.md#consequences-for-a-server, 9).
const TOKEN_LEEWAY: TimeDelta = TimeDelta::seconds(30);

/// The margins of rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationPolicy {
    period: TimeDelta,
    publish_ahead: TimeDelta,
    view_staleness: TimeDelta,
    jwks_max_age: TimeDelta,
    /// The longest that any replica may be configured with: they may differ during a deploy.
    token_ttl: TimeDelta,
}

/// A rotation period that leaves no time to publish ahead.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key must be used for 1 hour to 10 years before the next one, not {0:?}")]
pub struct InvalidPeriod(Duration);

impl RotationPolicy {
    /// The contract's margins with a key for every `period` (1 hour to 10 years).
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

    /// For tokens that live longer than the contract's 120 s: a key stays published as long as what it signed is good.
    #[must_use]
    pub fn tokens_live_for(self, longest: Duration) -> Self {
        Self { token_ttl: self.token_ttl.max(delta(longest)), ..self }
    }

    /// From publication to the first signature: every cache knows the key by then.
    pub fn lead(&self) -> TimeDelta {
        self.publish_ahead + self.view_staleness
    }

    /// From retirement to removal: nothing that the key signed is valid any more.
    pub fn linger(&self) -> TimeDelta {
        self.view_staleness + self.jwks_max_age.max(self.token_ttl + TOKEN_LEEWAY)
    }
}

impl Default for RotationPolicy {
    /// A key for every 90 days.
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
    /// Make a key and publish it; the first of a service signs at once.
    Generate {
        /// Whether it signs at once.
        activate: bool,
        /// Why.
        reason: Reason,
    },
    /// Let `kid` sign; the active key, if any, is retired by it.
    Activate {
        /// The key.
        kid: String,
        /// Why.
        reason: Reason,
    },
    /// Publish `kid` no more, and erase its private half.
    Remove {
        /// The key.
        kid: String,
        /// Why.
        reason: Reason,
    },
}

/// Why a step is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There has never been a key.
    FirstKey,
    /// No key is active and none is on its way.
    NothingSigns,
    /// The active key's time is nearly over.
    PeriodEnds,
    /// The next key has been published for long enough.
    CachesKnowIt,
    /// Everything the retired key signed has expired.
    TokensExpired,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FirstKey => "a new service needs a first key",
            Self::NothingSigns => "no key is active, and none is published to become it",
            Self::PeriodEnds => "the active key's period ends, and caches must learn its successor before",
            Self::CachesKnowIt => "it has been published for so long that every cache knows it",
            Self::TokensExpired => "everything it signed has expired",
        })
    }
}

impl Step {
    /// Why it is due.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Generate { reason, .. } | Self::Activate { reason, .. } | Self::Remove { reason, .. } => {
                *reason
            }
        }
    }

    /// The key it concerns; none for one that does not exist yet.
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
            Self::Generate { activate: true, .. } => f.write_str("make a key and activate it"),
            Self::Generate { activate: false, .. } => f.write_str("make and publish the next key"),
            Self::Activate { kid, .. } => write!(f, "activate `{kid}`"),
            Self::Remove { kid, .. } => write!(f, "remove `{kid}`"),
        }
    }
}

/// A step and when it falls due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// From when on it is right to take it.
    pub at: DateTime<Utc>,
    /// What to do.
    pub step: Step,
}

/// Whether rotation is by hand: an imported key is in use, or waits to be.
pub fn is_by_hand(keys: &[KeyRecord]) -> bool {
    keys.iter().any(|key| key.imported && matches!(key.state, KeyState::Next | KeyState::Active))
}

/// What comes next for `keys` (all of them, the gone ones too), as far as it follows from how they stand now.
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

/// The one step that leads to the next active key.
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
        // Caches may still hold a set of keys from before: the new one has to be published ahead like any other.
        (None, None) if !keys.is_empty() => generate(DateTime::<Utc>::MIN_UTC, false, Reason::NothingSigns),
        (None, None) => generate(DateTime::<Utc>::MIN_UTC, true, Reason::FirstKey),
    }
}

/// What is due at `now`, by the database's clock. Taking the steps and sweeping again at the same instant
/// yields nothing.
pub fn sweep(now: DateTime<Utc>, keys: &[KeyRecord], policy: &RotationPolicy) -> Vec<Step> {
    plan(keys, policy).into_iter().filter(|one| one.at <= now).map(|one| one.step).collect()
}

/// Why a key may not be activated (yet).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// It is not a next key.
    #[error("it is {0}: only a next key can be activated")]
    WrongState(KeyState),
    /// By hand, and nobody has seen it where agents look.
    #[error("it has not been seen at the JWKS URL that agents use")]
    NotSeen,
    /// Its publication is too young: caches may not know it.
    #[error("caches of agents know it for sure from {at} on", at = at.format("%Y-%m-%d %H:%M:%S UTC"))]
    TooYoung {
        /// From when on it may sign.
        at: DateTime<Utc>,
    },
}

/// Whether an operator may activate `key` at `now`. By hand it must have been seen at the agents' JWKS URL
/// ([`KeyRecord::seen_at`]) for as long as our own keys are published ahead; without any key that signs, to
/// have been seen is enough, as waiting would only prolong that nothing is fired.
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
