//! The model: one job, two replicas, one agent, the database, and their faults.
//!
//! **Time** passes in ticks. Everything between two ticks may happen in any order, and the order of what has happened is kept.
//! All instants are relative to now, so that the set of states is finite without a limit on the length of a run.
//!
//! **Postgres.** A statement that decides by the locked row alone is one step. A statement that also reads another row or
//! table (holds, heartbeats) is two: its snapshot, and the lock of the row's latest version with the commit; anything may
//! happen in between, and the statement may outlive its client. Claims and confirmations commit asynchronously: a crash of
//! the database takes it back to an earlier commit, but to none before the latest synchronous one.
//!
//! **Faults** hit replica 0. It may be killed, frozen, cut off from the database, and its session may end. By symmetry this
//! covers one faulty replica of any number; two faulty ones are not modelled.

use crate::row::{Ended, Given, Id, Outcome, Row, Rules, State, Time};

/// A tick. Its parts order the events between two ticks.
const TICK: Time = 64;
/// A replica without a renewal for this long aborts its attempts (12 s).
const ABORT_AFTER: Time = 2 * TICK;
/// A heartbeat of this age lets others recover started attempts (15 s).
const TAKE_OVER_AFTER: Time = 3 * TICK;

/// Delays in ticks. Only their order has a meaning: abort < take-over < the retry after it < deadline < end of
/// the lease <= second fire < end of a claim < fire after a duplicate. Without heartbeats, fewer ticks do.
#[derive(Clone, Copy, Debug)]
struct Delays {
    rules: Rules,
    /// An attempt without an answer ends this long after its POST (30 s).
    deadline: Time,
}

impl Delays {
    const fn of(deadline: Time) -> Self {
        let attempt_lease = deadline + TICK;
        let rules = Rules {
            fire_floor: 0,
            second_fire_delay: attempt_lease,
            second_fire_interval: attempt_lease,
            second_fires_max: 1,
            horizon: TICK,
            claim_grace: TICK,
            attempt_lease,
            ambiguous_floor: TICK,
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
    const fn is_left(self) -> bool {
        !matches!(self, Self::AtMost(0))
    }

    const fn take(&mut self) {
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
            crashes: none,
            freezes: none,
            partitions: none,
            terminations: none,
            database_crashes: none,
        }
    };
}

/// A deviation from the design that the checker must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An outcome changes its one-shot whatever the lease token is.
    NoFence,
    /// An outcome changes the job's current one-shot although the attempt belongs to a superseded one.
    OutcomeOfSuperseded,
    /// The POST is written without a confirmation.
    NoConfirmation,
    /// A provision reads the delivered key by its snapshot, before it locks the row.
    DeliveredKeyBySnapshot,
    /// A confirmation decides by its snapshot, and does not look at the locked row.
    ConfirmationBySnapshot,
    /// Outcomes commit asynchronously.
    AsynchronousOutcome,
    /// Provisions commit asynchronously.
    AsynchronousProvision,
    /// Others take over as early as the replica aborts.
    TakeOverTooEarly,
    /// Others take over by the age of the heartbeat alone, without the advisory lock.
    HeartbeatAlone,
    /// Others take over by the advisory lock alone, without the age of the heartbeat.
    LockAlone,
    /// A replica counts from the reply to its renewal, not from its sending.
    CountedFromReply,
    /// Renewals commit asynchronously.
    AsynchronousRenewal,
    /// Early recovery does not look at the locked row's start again.
    RecoveryBySnapshot,
    /// Recovery forgets that the same key was provisioned again.
    RecoveryForgetsProvision,
    /// A provision of a live key is only remembered during an attempt.
    RememberedOnlyWhileFiring,
    /// A delivery of an attempt whose one-shot another claim holds is only remembered.
    LateDeliveryIgnored,
    /// A wake-up that does not come is not missed.
    NoWatchdog,
    /// Parked one-shots are not released.
    NoRelease,
    /// A `duplicate` ends the one-shot although a claim of a dead process may have caused it.
    DuplicateIsFinal,
    /// A new key after a `duplicate` shows a slow clock.
    DuplicateShowsSkew,
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
    /// Attempts of a retry budget.
    pub attempts_max: u8,
    /// Leases and attempts in the memory of all replicas.
    pub tasks_max: usize,
    /// Statements that read more than the locked row take two steps.
    pub snapshots: bool,
    /// Heartbeats, and the early recovery of a dead replica's attempts.
    pub heartbeats: bool,
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
        attempts_max: 2,
        tasks_max: 2,
        snapshots: false,
        heartbeats: false,
        synchronous_confirmations: false,
        strict_overlap: false,
        terminations_while_frozen: false,
        mistake: None,
    };

    const fn delays(&self) -> &'static Delays {
        const WITH_HEARTBEATS: Delays = Delays::of(5 * TICK);
        const WITHOUT: Delays = Delays::of(TICK);
        if self.heartbeats { &WITH_HEARTBEATS } else { &WITHOUT }
    }

    const fn rules(&self) -> &'static Rules {
        &self.delays().rules
    }

    /// Answers of the agent.
    fn answers(&self) -> impl Iterator<Item = Answer> {
        let all = [
            Answer::Accepted,
            Answer::Gone,
            Answer::Dropped,
            Answer::Duplicate,
            Answer::Refused,
            Answer::Ambiguous,
        ];
        let (gone, newer) = (self.gone, self.newer_agent);
        all.into_iter().filter(move |answer| match answer {
            Answer::Gone => gone,
            Answer::Dropped | Answer::Duplicate => newer,
            _ => true,
        })
    }

    fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }
}

