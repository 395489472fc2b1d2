//! The properties, and what an observer has to know to see that a step breaks one.

use crate::row::{Id, Time};

/// A property that a step breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Invariant 2: the one-shot is neither delivered since its latest provision nor pending, dead or stuck.
    Lost,
    /// Invariant 3: an attempt started before it was due.
    Early,
    /// An attempt started after the one-shot's limit.
    TooLate,
    /// Invariant 4: an attempt of a cancelled or superseded one-shot started.
    StartedAfterCancel,
    /// Invariant 5: two attempts of a one-shot are in flight.
    Overlap,
    /// An outcome changed another attempt's one-shot.
    Fence,
    /// A recorded delivery was repeated, and the key was not provisioned again.
    Repeated,
    /// A delivered key that came again was armed before its second fire may start.
    SecondFireTooEarly,
    /// A slow clock was inferred although the agent had provisioned no key again, or had refused it as a duplicate.
    FalseSkew,
    /// Columns that do not fit together.
    Unstorable,
    /// A one-shot stays pending for ever, although no fault persists.
    NeverEnds,
}

/// The knowledge of an observer, apart from what the service stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent observations")]
pub(super) struct Observer {
    /// The arm of the latest acknowledged provision, unless it was cancelled.
    pub(super) current: Option<Id>,
    /// No attempt that started after the latest provision was accepted.
    pub(super) owed: bool,
    /// A delivery was recorded, and the key was not provisioned again since the attempt started.
    pub(super) delivered: bool,
    /// The current key was provisioned more than once.
    pub(super) same_key_again: bool,
    /// Latest time at which the agent may have claimed the current arm.
    pub(super) claimed: Option<Time>,
    /// A `duplicate` of the current arm was recorded.
    pub(super) refused: bool,
}

impl Observer {
    /// The agent may have accepted an attempt of this arm.
    pub(super) fn may_be_claimed(&mut self, schedule: Id) {
        if Some(schedule) == self.current {
            self.claimed = Some(0);
        }
    }
}
