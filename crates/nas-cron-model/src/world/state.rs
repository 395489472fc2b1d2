//! The state of the world: the database, the statements under way, the two replicas, and the observer.

use super::property::{Observer, Violation};
use super::scope::{ABORT_AFTER, Config, Limits};
use crate::row::{Id, Row, Time};

/// The part of the world that the database stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Database {
    /// The job's one-shot.
    pub row: Option<Row>,
    /// The instance is on hold.
    pub on_hold: bool,
    /// Latest heartbeat of replica 0.
    pub renewed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Status {
    Up,
    Frozen,
    Down,
}

/// Replica 0. Replica 1 is always up, connected, and renews in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Faulty {
    pub(super) status: Status,
    pub(super) connected: bool,
    /// Its session holds its advisory lock.
    pub(super) locked: bool,
    /// When it sent its latest successful renewal, by its own clock.
    pub(super) renewed: Time,
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

/// End of an attempt as the replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// 2xx.
    Accepted,
    /// 200 `gone`.
    Gone,
    /// A definite refusal.
    Refused,
    /// Not known. The agent may have accepted.
    Ambiguous,
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
    Release,
    RecoverDead,
    Renew {
        sent: Time,
    },
    /// The reply to a renewal.
    Renewed {
        sent: Time,
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
    pub(super) observer: Observer,
    pub(super) limits: Limits,
    /// The property that the latest step broke.
    pub violation: Option<Violation>,
}

impl World {
    /// The state before the first provision.
    pub fn new(config: &Config) -> Self {
        Self {
            database: Database { row: None, on_hold: false, renewed: 0 },
            durable: None,
            running: Vec::new(),
            tasks: Vec::new(),
            faulty: Faulty { status: Status::Up, connected: true, locked: true, renewed: 0 },
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

    pub(super) fn has_renewed(&self, replica: usize) -> bool {
        replica != 0 || self.faulty.renewed > -ABORT_AFTER
    }

    pub(super) fn of_faulty(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| owner(task.token) == 0)
    }

    pub(super) fn lease_outlasts_deadline(task: &Task, config: &Config) -> bool {
        -task.started < config.rules().attempt_lease - config.delays().deadline
    }
}

impl Statement {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Provision { .. } => "provision",
            Self::ClaimDue { .. } => "claim_due",
            Self::Take { .. } => "take",
            Self::Confirm { .. } => "confirm",
            Self::Release => "release",
            Self::RecoverDead => "recover_dead",
            Self::Renew { .. } => "renew",
            Self::Renewed { .. } => "renewed",
        }
    }

    /// Replica that sent it, where that matters.
    pub(super) const fn sender(&self) -> Option<usize> {
        match self {
            Self::ClaimDue { replica, .. } | Self::Take { replica, .. } => Some(*replica),
            Self::Confirm { token, .. } => Some(owner(*token)),
            Self::Renew { .. } | Self::Renewed { .. } => Some(0),
            _ => None,
        }
    }
}
