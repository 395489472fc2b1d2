//! A scope of the check: its events from outside, their limits, and the parts of the world that are switched on.
//! Also the delays.

use super::mistakes::Mistake;
use crate::row::{Id, Rules, Time};

/// A tick. Its parts order the events between two ticks.
pub(super) const TICK: Time = 64;
/// A replica aborts its attempts this long after it sent its latest successful renewal (13 s).
pub(super) const ABORT_AFTER: Time = 2 * TICK;
/// A replica may be declared dead this long after another one saw its latest renewal (15 s).
pub(super) const TAKE_OVER_AFTER: Time = 3 * TICK;

/// Delays in ticks. Only their order has a meaning: abort < take-over < deadline < end of the lease <= second fire < end of
/// a claim < fire after a duplicate. If no replica can be declared dead, fewer ticks do. If one can, a lost attempt is retried at once: in the service the retry
/// waits for 10 s, but attempts must not overlap without that, either.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delays {
    pub(super) rules: Rules,
    /// An attempt without an answer ends this long after its POST (30 s).
    pub(super) deadline: Time,
}

impl Delays {
    /// `reserve` is the time in which a confirmed attempt may still be sent (10 s).
    const fn of(deadline: Time, reserve: Time, ambiguous_floor: Time) -> Self {
        let attempt_lease = deadline + reserve;
        let rules = Rules {
            fire_floor: 0,
            second_fire_delay: attempt_lease,
            second_fire_interval: attempt_lease,
            second_fires_max: 1,
            horizon: TICK,
            claim_grace: TICK,
            attempt_lease,
            ambiguous_floor,
            claim_lifetime: 2 * attempt_lease,
            duplicate_delay: 2 * attempt_lease + deadline,
        };
        Self { rules, deadline }
    }
}

/// Number of events of a kind in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// At most this many.
    AtMost(u8),
    /// Any number.
    Unlimited,
}

impl Limit {
    pub(super) const fn is_left(self) -> bool {
        !matches!(self, Self::AtMost(0))
    }

    pub(super) const fn take(&mut self) {
        if let Self::AtMost(count) = self {
            *count -= 1;
        }
    }
}

/// Events from outside, each with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the actions")]
pub struct Limits {
    pub provisions: Limit,
    pub cancels: Limit,
    pub holds: Limit,
    pub redrives: Limit,
    pub nudges: Limit,
    pub crashes: Limit,
    pub freezes: Limit,
    pub partitions: Limit,
    pub terminations: Limit,
    pub database_crashes: Limit,
}

impl Limits {
    /// No event at all.
    pub const NONE: Self = {
        let none = Limit::AtMost(0);
        Self {
            provisions: none,
            cancels: none,
            holds: none,
            redrives: none,
            nudges: none,
            crashes: none,
            freezes: none,
            partitions: none,
            terminations: none,
            database_crashes: none,
        }
    };
}

/// End of an attempt as the replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// 2xx.
    Accepted,
    /// 200 `gone`.
    Gone,
    /// 200 `gateway_stopped`.
    Dropped,
    /// 200 `duplicate`.
    Duplicate,
    /// A definite refusal.
    Refused,
    /// Not known. The agent may have accepted.
    Ambiguous,
}

impl Answer {
    const ALL: [Self; 6] =
        [Self::Accepted, Self::Gone, Self::Dropped, Self::Duplicate, Self::Refused, Self::Ambiguous];
}

/// A scope of the check.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each one switches a part of the world")]
pub struct Config {
    /// Events from outside.
    pub limits: Limits,
    /// Number of keys.
    pub keys: Id,
    /// One-shots may be due in the future.
    pub future: bool,
    /// New one-shots in the future await an external backend.
    pub backend: bool,
    /// The backend loses wake-ups.
    pub wake_ups_lost: bool,
    /// The agent may answer `gone`.
    pub gone: bool,
    /// The agent may answer `gateway_stopped` and `duplicate`.
    pub newer_agent: bool,
    /// No attempt of a one-shot starts later than a tick after its instant.
    pub limited: bool,
    /// Attempts of a retry budget.
    pub attempts_max: u8,
    /// Leases and attempts in the memory of all replicas.
    pub tasks_max: usize,
    /// Statements that read more than the locked row take two steps.
    pub snapshots: bool,
    /// Replicas renew their registrations, and a dead one is declared dead: docs/ARCHITECTURE.md#a-replica-that-dies.
    pub registrations: bool,
    /// The lease of an attempt ends only if its replica is declared dead.
    pub endless_leases: bool,
    /// Confirmations commit synchronously. Without it, two attempts may overlap after a crash of the database.
    pub synchronous_confirmations: bool,
    /// A lost confirmation does not excuse that two attempts overlap.
    pub strict_overlap: bool,
    /// A replica may be frozen and without its session at once.
    pub terminations_while_frozen: bool,
    /// A planted mistake.
    pub mistake: Option<Mistake>,
}

impl Config {
    /// One key that is due, and nothing else.
    pub const SMALLEST: Self = Self {
        limits: Limits { provisions: Limit::Unlimited, cancels: Limit::Unlimited, ..Limits::NONE },
        keys: 1,
        future: false,
        backend: false,
        wake_ups_lost: false,
        gone: false,
        newer_agent: false,
        limited: false,
        attempts_max: 2,
        tasks_max: 2,
        snapshots: false,
        registrations: false,
        endless_leases: false,
        synchronous_confirmations: false,
        strict_overlap: false,
        terminations_while_frozen: false,
        mistake: None,
    };

    pub(super) const fn delays(&self) -> &'static Delays {
        const WITH_REGISTRATIONS: Delays = Delays::of(4 * TICK, 3 * TICK, 0);
        const WITHOUT: Delays = Delays::of(TICK, TICK, TICK);
        if self.registrations { &WITH_REGISTRATIONS } else { &WITHOUT }
    }

    pub(super) const fn rules(&self) -> &'static Rules {
        &self.delays().rules
    }

    /// Answers of the agent.
    pub(super) fn answers(&self) -> impl Iterator<Item = Answer> {
        let (gone, newer) = (self.gone, self.newer_agent);
        Answer::ALL.into_iter().filter(move |answer| match answer {
            Answer::Gone => gone,
            Answer::Dropped | Answer::Duplicate => newer,
            Answer::Accepted | Answer::Refused | Answer::Ambiguous => true,
        })
    }

    pub(super) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}
