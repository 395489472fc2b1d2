//! Rules of the requests that arm a job: provisions, redrives and nudges.

use super::{Callbacks, Id, Row, Rules, State, Time};

/// The one-shot of a provision for a job without one.
#[derive(Clone, Copy, Debug)]
pub struct Given {
    /// Fresh name for a new arm.
    pub schedule: Id,
    /// The agent's key.
    pub key: Id,
    /// The agent's instant.
    pub fire_at: Time,
    /// An external backend sends the wake-up.
    pub awaits: bool,
    /// The limit in the request.
    pub not_after: GivenLimit,
}

/// `not_after` in a provision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenLimit {
    /// Absent: a live one-shot with the key keeps its limit.
    Keep,
    /// `null`.
    Clear,
    /// An instant.
    At(Time),
}

impl GivenLimit {
    /// Returns the limit of a one-shot that has `kept`.
    const fn or(self, kept: Option<Time>) -> Option<Time> {
        match self {
            Self::Keep => kept,
            Self::Clear => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl Row {
    /// Returns the one-shot of a job's first provision.
    pub const fn armed(given: Given) -> Self {
        Self {
            schedule: given.schedule,
            key: given.key,
            fire_at: given.fire_at,
            state: State::Armed,
            next_attempt_at: Some(given.fire_at),
            parked: false,
            awaits: given.awaits,
            token: None,
            claim_expires_at: None,
            attempt_expires_at: None,
            attempts: 0,
            last_started_at: None,
            asked_again_at: None,
            shows_skew: false,
            delivered: None,
            callbacks: Callbacks { next: 0, own: None, follows_gone: false },
            claimed_at: None,
            refused: false,
            not_after: given.not_after.or(None),
            expired: false,
        }
    }

    /// Returns true if its key was delivered, and an attempt started after that: a second fire.
    fn second_fire_started(&self) -> bool {
        self.delivered.is_some_and(|delivered| {
            delivered.schedule == self.schedule
                && match self.state {
                    State::Firing => self.last_started_at.is_some_and(|started| started > delivered.at),
                    State::Delivered => delivered.second_fires > 0,
                    _ => false,
                }
        })
    }

    /// `provision`: docs/contract.md#provision, docs/contract.md#same-key-again.
    #[must_use]
    pub fn provisioned(job: Option<&Self>, given: Given, now: Time, rules: &Rules) -> Self {
        let mut new = Self::armed(given);
        let Some(job) = job else { return new };
        let same_key = job.key == given.key;
        if same_key && job.state == State::Stuck {
            return *job;
        }
        if same_key && job.state.is_live() {
            return Self { asked_again_at: Some(now), not_after: given.not_after.or(job.not_after), ..*job };
        }
        new.last_started_at = job.last_started_at;
        new.delivered = job.delivered;
        new.shows_skew = !same_key && !job.refused && job.second_fire_started();
        if same_key {
            (new.claimed_at, new.refused) = (job.claimed_at, job.refused);
        } else if let Some(delivered) = job.delivered.filter(|delivered| delivered.key == given.key) {
            new.claimed_at = Some(delivered.at);
        }
        if same_key && job.state == State::Dead {
            new.schedule = job.schedule;
            // An earlier attempt of this arm may still turn out to be delivered. It does not answer this provision.
            new.asked_again_at = Some(now);
        } else if let Some(delivered) = job.delivered.filter(|delivered| delivered.key == given.key) {
            new.schedule = delivered.schedule;
            new.asked_again_at = Some(now);
            new.awaits = false;
            if delivered.second_fires >= rules.second_fires_max {
                new.state = State::Stuck;
                new.next_attempt_at = None;
            } else {
                new.state = State::Waiting;
                new.next_attempt_at = Some(now.max(given.fire_at).max(rules.second_fire_at(&delivered)));
            }
        }
        if let (Some(next), Some(started)) = (new.next_attempt_at, job.last_started_at) {
            new.next_attempt_at = Some(next.max(started + rules.fire_floor));
        }
        new
    }

    /// `redrive`: a fresh retry budget, due now. A stuck key is forgotten. `None`: it is neither dead nor stuck.
    #[must_use]
    pub fn redriven(&self, now: Time, rules: &Rules) -> Option<Self> {
        if !matches!(self.state, State::Dead | State::Stuck) {
            return None;
        }
        let floor = self.last_started_at.map_or(now, |started| started + rules.fire_floor);
        Some(Self {
            state: State::Armed,
            next_attempt_at: Some(now.max(self.fire_at).max(floor)),
            token: None,
            attempts: 0,
            delivered: if self.state == State::Stuck { None } else { self.delivered },
            refused: false,
            not_after: None,
            expired: false,
            ..*self
        })
    }

    /// `nudge`: a delivered key is fired once more, after an attempt that a late delivery left in flight, and is forgotten.
    /// `None`: it is not delivered.
    #[must_use]
    pub fn nudged(&self, now: Time, rules: &Rules) -> Option<Self> {
        if self.state != State::Delivered {
            return None;
        }
        let floor = self.last_started_at.map_or(now, |started| started + rules.fire_floor);
        let earliest = now.max(self.fire_at).max(floor);
        Some(Self {
            state: State::Armed,
            next_attempt_at: Some(self.claimed_at.map_or(earliest, |claimed| earliest.max(claimed))),
            token: None,
            attempts: 0,
            delivered: None,
            refused: false,
            not_after: None,
            ..*self
        })
    }
}
