//! The steps between states.

use super::scope::Answer;
use super::state::World;
use crate::row::Id;

/// A step of the model. Statements have their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the statements and faults")]
pub enum Action {
    Provision {
        key: Id,
        later: bool,
    },
    Cancel,
    Hold,
    EndHold,
    Release,
    Redrive,
    Nudge,
    ClaimDue {
        replica: usize,
    },
    Take {
        replica: usize,
    },
    TakeOverMissed,
    Confirm {
        token: Id,
    },
    Post {
        token: Id,
    },
    Answer {
        token: Id,
        answer: Answer,
    },
    /// Replica 0 cannot renew its registration, and ends its attempts.
    Abort,
    GiveBack {
        token: Id,
    },
    FinishFires {
        token: Id,
        reply: bool,
    },
    RecoverExpired,
    Expire,
    /// Replica 1 reads the registrations.
    Look,
    DeclareDead,
    Renew,
    /// The second step of a statement.
    Commit {
        statement: &'static str,
    },
    Crash,
    /// Only for [`Mistake::SameIdentity`](super::Mistake::SameIdentity).
    Restart,
    Freeze,
    Thaw,
    Partition,
    Heal,
    /// The session of replica 0's registration ends.
    Terminate,
    DatabaseCrash,
    /// The asynchronous commits so far become durable.
    Flush,
    Tick,
}

impl Action {
    /// Returns true if the system, its agent or the end of a fault takes the step; false for requests and faults.
    pub const fn is_progress(self) -> bool {
        !matches!(
            self,
            Self::Provision { .. }
                | Self::Cancel
                | Self::Hold
                | Self::Redrive
                | Self::Nudge
                | Self::Crash
                | Self::Freeze
                | Self::Partition
                | Self::Terminate
                | Self::DatabaseCrash
        )
    }
}

/// One step: the action, and the state after it.
pub type Step = (Action, World);

/// Adds a step to those that are possible: the action, and its effect.
pub(super) type Add<'a> = &'a mut dyn FnMut(Action, &dyn Fn(&mut World));
