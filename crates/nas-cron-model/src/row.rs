//! The row of a job's current one-shot, and the rule of each statement as a pure function of it. The rules are written from
//! docs/contract.md, and `tests/integration/one_shot_model.rs` compares them with the SQL statements.

use std::fmt;

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
#[expect(missing_docs, reason = "migrations/0001_one_shots.sql and 0005_outcomes.sql explain the columns")]
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
}

/// End of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The agent accepted the fire.
    Delivered,
    /// The agent no longer has the job.
    Gone,
    /// The agent's gateway is stopped: nothing ran.
    Dropped,
    /// The agent refused the fire: the job is running, paused or finished.
    Duplicate,
    /// Not accepted, or not known to be. The next attempt starts after `retry_in`; `None` gives up.
    Failed {
        /// Delay of the next attempt.
        retry_in: Option<Time>,
        /// The agent may have accepted the fire.
        ambiguous: bool,
    },
}

impl Outcome {
    /// Returns true if the key is forgotten.
    const fn forgets_key(self) -> bool {
        matches!(self, Self::Gone | Self::Dropped)
    }
}

/// An attempt that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Token of its claim.
    pub token: Id,
    /// Its arm.
    pub schedule: Id,
    /// Its arm's key.
    pub key: Id,
    /// Start of the attempt.
    pub started_at: Time,
    /// Its end.
    pub outcome: Outcome,
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
            return Self { asked_again_at: Some(now), ..*job };
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

    /// `finish_fires`: docs/contract.md#outcomes, docs/contract.md#same-key-again, docs/contract.md#duplicates. The row may be
    /// another arm than the attempt's.
    #[must_use]
    pub fn attempt_ended(&self, attempt: &Ended, now: Time, rules: &Rules) -> Self {
        let mut row = *self;
        let (same_key, same_arm) = (self.key == attempt.key, self.schedule == attempt.schedule);
        // The same key of another arm is another one-shot: the job was cancelled or superseded in between.
        let delivered_before = self.delivered.filter(|delivered| delivered.schedule == attempt.schedule);
        let asked_again = self.asked_again_at.is_some_and(|at| at > attempt.started_at);
        let decides = self.is_held_by(attempt)
            || same_arm && self.is_ended_late_by(attempt.outcome, asked_again, delivered_before);
        // The claim that refused the fire may be that of a process that died.
        let claim_may_live =
            self.claimed_at.is_some_and(|claimed| attempt.started_at <= claimed + rules.claim_lifetime);
        let is_duplicate = attempt.outcome == Outcome::Duplicate;
        let fires_again = is_duplicate && decides && same_key && !self.refused && claim_may_live;

        let is_final_duplicate = is_duplicate && !fires_again && (decides || !same_arm);
        if attempt.outcome == Outcome::Delivered || is_final_duplicate {
            // The latest delivered key is remembered: not an older one whose outcome is late.
            let newer = self.delivered.is_some_and(|one| one.key == self.key && one.key != attempt.key);
            if !newer {
                let second_fires = delivered_before.map_or(0, |before| {
                    // An attempt that started before the delivery repeats it, and does not count as a second fire.
                    before.second_fires + u8::from(attempt.started_at > before.at)
                });
                let Ended { key, schedule, .. } = *attempt;
                row.delivered = Some(Delivered { key, schedule, at: now, second_fires });
            }
        } else if attempt.outcome.forgets_key() {
            row.delivered = self.delivered.filter(|delivered| delivered.key != attempt.key);
        }
        if same_key {
            match attempt.outcome {
                // An earlier claim may still live.
                Outcome::Gone | Outcome::Dropped => row.refused = false,
                Outcome::Duplicate => row.refused |= decides,
                Outcome::Delivered | Outcome::Failed { ambiguous: true, .. } => {
                    // A late delivery takes the one-shot from an attempt in flight, which the agent may still accept.
                    let other = self.attempt_expires_at.filter(|_| decides && !self.is_held_by(attempt));
                    row.claimed_at = other.max(Some(now));
                }
                Outcome::Failed { ambiguous: false, .. } => {}
            }
        }
        if !decides {
            return row;
        }
        row.token = Some(attempt.token);
        row.claim_expires_at = None;
        row.attempt_expires_at = None;
        row.parked = false;
        row.awaits = false;
        if let Outcome::Failed { retry_in, .. } = attempt.outcome {
            row.state = if retry_in.is_some() { State::Waiting } else { State::Dead };
            row.next_attempt_at = retry_in.map(|delay| now + delay);
            return row;
        }
        if fires_again {
            row.attempts = 0;
            row.state = State::Waiting;
            row.next_attempt_at = row.claimed_at.map(|claimed| claimed + rules.duplicate_delay);
            return row;
        }
        row.next_attempt_at = None;
        row.state = State::Delivered;
        if !asked_again {
            return row;
        }
        // The same key came again after the attempt had started.
        row.attempts = 0;
        match row.delivered.filter(|delivered| delivered.key == row.key) {
            None => {
                row.state = State::Armed;
                let floor = row.last_started_at.map_or(row.fire_at, |started| started + rules.fire_floor);
                row.next_attempt_at = Some(row.fire_at.max(floor));
            }
            Some(delivered) if delivered.second_fires >= rules.second_fires_max => row.state = State::Stuck,
            Some(delivered) => {
                row.state = State::Waiting;
                row.next_attempt_at = Some(rules.second_fire_at(&delivered));
            }
        }
        row
    }

    /// Returns true if the attempt holds the lease, or held it and no other claim followed.
    fn is_held_by(&self, attempt: &Ended) -> bool {
        self.token == Some(attempt.token) && matches!(self.state, State::Firing | State::Waiting)
    }

    /// Returns true if an answer of the agent ends the one-shot although its attempt no longer holds it: its lease ended, or
    /// its claim was lost in a crash of the database.
    fn is_ended_late_by(
        &self,
        outcome: Outcome,
        asked_again: bool,
        delivered_before: Option<Delivered>,
    ) -> bool {
        self.state.is_live()
            && match outcome {
                Outcome::Failed { .. } | Outcome::Duplicate => false,
                // Another attempt is in flight.
                _ if self.state == State::Firing => outcome == Outcome::Delivered && !asked_again,
                // A second fire is pending already.
                _ => !asked_again || delivered_before.is_none(),
            }
    }

    /// `release` (of a parked row whose hold has ended).
    #[must_use]
    pub fn released(&self) -> Option<Self> {
        self.parked.then_some(Self { parked: false, ..*self })
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
            ..*self
        })
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
    }
}
