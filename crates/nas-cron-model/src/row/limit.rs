//! The rule of `not_after`: no attempt starts later.

use super::{Row, State, Time};

impl Row {
    /// Returns true if an attempt at `start` would be later than the one-shot's limit.
    pub(super) fn is_too_late(&self, start: Time) -> bool {
        self.not_after.is_some_and(|limit| limit < start)
    }

    /// The row after its limit has passed.
    const fn ended_by_limit(self) -> Self {
        Self {
            state: State::Dead,
            next_attempt_at: None,
            parked: false,
            awaits: false,
            expired: true,
            ..self
        }
    }

    /// `expire`: `docs/contract.md#not_after`. `None`: it has not expired, or is claimed.
    #[must_use]
    pub fn expired(&self, now: Time) -> Option<Self> {
        let is_waiting = matches!(self.state, State::Armed | State::Waiting);
        (is_waiting && self.is_too_late(now)).then(|| self.ended_by_limit())
    }

    /// The row after an attempt: one whose next attempt would be too late ends at once.
    pub(crate) fn or_expired(self) -> Self {
        let is_doomed =
            self.state == State::Waiting && self.next_attempt_at.is_some_and(|next| self.is_too_late(next));
        if is_doomed { self.ended_by_limit() } else { self }
    }
}
