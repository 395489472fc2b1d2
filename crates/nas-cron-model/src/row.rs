//! The row of a job's current one-shot, and the rule of each statement as a pure function of it. The rules are written from
//! docs/contract.md, and `tests/integration/one_shot_model.rs` compares them with the SQL statements.

mod limit;
mod outcome;
mod provision;

use std::fmt;

pub use self::outcome::{Ended, Outcome};
pub use self::provision::{Given, GivenLimit};

/// An instant or a duration. The unit is up to the caller: microseconds in the comparison with the statements, ticks in the
/// model.
pub type Time = i64;

/// Name of an arm (`schedule_id`), a claim (`lease_token`) or a key (`dedup_key`).
pub type Id = u8;

/// State of a one-shot (docs/contract.md#states).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "docs/contract.md explains the states")]
pub enum State {
    Armed,
    Leased,
    Firing,
    Waiting,
    Delivered,
    Stuck,
    Dead,
}

impl State {
    /// Returns true if an attempt will follow.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Armed | Self::Leased | Self::Firing | Self::Waiting)
    }

    /// Returns the name as stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Armed => "armed",
            Self::Leased => "leased",
            Self::Firing => "firing",
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Stuck => "stuck",
            Self::Dead => "dead",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The job's latest delivered key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Delivered {
    /// The key.
    pub key: Id,
    /// Arm that was delivered.
    pub schedule: Id,
    /// Time of the latest delivery.
    pub at: Time,
    /// Second fires among the deliveries of this key.
    pub second_fires: u8,
}

/// The callbacks of a row. `callbacks.rs` has their rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Callbacks {
    /// Callback of the next attempt.
    pub next: Id,
    /// Callback that the job's own provision named, if `next` has followed a move of the agent since.
    pub own: Option<Id>,
    /// Another callback than its own answered `gone`, so that its own is asked next.
    pub follows_gone: bool,
}

/// A job's current one-shot. Columns that decide nothing (texts, last errors, measurements) are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "migrations/0001_one_shots.sql explains the columns")]
#[expect(clippy::struct_excessive_bools, reason = "columns of the table")]
pub struct Row {
    pub schedule: Id,
    pub key: Id,
    pub fire_at: Time,
    pub state: State,
    pub next_attempt_at: Option<Time>,
    /// Parked by a hold. Outages of instances are not modelled.
    pub parked: bool,
    /// Waits for the wake-up of an external backend.
    pub awaits: bool,
    pub token: Option<Id>,
    pub claim_expires_at: Option<Time>,
    pub attempt_expires_at: Option<Time>,
    pub attempts: u8,
    pub last_started_at: Option<Time>,
    /// Latest time at which the same key was provisioned again. Attempts that started before do not answer it.
    pub asked_again_at: Option<Time>,
    pub shows_skew: bool,
    pub delivered: Option<Delivered>,
    pub callbacks: Callbacks,
    /// End of the latest attempt with this key that the agent accepted or may have accepted.
    pub claimed_at: Option<Time>,
    /// An attempt with this key was answered with `duplicate`.
    pub refused: bool,
    /// No attempt starts later.
    pub not_after: Option<Time>,
    /// Dead because `not_after` has passed.
    pub expired: bool,
}

/// The delays of the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "docs/contract.md explains the delays")]
pub struct Rules {
    pub fire_floor: Time,
    pub second_fire_delay: Time,
    pub second_fire_interval: Time,
    pub second_fires_max: u8,
    pub horizon: Time,
    pub claim_grace: Time,
    pub attempt_lease: Time,
    pub ambiguous_floor: Time,
    pub claim_lifetime: Time,
    pub duplicate_delay: Time,
}

impl Rules {
    fn second_fire_at(&self, delivered: &Delivered) -> Time {
        delivered.at
            + if delivered.second_fires > 0 { self.second_fire_interval } else { self.second_fire_delay }
    }
}

impl Row {
    /// Returns true if `claim_due` takes the row.
    pub fn is_claimable(&self, now: Time, rules: &Rules) -> bool {
        matches!(self.state, State::Armed | State::Waiting)
            && !self.parked
            && !self.awaits
            && self.next_attempt_at.is_some_and(|next| next <= now + rules.horizon)
    }

    /// `claim_due`: leases the row, or parks it. `None`: it is not claimable.
    #[must_use]
    pub fn claimed(&self, token: Id, on_hold: bool, now: Time, rules: &Rules) -> Option<Self> {
        if !self.is_claimable(now, rules) {
            return None;
        }
        if on_hold {
            return Some(Self { parked: true, ..*self });
        }
        let ends = self.next_attempt_at?.max(now) + rules.claim_grace;
        Some(Self { state: State::Leased, token: Some(token), claim_expires_at: Some(ends), ..*self })
    }

