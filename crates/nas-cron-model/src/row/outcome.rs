//! The rule of an attempt's end.

use super::{Delivered, Id, Row, Rules, State, Time};

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
            return row.or_expired();
        }
        if fires_again {
            row.attempts = 0;
            row.state = State::Waiting;
            row.next_attempt_at = row.claimed_at.map(|claimed| claimed + rules.duplicate_delay);
            return row.or_expired();
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
        row.or_expired()
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
}
