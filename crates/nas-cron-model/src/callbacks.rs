//! The callback of a one-shot, and what becomes of it when the agent moves or answers `gone` (docs/contract.md#provision,
//! docs/contract.md#outcomes). The model's world has one callback; the comparison with the SQL statements has several.

use crate::row::{Callbacks, Ended, Given, Id, Outcome, Row, Rules, State, Time};

impl Callbacks {
    /// Returns the callbacks of a job whose own provision names `callback`.
    const fn named(callback: Id) -> Self {
        Self { next: callback, own: None, follows_gone: false }
    }

    const fn own(self) -> Id {
        match self.own {
            Some(own) => own,
            None => self.next,
        }
    }
}

impl Row {
    /// `provision` with this callback: see [`Row::provisioned`]. The callback counts also if the key is the same.
    #[must_use]
    pub fn provisioned_at(callback: Id, job: Option<&Self>, given: Given, now: Time, rules: &Rules) -> Self {
        Self { callbacks: Callbacks::named(callback), ..Self::provisioned(job, given, now, rules) }
    }

    /// `move_callback`: the agent has moved. `None`: nothing changes.
    #[must_use]
    pub fn moved(&self, from: Id, to: Id) -> Option<Self> {
        if self.callbacks.next == to && self.callbacks.follows_gone {
            return Some(Self { callbacks: Callbacks { follows_gone: false, ..self.callbacks }, ..*self });
        }
        let follows = self.callbacks.next == from && !matches!(self.state, State::Delivered | State::Stuck);
        let own = Some(self.callbacks.own()).filter(|own| *own != to);
        follows.then_some(Self { callbacks: Callbacks { next: to, own, follows_gone: false }, ..*self })
    }

    /// `finish_fires` of an attempt at this callback: see [`Row::attempt_ended`].
    #[must_use]
    pub fn attempt_ended_at(&self, callback: Id, attempt: &Ended, now: Time, rules: &Rules) -> Self {
        let mut row = *self;
        let holds = self.token == Some(attempt.token);
        let is_elsewhere = attempt.outcome == Outcome::Gone
            && attempt.schedule == self.schedule
            && callback != self.callbacks.own();
        if !is_elsewhere {
            // The job's own callback is asked once.
            row.callbacks.follows_gone &= !holds;
            return row.attempt_ended(attempt, now, rules);
        }
        // Without the lease, another attempt or outcome decides.
        if !holds || !matches!(self.state, State::Firing | State::Waiting) {
            return row;
        }
        row.callbacks = Callbacks { next: self.callbacks.own(), own: None, follows_gone: true };
        row.state = State::Waiting;
        row.next_attempt_at = Some(now);
        row.claim_expires_at = None;
        row.attempt_expires_at = None;
        row.parked = false;
        row.or_expired()
    }
}