/// A property that a step breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Violation {
    /// Invariant 2: the one-shot is neither delivered since its latest provision nor pending, dead or stuck.
    Lost,
    /// Invariant 3: an attempt started before it was due.
    Early,
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
    /// A slow clock was inferred although the agent had provisioned no key again.
    FalseSkew,
    /// Columns that do not fit together.
    Unstorable,
    /// A one-shot stays pending for ever, although no fault persists.
    NeverEnds,
}

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
enum Status {
    Up,
    Frozen,
    Down,
}

/// Replica 0. Replica 1 is always up, connected, and renews in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Faulty {
    status: Status,
    connected: bool,
    /// Its session holds its advisory lock.
    locked: bool,
    /// When it sent its latest successful renewal, by its own clock.
    renewed: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Phase {
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
    const fn has_started(self) -> bool {
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
    /// 200 `gateway_stopped`.
    Dropped,
    /// 200 `duplicate`.
    Duplicate,
    /// A definite refusal.
    Refused,
    /// Not known. The agent may have accepted.
    Ambiguous,
}

/// A lease or an attempt in the memory of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Task {
    token: Id,
    schedule: Id,
    key: Id,
    attempt: u8,
    phase: Phase,
    /// Counted from before the confirmation was sent.
    started: Time,
    /// Start by the database's clock.
    confirmed: Time,
    posted: Time,
    /// Its outcome is in the history.
    recorded: bool,
    /// The key was provisioned again after the attempt had started.
    stale: bool,
    /// A crash of the database lost its confirmation.
    unconfirmed: bool,
}

const fn owner(token: Id) -> usize {
    (token & 1) as usize
}

/// A statement between its snapshot and its commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Statement {
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

/// A step of the model. Statements have their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named like the statements and faults")]
pub enum Action {
    Provision { key: Id, later: bool },
    Cancel,
    Hold,
    EndHold,
    Release,
    Redrive,
    ClaimDue { replica: usize },
    Take { replica: usize },
    TakeOverMissed,
    Confirm { token: Id },
    Post { token: Id },
    Answer { token: Id, answer: Answer },
    Timeout { token: Id },
    Abort,
    GiveBack { token: Id },
    FinishFires { token: Id, reply: bool },
    RecoverExpired,
    RecoverDead,
    Renew,
    Commit { statement: &'static str },
    Crash,
    Restart,
    Freeze,
    Thaw,
    Partition,
    Heal,
    Terminate,
    DatabaseCrash,
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
                | Self::Crash
                | Self::Freeze
                | Self::Partition
                | Self::Terminate
                | Self::DatabaseCrash
        )
    }
}

/// The knowledge of an observer, apart from what the service stores.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Observer {
    /// The arm of the latest acknowledged provision, unless it was cancelled.
    current: Option<Id>,
    /// No attempt that started after the latest provision was accepted.
    owed: bool,
    /// A delivery was recorded, and the key was not provisioned again since the attempt started.
    delivered: bool,
    /// The current key was provisioned more than once.
    same_key_again: bool,
    /// Latest time at which the agent may have claimed the current arm.
    claimed: Option<Time>,
    /// A `duplicate` of the current arm was recorded.
    refused: bool,
}

impl Observer {
    /// The agent may have accepted the attempt.
    fn may_be_claimed(&mut self, task: &Task) {
        if Some(task.schedule) == self.current {
            self.claimed = Some(0);
        }
    }
}

/// A state of the model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// The database as clients see it.
    pub database: Database,
    /// The state after a crash of the database, if it differs.
    durable: Option<Database>,
    running: Vec<(Time, Statement)>,
    tasks: Vec<Task>,
    faulty: Faulty,
    observer: Observer,
    limits: Limits,
    /// The property that the latest step broke.
    pub violation: Option<Violation>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Durability {
    Synchronous,
    Asynchronous,
}
use Durability::{Asynchronous, Synchronous};

/// One step: the action, and the state after it.
pub type Step = (Action, World);

