//! The state of the world: the database, the statements under way, the two replicas, and the observer.

use super::mistakes::Mistake;
use super::property::{Observer, Violation};
use super::scope::{ABORT_AFTER, Answer, Config, Limits};
use crate::row::{Id, Row, State, Time};

/// The part of the world that the database stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// The job's one-shot.
    pub row: Option<Row>,
    /// The instance is on hold.
    pub on_hold: bool,
    /// Number of renewals in replica 0's row of `replicas`. `None`: it was declared dead.
    pub renewals: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Status {
    Up,
    Frozen,
    Down,
}

/// Replica 0: one registration of a process. If the process restarts or registers again, that is another replica.
/// Replica 1 is always up, connected, and renews in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Faulty {
    pub(super) status: Status,
    pub(super) connected: bool,
    /// The session of its latest renewal exists.
    pub(super) session: bool,
    /// When it sent its latest successful renewal, by its own clock. `None`: it knows that it was declared dead.
    pub(super) renewed: Option<Time>,
}

/// Replica 0's row of `replicas`, as replica 1 has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub(super) renewals: u8,
    /// When it saw this number first, by its own clock.
    pub(super) since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Phase {
    Leased,
    Confirming,
    Confirmed,
    Posted,
    /// Started, but never sent, or not known to have started: to be given back.
    Unsent,
    Ended(Answer),
}

impl Phase {
    /// Returns true if the attempt has started and may have an outcome.
    pub(super) const fn has_started(self) -> bool {
        matches!(self, Self::Confirmed | Self::Posted | Self::Ended(_))
    }
}

/// A lease or an attempt in the memory of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Task {
    pub(super) token: Id,
    pub(super) schedule: Id,
    pub(super) key: Id,
    pub(super) attempt: u8,
    pub(super) phase: Phase,
    /// Counted from before the confirmation was sent.
    pub(super) started: Time,
    /// Start by the database's clock.
    pub(super) confirmed: Time,
    pub(super) posted: Time,
    /// Its outcome is in the history.
    pub(super) recorded: bool,
    /// The key was provisioned again after the attempt had started.
    pub(super) stale: bool,
    /// A crash of the database lost its confirmation.
    pub(super) unconfirmed: bool,
}

pub(super) const fn owner(token: Id) -> usize {
    (token & 1) as usize
}

/// Returns true if an attempt of replica 0 is in flight: the column `replica_id`.
pub(super) fn is_attempt_of_faulty(row: &Row) -> bool {
    row.state == State::Firing && row.token.is_some_and(|token| owner(token) == 0)
}

/// A statement between its snapshot and its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Statement {
    Provision {
        key: Id,
        later: bool,
        snapshot: Option<Row>,
    },
    ClaimDue {
        replica: usize,
        on_hold: bool,
    },
    Take {
        replica: usize,
        on_hold: bool,
    },
    Confirm {
        token: Id,
        on_hold: bool,
        valid: bool,
    },
    FinishFires {
        token: Id,
        answer: Answer,
        /// Its reading of the clock.
        ended_at: Time,
        /// The reply will arrive.
        reply: bool,
    },
    Release,
    DeclareDead {
        renewals: u8,
        /// Its snapshot has an attempt of the replica.
        in_flight: bool,
    },
    Renew {
        sent: Time,
    },
    /// The reply to a renewal.
    Renewed {
        sent: Time,
        /// The row was there.
        found: bool,
    },
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The database as clients see it.
    pub database: Database,
    /// The state after a crash of the database, if it differs.
    pub(super) durable: Option<Database>,
    pub(super) running: Vec<(Time, Statement)>,
    pub(super) tasks: Vec<Task>,
    pub(super) faulty: Faulty,
    pub(super) seen: Seen,
    pub(super) observer: Observer,
    pub(super) limits: Limits,
    /// The property that the latest step broke.
    pub violation: Option<Violation>,
}

impl World {
    /// The state before the first provision.
    pub fn new(config: &Config) -> Self {
        Self {
            database: Database { row: None, on_hold: false, renewals: Some(0) },
            durable: None,
            running: Vec::new(),
            tasks: Vec::new(),
            faulty: Faulty { status: Status::Up, connected: true, session: true, renewed: Some(0) },
            seen: Seen { renewals: 0, since: 0 },
            observer: Observer::default(),
            limits: config.limits,
            violation: None,
        }
    }

    /// Returns true if nothing is left to do: no attempt will follow, or a hold prevents it.
    pub fn is_at_rest(&self) -> bool {
        self.database.row.is_none_or(|row| !row.state.is_live()) || self.violation.is_some()
    }

    pub(super) fn can_send(&self, replica: usize) -> bool {
        replica != 0 || self.faulty.status == Status::Up && self.faulty.connected
    }

    /// Returns true if the replica may make attempts.
    pub(super) fn has_renewed(&self, replica: usize) -> bool {
        replica != 0 || self.faulty.renewed.is_some_and(|sent| sent > -ABORT_AFTER)
    }

    /// Returns true if a confirmed attempt may be sent: its replica is registered, and its lease outlasts its deadline.
    pub(super) fn may_post(&self, task: &Task, config: &Config) -> bool {
        let outlasts = -task.started < config.rules().attempt_lease - config.delays().deadline;
        outlasts && (self.has_renewed(owner(task.token)) || config.makes(Mistake::UncheckedPost))
    }

    /// Returns true if the replica has to abort the attempt because it could not renew its registration.
    pub(super) fn must_abort(&self, task: &Task, config: &Config) -> bool {
        let is_abortable = match task.phase {
            Phase::Confirmed => !config.makes(Mistake::UncheckedPost),
            Phase::Posted => !config.makes(Mistake::NoAbort),
            _ => false,
        };
        let replica = owner(task.token);
        is_abortable && !self.has_renewed(replica) && (replica != 0 || self.faulty.status == Status::Up)
    }
}

impl Statement {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Provision { .. } => "provision",
            Self::ClaimDue { .. } => "claim_due",
            Self::Take { .. } => "take",
            Self::Confirm { .. } => "confirm",
            Self::FinishFires { .. } => "finish_fires",
            Self::Release => "release",
            Self::DeclareDead { .. } => "declare_dead",
            Self::Renew { .. } => "renew",
            Self::Renewed { .. } => "renewed",
        }
    }
}