    /// `take`: a wake-up of the backend. Leases the row if it is due within the horizon. `None`: nothing awaits it.
    #[must_use]
    pub fn taken(&self, token: Id, on_hold: bool, now: Time, rules: &Rules) -> Option<Self> {
        if !self.awaits {
            return None;
        }
        let woken = Self { awaits: false, ..*self };
        Some(woken.claimed(token, on_hold, now, rules).unwrap_or(woken))
    }

    /// `take_over_missed`: the backend's wake-up is overdue.
    #[must_use]
    pub fn taken_over(&self, now: Time) -> Option<Self> {
        (self.awaits && self.next_attempt_at? <= now).then_some(Self { awaits: false, ..*self })
    }

    /// `confirm`: docs/contract.md#confirmation. `None`: the attempt must not start.
    #[must_use]
    pub fn confirmed(&self, token: Id, on_hold: bool, now: Time, rules: &Rules) -> Option<Self> {
        let valid = self.state == State::Leased
            && self.token == Some(token)
            && self.claim_expires_at? > now
            && self.next_attempt_at?.max(self.fire_at) <= now
            && !self.is_too_late(now)
            && !on_hold;
        valid.then_some(Self {
            state: State::Firing,
            attempts: self.attempts + 1,
            last_started_at: Some(now),
            attempt_expires_at: Some(now + rules.attempt_lease),
            ..*self
        })
    }

    /// The state in which the row waits for its next attempt.
    const fn idle(attempts: u8) -> State {
        if attempts > 0 { State::Waiting } else { State::Armed }
    }

    /// `give_back`: the attempt was never sent, and a started one is undone. `None`: the lease is another's.
    #[must_use]
    pub fn given_back(&self, token: Id, next_attempt_at: Time) -> Option<Self> {
        if self.token != Some(token) || !matches!(self.state, State::Leased | State::Firing) {
            return None;
        }
        let attempts = self.attempts - u8::from(self.state == State::Firing);
        Some(Self {
            state: Self::idle(attempts),
            attempts,
            next_attempt_at: Some(self.next_attempt_at?.max(self.fire_at).max(next_attempt_at)),
            token: None,
            claim_expires_at: None,
            attempt_expires_at: None,
            ..*self
        })
    }

    /// The row after its lease was taken away. A late outcome still counts, so the token stays.
    #[must_use]
    fn without_lease(&self, now: Time, rules: &Rules) -> Self {
        let lost = self.state == State::Firing;
        Self {
            state: Self::idle(self.attempts),
            next_attempt_at: if lost { Some(now + rules.ambiguous_floor) } else { self.next_attempt_at },
            claimed_at: if lost { Some(now) } else { self.claimed_at },
            claim_expires_at: None,
            attempt_expires_at: None,
            ..*self
        }
    }

    /// `recover_expired`: the lease of the claim or of the attempt has ended. `None`: it has not.
    #[must_use]
    pub fn recovered(&self, now: Time, rules: &Rules) -> Option<Self> {
        let ends = self.attempt_expires_at.or(self.claim_expires_at)?;
        (ends <= now).then(|| self.without_lease(now, rules))
    }

    /// `declare_dead`: the replica of the latest attempt is dead. The lease of the attempt ends, and `recover_expired` does
    /// the rest. `None`: no attempt is in flight.
    #[must_use]
    pub fn declared_dead(&self, now: Time) -> Option<Self> {
        let ends = |at: Option<Time>| at.map(|at| at.min(now));
        (self.state == State::Firing).then(|| Self {
            claim_expires_at: ends(self.claim_expires_at),
            attempt_expires_at: ends(self.attempt_expires_at),
            ..*self
        })
    }

    /// `release` (of a parked row whose hold has ended).
    #[must_use]
    pub fn released(&self) -> Option<Self> {
        self.parked.then_some(Self { parked: false, ..*self })
    }

    /// Returns true if the columns fit together: the CHECK constraints of the table.
    pub fn is_storable(&self) -> bool {
        let claimed = matches!(self.state, State::Leased | State::Firing);
        self.claim_expires_at.is_some() == claimed
            && self.attempt_expires_at.is_some() == (self.state == State::Firing)
            && (!claimed || self.token.is_some())
            && self.next_attempt_at.is_some() == self.state.is_live()
            && (!self.parked || matches!(self.state, State::Armed | State::Waiting))
            && (!self.awaits || self.state == State::Armed && !self.parked)
            && (self.state != State::Firing || self.attempts > 0)
            && (!self.expired || self.state == State::Dead)
    }
}