/// Adds a step to those that are possible: the action, and its effect.
type Add<'a> = &'a mut dyn FnMut(Action, &dyn Fn(&mut World));

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

    /// Returns every possible step.
    pub fn steps(&self, config: &Config) -> Vec<Step> {
        let mut steps = Vec::with_capacity(16);
        if self.violation.is_some() {
            return steps;
        }
        let mut add = |action: Action, change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            world.check(config);
            world.normalise(config);
            steps.push((action, world));
        };
        self.requests(config, &mut add);
        self.work(config, &mut add);
        self.attempts(config, &mut add);
        self.faults(config, &mut add);
        for (index, (_, statement)) in self.running.iter().enumerate() {
            add(Action::Commit { statement: statement.name() }, &|world| {
                let (begun, statement) = world.running.remove(index);
                world.commit(statement, begun, config);
            });
        }
        if self.may_tick(config) {
            add(Action::Tick, &|world| world.tick());
        }
        steps
    }

    /// Requests of the agent, operators and backends.
    fn requests(&self, config: &Config, add: Add<'_>) {
        if self.limits.provisions.is_left() {
            for key in 0..config.keys {
                for later in [false, true] {
                    if later && !config.future {
                        continue;
                    }
                    let by_snapshot = config.makes(Mistake::DeliveredKeyBySnapshot);
                    add(Action::Provision { key, later }, &|world| {
                        world.limits.provisions.take();
                        let snapshot = if by_snapshot { world.database.row } else { None };
                        let statement = Statement::Provision { key, later, snapshot };
                        world.send(statement, by_snapshot, config);
                    });
                }
            }
        }
        let row = self.database.row;
        if row.is_some() && self.limits.cancels.is_left() {
            add(Action::Cancel, &|world| {
                world.limits.cancels.take();
                world.store(None, Synchronous, config);
                world.observer = Observer::default();
            });
        }
        if !self.database.on_hold && self.limits.holds.is_left() {
            add(Action::Hold, &|world| {
                world.limits.holds.take();
                world.database.on_hold = true;
                world.durable = None;
            });
        }
        if self.database.on_hold {
            add(Action::EndHold, &|world| {
                world.database.on_hold = false;
                world.durable = None;
            });
        }
        if self.limits.redrives.is_left()
            && let Some(redriven) = row.and_then(|row| row.redriven(0, config.rules()))
        {
            add(Action::Redrive, &|world| {
                world.limits.redrives.take();
                world.store(Some(redriven), Synchronous, config);
                world.observer.delivered = false;
            });
        }
    }

    fn can_send(&self, replica: usize) -> bool {
        replica != 0 || self.faulty.status == Status::Up && self.faulty.connected
    }

    fn has_renewed(&self, replica: usize) -> bool {
        replica != 0 || self.faulty.renewed > -ABORT_AFTER
    }

    /// Statements of the loops of both replicas.
    fn work(&self, config: &Config, add: Add<'_>) {
        let row = self.database.row;
        let claims = self.running.iter().filter(|(_, statement)| {
            matches!(statement, Statement::ClaimDue { .. } | Statement::Take { .. })
        });
        let has_room = self.tasks.len() + claims.count() < config.tasks_max;
        for replica in [0, 1] {
            if !self.can_send(replica) || !has_room {
                continue;
            }
            let on_hold = self.database.on_hold;
            if row.is_some_and(|row| row.is_claimable(0, config.rules())) {
                add(Action::ClaimDue { replica }, &|world| {
                    world.send(Statement::ClaimDue { replica, on_hold }, config.snapshots, config);
                });
            }
            if row.is_some_and(|row| row.awaits) && !config.wake_ups_lost {
                add(Action::Take { replica }, &|world| {
                    world.send(Statement::Take { replica, on_hold }, config.snapshots, config);
                });
            }
        }
        // The remaining ones have the same effect on either replica.
        if let Some(taken_over) = row.and_then(|row| row.taken_over(0))
            && !config.makes(Mistake::NoWatchdog)
        {
            add(Action::TakeOverMissed, &|world| world.store(Some(taken_over), Synchronous, config));
        }
        let runs = |name: &str| self.running.iter().any(|(_, statement)| statement.name() == name);
        let has_ended = row.is_some_and(|row| row.parked) && !self.database.on_hold;
        if has_ended && !runs("release") && !config.makes(Mistake::NoRelease) {
            add(Action::Release, &|world| world.send(Statement::Release, config.snapshots, config));
        }
        if let Some(recovered) = row.and_then(|row| row.recovered(0, config.rules())) {
            add(Action::RecoverExpired, &|world| {
                world.store(Some(Self::after_recovery(recovered, config)), Synchronous, config);
            });
        }
        if config.heartbeats {
            if row.is_some_and(|row| row.state == State::Firing && row.token.is_some_and(|it| owner(it) == 0))
                && self.is_dead(config)
                && !runs("recover_dead")
            {
                add(Action::RecoverDead, &|world| {
                    world.send(Statement::RecoverDead, config.snapshots, config);
                });
            }
            // Fresh renewals change nothing.
            let aborted = self.has_renewed(0)
                || !self.of_faulty().any(|task| matches!(task.phase, Phase::Confirmed | Phase::Posted));
            let old = self.faulty.renewed < 0 || !self.faulty.locked;
            if self.can_send(0) && old && aborted && !runs("renew") && !runs("renewed") {
                add(Action::Renew, &|world| {
                    world.send(Statement::Renew { sent: 0 }, config.snapshots, config);
                });
            }
        }
    }

    fn of_faulty(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| owner(task.token) == 0)
    }

    /// The condition of `recover_dead`: an old heartbeat, and a free advisory lock.
    fn is_dead(&self, config: &Config) -> bool {
        let age = if config.makes(Mistake::TakeOverTooEarly) { ABORT_AFTER } else { TAKE_OVER_AFTER };
        (self.database.renewed <= -age || config.makes(Mistake::LockAlone))
            && (!self.faulty.locked || config.makes(Mistake::HeartbeatAlone))
    }

    /// Leases and attempts in memory.
    fn attempts(&self, config: &Config, add: Add<'_>) {
        for (index, task) in self.tasks.iter().enumerate() {
            let Task { token, phase, .. } = *task;
            let replica = owner(token);
            if replica == 0 && self.faulty.status != Status::Up {
                continue;
            }
            let may_post = match phase {
                Phase::Leased => config.makes(Mistake::NoConfirmation),
                Phase::Confirmed => self.has_renewed(replica) && Self::lease_outlasts_deadline(task, config),
                _ => false,
            };
            if may_post {
                add(Action::Post { token }, &|world| {
                    if world.tasks[index].phase == Phase::Leased {
                        world.start(index);
                    }
                    world.tasks[index].posted = 0;
                    world.tasks[index].phase = Phase::Posted;
                });
            }
            if phase == Phase::Posted {
                for answer in config.answers() {
                    add(Action::Answer { token, answer }, &|world| world.answer(index, answer, config));
                }
            }
            if !self.can_send(replica) {
                continue;
            }
            if phase == Phase::Leased && self.has_renewed(replica) && !config.makes(Mistake::NoConfirmation) {
                let (on_hold, valid) =
                    (self.database.on_hold, self.confirmed(token, self.database.on_hold, config).is_some());
                add(Action::Confirm { token }, &|world| {
                    world.tasks[index].phase = Phase::Confirming;
                    world.tasks[index].started = 0;
                    world.send(Statement::Confirm { token, on_hold, valid }, config.snapshots, config);
                });
            }
            if matches!(phase, Phase::Leased | Phase::Confirmed | Phase::Unsent) {
                add(Action::GiveBack { token }, &|world| {
                    let task = world.tasks.remove(index);
                    let given_back = world.database.row.and_then(|row| row.given_back(task.token, 0));
                    if let Some(row) = given_back {
                        world.store(Some(row), Synchronous, config);
                    }
                });
            }
            if let Phase::Ended(answer) = phase {
                for reply in [true, false] {
                    if !reply && (task.recorded || self.limits.partitions == Limit::AtMost(0)) {
                        continue;
                    }
                    add(Action::FinishFires { token, reply }, &|world| {
                        world.finish(index, answer, config);
                        if reply {
                            world.tasks.remove(index);
                        }
                    });
                }
            }
        }
        let overdue = self.of_faulty().any(|task| matches!(task.phase, Phase::Confirmed | Phase::Posted))
            && !self.has_renewed(0)
            && self.faulty.status == Status::Up;
        if overdue {
            add(Action::Abort, &|world| {
                for task in world.tasks.iter_mut().filter(|task| owner(task.token) == 0) {
                    task.phase = match task.phase {
                        Phase::Confirmed => Phase::Unsent,
                        Phase::Posted => {
                            world.observer.may_be_claimed(task);
                            Phase::Ended(Answer::Ambiguous)
                        }
                        phase => phase,
                    };
                }
            });
        }
    }

    fn lease_outlasts_deadline(task: &Task, config: &Config) -> bool {
        -task.started < config.rules().attempt_lease - config.delays().deadline
    }

    fn faults(&self, config: &Config, add: Add<'_>) {
        let Faulty { status, connected, locked, .. } = self.faulty;
        if status != Status::Down && self.limits.crashes.is_left() {
            add(Action::Crash, &|world| {
                world.limits.crashes.take();
                world.faulty.status = Status::Down;
                // Its host closes its connections, those to agents and those to the database.
                world.faulty.locked = false;
                for task in
                    world.tasks.iter().filter(|task| owner(task.token) == 0 && task.phase == Phase::Posted)
                {
                    world.observer.may_be_claimed(task);
                }
                world.tasks.retain(|task| owner(task.token) != 0);
            });
        }
        // A restarted replica is another one. It takes the place of the old one when nothing refers to that any more.
        let refers =
            |database: &Database| database.row.and_then(|row| row.token).is_some_and(|it| owner(it) == 0);
        if status == Status::Down
            && !refers(&self.database)
            && !self.durable.as_ref().is_some_and(refers)
            && self.running.iter().all(|(_, statement)| statement.sender() != Some(0))
        {
            add(Action::Restart, &|world| {
                world.faulty = Faulty { status: Status::Up, connected: true, locked: true, renewed: 0 };
                world.database.renewed = 0;
                world.durable = None;
            });
        }
        if status == Status::Up
            && self.limits.freezes.is_left()
            && (locked || config.terminations_while_frozen)
        {
            add(Action::Freeze, &|world| {
                world.limits.freezes.take();
                world.faulty.status = Status::Frozen;
            });
        }
        if status == Status::Frozen {
            add(Action::Thaw, &|world| world.faulty.status = Status::Up);
        }
        if connected && status != Status::Down && self.limits.partitions.is_left() {
            add(Action::Partition, &|world| {
                world.limits.partitions.take();
                world.faulty.connected = false;
            });
        }
        if !connected {
            add(Action::Heal, &|world| world.faulty.connected = true);
        }
        let terminable = status != Status::Frozen || config.terminations_while_frozen;
        if locked && terminable && self.limits.terminations.is_left() {
            add(Action::Terminate, &|world| {
                world.limits.terminations.take();
                world.faulty.locked = false;
            });
        }
        if self.limits.database_crashes.is_left() && terminable {
            add(Action::DatabaseCrash, &|world| world.crash_database());
        }
        if self.durable.is_some() {
            add(Action::Flush, &|world| world.durable = None);
        }
    }

    fn crash_database(&mut self) {
        self.limits.database_crashes.take();
        let before = self.database.row;
        if let Some(durable) = self.durable.take() {
            self.database = durable;
        }
        self.faulty.locked = false;
        for (_, statement) in std::mem::take(&mut self.running) {
            if let Statement::Confirm { token, .. } = statement {
                self.reply_lost(token);
            }
        }
        let firing = |row: Option<Row>, token| {
            row.is_some_and(|row| row.state == State::Firing && row.token == Some(token))
        };
        for task in &mut self.tasks {
            task.unconfirmed |= firing(before, task.token) && !firing(self.database.row, task.token);
        }
    }

    /// Returns true unless something must happen first: timers of a running replica, and the deadline of a statement.
    fn may_tick(&self, config: &Config) -> bool {
        let timer = |task: &Task| {
            let runs = owner(task.token) != 0 || self.faulty.status == Status::Up;
            let overdue = task.phase == Phase::Posted && task.posted <= -config.delays().deadline;
            let abort = matches!(task.phase, Phase::Confirmed | Phase::Posted)
                && !self.has_renewed(owner(task.token));
            runs && (overdue || abort)
        };
        !self.tasks.iter().any(timer) && self.running.iter().all(|(begun, _)| *begun > -TICK)
    }

    fn tick(&mut self) {
        fn age(row: &mut Option<Row>) {
            if let Some(row) = row {
                row.fire_at -= TICK;
                for at in [
                    &mut row.next_attempt_at,
                    &mut row.claim_expires_at,
                    &mut row.attempt_expires_at,
                    &mut row.last_started_at,
                    &mut row.asked_again_at,
                    &mut row.claimed_at,
                ] {
                    *at = at.map(|at| at - TICK);
                }
                if let Some(delivered) = &mut row.delivered {
                    delivered.at -= TICK;
                }
            }
        }
        age(&mut self.database.row);
        self.database.renewed -= TICK;
        if let Some(durable) = &mut self.durable {
            age(&mut durable.row);
            durable.renewed -= TICK;
        }
        self.faulty.renewed -= TICK;
        self.observer.claimed = self.observer.claimed.map(|at| at - TICK);
        for task in &mut self.tasks {
            task.started -= TICK;
            task.confirmed -= TICK;
            task.posted -= TICK;
        }
        for (begun, statement) in &mut self.running {
            *begun -= TICK;
            match statement {
                Statement::Renew { sent } | Statement::Renewed { sent } => *sent -= TICK,
                Statement::Provision { snapshot, .. } => age(snapshot),
                _ => {}
            }
        }
    }

    // ── Statements ──

    fn send(&mut self, statement: Statement, in_two_steps: bool, config: &Config) {
        if in_two_steps {
            self.running.push((0, statement));
        } else {
            self.commit(statement, 0, config);
        }
    }

    /// Commits a change of the row.
    fn store(&mut self, row: Option<Row>, durability: Durability, config: &Config) {
        let before = self.database;
        self.database.row = row;
        match durability {
            Synchronous => self.durable = None,
            // Only a crash makes a difference.
            Asynchronous if config.limits.database_crashes == Limit::AtMost(0) => {}
            Asynchronous => self.durable = Some(self.durable.unwrap_or(before)),
        }
        if row.is_some_and(|row| !row.is_storable()) {
            self.violation = Some(Violation::Unstorable);
        }
    }

    /// The locked part of a statement, its commit, and its reply.
    fn commit(&mut self, statement: Statement, begun: Time, config: &Config) {
        let row = self.database.row;
        match statement {
            Statement::Provision { key, later, snapshot } => self.provision(key, later, snapshot, config),
            Statement::ClaimDue { replica, on_hold } => {
                let token = self.fresh_token(replica);
                let Some(row) = row.and_then(|row| row.claimed(token, on_hold, 0, config.rules())) else {
                    return;
                };
                self.store(Some(row), Asynchronous, config);
                self.lease(replica, row, token);
            }
            Statement::Take { replica, on_hold } => {
                let token = self.fresh_token(replica);
                let Some(row) = row.and_then(|row| row.taken(token, on_hold, 0, config.rules())) else {
                    return;
                };
                self.store(Some(row), Synchronous, config);
                self.lease(replica, row, token);
            }
            Statement::Confirm { token, on_hold, valid } => self.confirm(token, on_hold, valid, config),
            Statement::Release => {
                if let Some(row) = row.and_then(|row| row.released()) {
                    self.store(Some(row), Synchronous, config);
                }
            }
            Statement::RecoverDead => {
                // An attempt that started since, or a moment before the snapshot, is not the dead replica's.
                let started_until = if config.makes(Mistake::RecoveryBySnapshot) {
                    0
                } else if config.makes(Mistake::TakeOverTooEarly) || config.makes(Mistake::LockAlone) {
                    begun
                } else {
                    begun - (TAKE_OVER_AFTER - ABORT_AFTER)
                };
                let owned = row.filter(|row| row.token.is_some_and(|token| owner(token) == 0));
                if let Some(row) = owned.and_then(|row| row.recovered_early(started_until, 0, config.rules()))
                {
                    self.store(Some(Self::after_recovery(row, config)), Synchronous, config);
                }
            }
            Statement::Renew { sent } => {
                let durability =
                    if config.makes(Mistake::AsynchronousRenewal) { Asynchronous } else { Synchronous };
                let before = self.database;
                self.database.renewed = 0;
                match durability {
                    Synchronous => self.durable = None,
                    Asynchronous => self.durable = Some(self.durable.unwrap_or(before)),
                }
                if self.faulty.status != Status::Down {
                    self.faulty.locked = true;
                    self.send(Statement::Renewed { sent }, config.snapshots, config);
                }
            }
            // A reply that is lost in a partition leaves the older renewal.
            Statement::Renewed { sent } if self.faulty.connected => {
                let sent = if config.makes(Mistake::CountedFromReply) { 0 } else { sent };
                self.faulty.renewed = self.faulty.renewed.max(sent);
            }
            Statement::Renewed { .. } => {}
        }
    }

    fn provision(&mut self, key: Id, later: bool, snapshot: Option<Row>, config: &Config) {
        let before = self.database.row;
        let fire_at = if later { TICK } else { 0 };
        let given = Given { schedule: self.fresh_schedule(), key, fire_at, awaits: config.backend && later };
        let locked = match (before, snapshot) {
            (Some(row), Some(snapshot)) => Some(Row { delivered: snapshot.delivered, ..row }),
            _ => before,
        };
        let locked = locked
            .map(|row| Row { refused: row.refused && !config.makes(Mistake::DuplicateShowsSkew), ..row });
        let mut row = Row::provisioned(locked.as_ref(), given, 0, config.rules());
        let live = before.is_some_and(|row| row.key == key && row.state.is_live());
        if live && config.makes(Mistake::RememberedOnlyWhileFiring) {
            row.asked_again_at = row.asked_again_at.filter(|_| row.state == State::Firing);
        }
        let durability =
            if config.makes(Mistake::AsynchronousProvision) { Asynchronous } else { Synchronous };
        self.store(Some(row), durability, config);

        let delivered = before
            .filter(|row| !row.state.is_live() && row.state != State::Dead)
            .and_then(|row| row.delivered)
            .filter(|delivered| delivered.key == key);
        if let (Some(delivered), Some(next)) = (delivered, row.next_attempt_at)
            && next < delivered.at + config.rules().second_fire_delay
        {
            self.violation = Some(Violation::SecondFireTooEarly);
        }
        if row.shows_skew && (!self.observer.same_key_again || self.observer.refused) {
            self.violation = Some(Violation::FalseSkew);
        }
        let same_key_again = before.is_some_and(|before| before.key == key);
        let same_arm = self.observer.current == Some(row.schedule);
        let Observer { claimed, refused, .. } = if same_arm { self.observer } else { Observer::default() };
        let current = Some(row.schedule);
        self.observer = Observer { current, owed: true, delivered: false, same_key_again, claimed, refused };
        for task in &mut self.tasks {
            task.stale |= !matches!(task.phase, Phase::Leased | Phase::Confirming);
        }
    }

    /// The reply to a claim.
    fn lease(&mut self, replica: usize, row: Row, token: Id) {
        let Row { schedule, key, .. } = row;
        let arrives = replica != 0 || self.faulty.status != Status::Down && self.faulty.connected;
        if row.state == State::Leased && row.token == Some(token) && arrives {
            self.tasks.push(Task {
                token,
                schedule,
                key,
                attempt: 0,
                phase: Phase::Leased,
                started: 0,
                confirmed: 0,
                posted: 0,
                recorded: false,
                stale: false,
                unconfirmed: false,
            });
        }
    }

    fn confirmed(&self, token: Id, on_hold: bool, config: &Config) -> Option<Row> {
        self.database.row.and_then(|row| row.confirmed(token, on_hold, 0, config.rules()))
    }

    fn confirm(&mut self, token: Id, on_hold: bool, valid: bool, config: &Config) {
        let index = self.tasks.iter().position(|task| task.token == token);
        let arrives = owner(token) != 0 || self.faulty.connected;
        let confirmed = self.confirmed(token, on_hold, config);
        if let Some(row) = confirmed {
            let durability = if config.synchronous_confirmations { Synchronous } else { Asynchronous };
            self.store(Some(row), durability, config);
        }
        // A process that has died since sent no POST and sends none.
        let Some(index) = index else { return };
        let started = confirmed.is_some() || valid && config.makes(Mistake::ConfirmationBySnapshot);
        if started {
            self.start(index);
        }
        if !arrives {
            self.reply_lost(token);
            return;
        }
        let task = &mut self.tasks[index];
        if started {
            task.phase = Phase::Confirmed;
            task.attempt = confirmed.map_or(1, |row| row.attempts);
        } else if self.database.row.is_some_and(|row| row.token == Some(token) && row.state == State::Leased)
        {
            task.phase = Phase::Leased;
        } else {
            self.tasks.remove(index);
        }
    }

    fn reply_lost(&mut self, token: Id) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.token == token) {
            task.phase = Phase::Unsent;
        }
    }

    /// An attempt starts: its confirmation commits.
    fn start(&mut self, index: usize) {
        let task = &mut self.tasks[index];
        task.confirmed = 0;
        if Some(task.schedule) != self.observer.current {
            self.violation = Some(Violation::StartedAfterCancel);
        } else if self.observer.delivered {
            self.violation = Some(Violation::Repeated);
        } else if self
            .database
            .row
            .is_some_and(|row| row.next_attempt_at.unwrap_or(row.fire_at).max(row.fire_at) > 0)
        {
            self.violation = Some(Violation::Early);
        }
    }

    /// The agent answers.
    fn answer(&mut self, index: usize, answer: Answer, config: &Config) {
        let task = &mut self.tasks[index];
        task.phase = Phase::Ended(answer);
        let answers_latest = Some(task.schedule) == self.observer.current && !task.stale;
        // A process that has died may have claimed the fire: it has to be sent again after its claim.
        let after_a_claim = !self.observer.refused
            && self.observer.claimed.is_some_and(|at| -at < config.rules().claim_lifetime);
        let ends = match answer {
            Answer::Accepted | Answer::Gone | Answer::Dropped => true,
            Answer::Duplicate => !after_a_claim,
            Answer::Refused | Answer::Ambiguous => false,
        };
        if ends && answers_latest {
            self.observer.owed = false;
        }
        if matches!(answer, Answer::Accepted | Answer::Ambiguous) {
            self.observer.may_be_claimed(task);
        }
    }

    fn after_recovery(row: Row, config: &Config) -> Row {
        Row {
            asked_again_at: row.asked_again_at.filter(|_| !config.makes(Mistake::RecoveryForgetsProvision)),
            ..row
        }
    }

    fn finish(&mut self, index: usize, answer: Answer, config: &Config) {
        let task = self.tasks[index];
        if task.recorded {
            return;
        }
        self.tasks[index].recorded = true;
        let outcome = match answer {
            Answer::Accepted => Outcome::Delivered,
            Answer::Gone => Outcome::Gone,
            Answer::Dropped => Outcome::Dropped,
            Answer::Duplicate => Outcome::Duplicate,
            _ => {
                let ambiguous = answer == Answer::Ambiguous;
                let delay = if ambiguous { config.rules().ambiguous_floor } else { 0 };
                Outcome::Failed { retry_in: (task.attempt < config.attempts_max).then_some(delay), ambiguous }
            }
        };
        let ends_current = Some(task.schedule) == self.observer.current && !task.stale;
        if outcome == Outcome::Delivered && ends_current {
            self.observer.delivered = true;
        }
        let Some(before) = self.database.row else { return };
        let mut ended = Ended {
            token: task.token,
            schedule: task.schedule,
            key: task.key,
            started_at: task.confirmed,
            outcome,
        };
        if config.makes(Mistake::NoFence) && before.schedule == task.schedule {
            ended.token = before.token.unwrap_or(ended.token);
        }
        if Some(task.schedule) == self.observer.current {
            self.observer.refused = match answer {
                Answer::Duplicate => true,
                Answer::Gone | Answer::Dropped => false,
                _ => self.observer.refused,
            };
        }
        let claimed_at = before.claimed_at.filter(|_| !config.makes(Mistake::DuplicateIsFinal));
        let mut row = Row { claimed_at, ..before }.attempt_ended(&ended, 0, config.rules());
        if config.makes(Mistake::OutcomeOfSuperseded) && before.schedule != task.schedule {
            row = Row { state: State::Delivered, next_attempt_at: None, ..before };
            row.claim_expires_at = None;
            row.attempt_expires_at = None;
            row.parked = false;
            row.awaits = false;
        }
        if config.makes(Mistake::LateDeliveryIgnored) && before.token != Some(task.token) {
            row = Row { delivered: row.delivered, ..before };
        }
        let durability = if config.makes(Mistake::AsynchronousOutcome) { Asynchronous } else { Synchronous };
        self.store(Some(row), durability, config);

        let life = |row: &Row| (row.state, row.next_attempt_at, row.token, row.attempts, row.asked_again_at);
        let others = before.schedule != task.schedule
            || before.state == State::Firing
                && before.token != Some(task.token)
                && outcome != Outcome::Delivered;
        if others && life(&before) != life(&row) {
            self.violation = Some(Violation::Fence);
        }
    }

    // ── Properties of states ──

    fn check(&mut self, config: &Config) {
        if self.violation.is_some() {
            return;
        }
        let row = self.database.row;
        let pending = row
            .is_some_and(|row| row.state != State::Delivered && Some(row.schedule) == self.observer.current);
        if self.observer.owed && !pending || row.is_none() && self.observer.current.is_some() {
            self.violation = Some(Violation::Lost);
        }
        let under_way = |task: &&Task| {
            (!task.unconfirmed || config.strict_overlap)
                && match task.phase {
                    Phase::Posted => task.posted > -config.delays().deadline,
                    Phase::Confirmed => {
                        self.has_renewed(owner(task.token)) && Self::lease_outlasts_deadline(task, config)
                    }
                    _ => false,
                }
        };
        let overlaps = self.tasks.iter().enumerate().any(|(index, task)| {
            let twin = |other: &Task| other.schedule == task.schedule && under_way(&other);
            under_way(&task) && self.tasks[index + 1..].iter().any(twin)
        });
        if overlaps {
            self.violation = Some(Violation::Overlap);
        }
    }

    // ── Finiteness ──

    fn fresh_schedule(&self) -> Id {
        self.schedules().into_iter().max().map_or(0, |highest| highest + 1)
    }

    fn fresh_token(&self, replica: usize) -> Id {
        let used = self.tokens().into_iter().filter(|token| owner(*token) == replica).max();
        used.map_or(Id::from(replica == 1), |highest| highest + 2)
    }

    fn databases(&self) -> impl Iterator<Item = &Database> {
        std::iter::once(&self.database).chain(&self.durable)
    }

    fn schedules(&self) -> Vec<Id> {
        let mut all: Vec<Id> =
            self.tasks.iter().map(|task| task.schedule).chain(self.observer.current).collect();
        for row in self.databases().filter_map(|database| database.row) {
            all.push(row.schedule);
            all.extend(row.delivered.map(|delivered| delivered.schedule));
        }
        all
    }

    fn tokens(&self) -> Vec<Id> {
        let rows = self.databases().filter_map(|database| database.row);
        self.tasks.iter().map(|task| task.token).chain(rows.filter_map(|row| row.token)).collect()
    }

    /// Makes states equal that differ only in names, or in instants that no longer matter.
    fn normalise(&mut self, config: &Config) {
        let sorted = |mut ids: Vec<Id>| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let rank = |ids: &[Id], id: Id| {
            Id::try_from(ids.iter().position(|one| *one == id).unwrap_or(0)).unwrap_or(0)
        };
        for database in std::iter::once(&mut self.database).chain(&mut self.durable) {
            database.renewed = if config.heartbeats { database.renewed.max(-TAKE_OVER_AFTER) } else { 0 };
            let Some(row) = &mut database.row else { continue };
            row.fire_at = row.fire_at.max(0);
            row.shows_skew = false;
            row.next_attempt_at = row.next_attempt_at.map(|at| (at.max(0) + TICK - 1) / TICK * TICK);
            row.claim_expires_at = row.claim_expires_at.map(|at| at.max(0));
            row.attempt_expires_at = row.attempt_expires_at.map(|at| at.max(0));
            row.attempts = row.attempts.min(config.attempts_max);
            if !row.state.is_live() {
                row.attempts = 0;
                row.token = None;
            }
            if row.state != State::Firing {
                row.last_started_at = None;
            }
            row.claimed_at = row.claimed_at.filter(|_| config.newer_agent);
            // Attempts that start from now on answer it.
            let unanswered = |at: &Time| {
                let of_row = |task: &&Task| {
                    task.schedule == row.schedule && task.phase.has_started() && !task.recorded
                };
                self.tasks.iter().filter(of_row).any(|task| task.confirmed < *at)
            };
            row.asked_again_at = row.asked_again_at.filter(unanswered);
        }
        self.faulty.renewed = if config.heartbeats { self.faulty.renewed.max(-ABORT_AFTER) } else { 0 };
        for task in &mut self.tasks {
            task.started = match task.phase {
                Phase::Confirming | Phase::Confirmed => task.started.max(-config.rules().attempt_lease),
                _ => 0,
            };
            task.posted =
                if task.phase == Phase::Posted { task.posted.max(-config.delays().deadline) } else { 0 };
            if !task.phase.has_started() {
                task.stale = false;
                task.unconfirmed = false;
            }
        }
        let lifetime = config.rules().claim_lifetime;
        self.observer.claimed = self.observer.claimed.filter(|at| config.newer_agent && -*at < lifetime);
        let (schedules, tokens) = (sorted(self.schedules()), sorted(self.tokens()));
        let of =
            |replica| tokens.iter().copied().filter(|token| owner(*token) == replica).collect::<Vec<_>>();
        let by_owner = [of(0), of(1)];
        let token = |old: Id| 2 * rank(&by_owner[owner(old)], old) + (old & 1);
        let schedule = |old: Id| rank(&schedules, old);

        // Of the instants within a tick, and of those long ago, the order is kept.
        let mut past: Vec<Time> =
            self.tasks.iter().filter(|task| task.phase.has_started()).map(|task| task.confirmed).collect();
        for row in self.databases().filter_map(|database| database.row) {
            past.extend(row.last_started_at.into_iter().chain(row.asked_again_at).chain(row.claimed_at));
            past.extend(row.delivered.map(|delivered| delivered.at));
        }
        past.extend(self.observer.claimed);
        past.sort_unstable_by(|a, b| b.cmp(a));
        past.dedup();
        let claim = if config.newer_agent { lifetime + config.rules().attempt_lease } else { 0 };
        let long_ago = config.rules().second_fire_interval.max(claim);
        let ticks_ago = |at: Time| (-at / TICK).min(long_ago / TICK);
        let instant = |at: Time| {
            let later = past.iter().filter(|one| **one > at && ticks_ago(**one) == ticks_ago(at)).count();
            -ticks_ago(at) * TICK - 1 - Time::try_from(later).unwrap_or(0)
        };

        for database in std::iter::once(&mut self.database).chain(&mut self.durable) {
            let Some(row) = &mut database.row else { continue };
            row.schedule = schedule(row.schedule);
            row.token = row.token.map(token);
            row.last_started_at = row.last_started_at.map(instant);
            row.asked_again_at = row.asked_again_at.map(instant);
            row.claimed_at = row.claimed_at.map(instant);
            if let Some(delivered) = &mut row.delivered {
                delivered.schedule = schedule(delivered.schedule);
                delivered.second_fires = delivered.second_fires.min(config.rules().second_fires_max);
                delivered.at = instant(delivered.at);
            }
        }
        for task in &mut self.tasks {
            task.schedule = schedule(task.schedule);
            task.token = token(task.token);
            task.confirmed = if task.phase.has_started() { instant(task.confirmed) } else { 0 };
        }
        self.observer.current = self.observer.current.map(schedule);
        self.observer.claimed = self.observer.claimed.map(instant);
        for (_, statement) in &mut self.running {
            if let Statement::Confirm { token: of, .. } = statement {
                *of = token(*of);
            }
        }
        self.tasks.sort_unstable();
        if self.durable == Some(self.database) {
            self.durable = None;
        }
    }
}

impl Statement {
    const fn name(&self) -> &'static str {
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
    const fn sender(&self) -> Option<usize> {
        match self {
            Self::ClaimDue { replica, .. } | Self::Take { replica, .. } => Some(*replica),
            Self::Confirm { token, .. } => Some(owner(*token)),
            Self::Renew { .. } | Self::Renewed { .. } => Some(0),
            _ => None,
        }
    }
}
