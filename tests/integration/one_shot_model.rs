//! The SQL statements on a real Postgres, compared with the rules of `nas-cron-model`: random statements one by one, and
//! concurrent ones, whose result must be that of some order.
//!
//! A failure prints the shortest failing statements and the seed; `MODEL_SEED=<seed>` repeats it. `make model` runs longer.

use std::time::{Duration, Instant};

use chrono::DateTime;
use nas_cron::db::replicas::{self, Seen as Registered};
use nas_cron::db::{Db, dormant_jobs, expiry, holds, jobs, leases, oneshots, outages, outcomes, provisions};
use nas_cron::domain::FireOutcome;
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::{Attempt, Ended};
use nas_cron::domain::hold::HoldTarget;
use nas_cron::domain::job::JobKey;
use nas_cron::domain::lease::Lease;
use nas_cron::domain::one_shot::Arm;
use nas_cron_model::row::{
    self, Callbacks, Delivered, Given, GivenLimit, Id, Outcome, Row, Rules, State, Time,
};
use nas_cron_protocol::{CallbackUrl, DedupKey, FireAt, Given as Wanted, InstanceId, JobId, NotAfter};
use nas_cron_testing::database::database;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use sqlx::{Connection, Executor, PgConnection, Row as _};
use uuid::Uuid;

use crate::redrives::redrive_all;

const SECOND: Time = 1_000_000;
const RULES: Rules = Rules {
    fire_floor: SECOND,
    second_fire_delay: 60 * SECOND,
    second_fire_interval: 300 * SECOND,
    second_fires_max: 2,
    horizon: 2 * SECOND,
    claim_grace: 3 * SECOND,
    attempt_lease: 40 * SECOND,
    ambiguous_floor: 10 * SECOND,
    claim_lifetime: 300 * SECOND,
    duplicate_delay: 330 * SECOND,
};
const ARM_RULES: ArmRules = ArmRules {
    fire_floor: duration(RULES.fire_floor),
    second_fire_delay: duration(RULES.second_fire_delay),
    second_fire_interval: duration(RULES.second_fire_interval),
    second_fires_max: RULES.second_fires_max as u32,
    claim_lifetime: duration(RULES.claim_lifetime),
    duplicate_delay: duration(RULES.duplicate_delay),
};
const GIVE_BACK_DELAY: Time = SECOND;
/// The instance of the model.
fn held() -> HoldTarget {
    HoldTarget::Instance(InstanceId::new("inst-1").unwrap())
}

/// Maximum clients at once.
const AT_ONCE: usize = 3;

const fn duration(time: Time) -> Duration {
    Duration::from_micros(time.unsigned_abs())
}

/// A statement. `which` selects one of the leases or attempts so far.
#[derive(Clone, Copy, Debug)]
enum Command {
    Provision {
        key: Id,
        due_in: Time,
        /// Its `not_after`, relative to the request.
        limit: GivenLimit,
        callback: Id,
    },
    /// The agent has moved.
    Move {
        to: Id,
    },
    Cancel,
    ClaimDue,
    Confirm {
        which: usize,
    },
    GiveBack {
        which: usize,
    },
    FinishFires {
        which: usize,
        outcome: Outcome,
    },
    RecoverExpired,
    Expire,
    /// Declares the replica of the latest attempts dead.
    DeclareDead,
    Hold,
    Release,
    Redrive,
    Nudge,
    /// Time passes: every stored instant becomes older.
    Age {
        seconds: Time,
    },
    /// Time passes until the one-shot is due.
    AgeUntilDue,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Delivered),
        1 => Just(Outcome::Gone),
        1 => Just(Outcome::Dropped),
        3 => Just(Outcome::Duplicate),
        2 => Just(Outcome::Failed { retry_in: Some(5 * SECOND), ambiguous: false }),
        2 => Just(Outcome::Failed { retry_in: Some(10 * SECOND), ambiguous: true }),
        1 => any::<bool>().prop_map(|ambiguous| Outcome::Failed { retry_in: None, ambiguous }),
    ]
}

/// Mostly the latest one.
fn which() -> impl Strategy<Value = usize> {
    prop_oneof![3 => Just(0), 1 => 0..4_usize]
}

fn provision() -> impl Strategy<Value = Command> {
    let key = prop_oneof![3 => Just(0), 1 => Just(1)];
    let due_in = prop_oneof![6 => Just(-SECOND), 1 => Just(3600 * SECOND)];
    // Passed already, before the next retry, and later than everything else.
    let limit = prop_oneof![Just(-SECOND / 2), Just(4 * SECOND), Just(7200 * SECOND)];
    let given = prop_oneof![6 => Just(GivenLimit::Keep), 1 => Just(GivenLimit::Clear), 3 => limit.prop_map(GivenLimit::At)];
    (key, due_in, given, callback()).prop_map(|(key, due_in, limit, callback)| Command::Provision {
        key,
        due_in,
        limit,
        callback,
    })
}

fn callback() -> impl Strategy<Value = Id> {
    prop_oneof![2 => Just(0), 1 => Just(1)]
}

/// Statements whose order with others matters.
fn concurrent() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => provision(),
        1 => Just(Command::Cancel),
        1 => callback().prop_map(|to| Command::Move { to }),
        2 => Just(Command::ClaimDue),
        3 => which().prop_map(|which| Command::Confirm { which }),
        1 => which().prop_map(|which| Command::GiveBack { which }),
        4 => (which(), outcome()).prop_map(|(which, outcome)| Command::FinishFires { which, outcome }),
        1 => Just(Command::RecoverExpired),
        1 => Just(Command::Expire),
        1 => Just(Command::DeclareDead),
        1 => Just(Command::Redrive),
        1 => Just(Command::Nudge),
    ]
}

/// Statements in a sequence that reaches every state.
fn commands(groups: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Command>> {
    let start = || vec![Command::AgeUntilDue, Command::ClaimDue, Command::Confirm { which: 0 }];
    let finish = |which, outcome| Command::FinishFires { which, outcome };
    // The lease ends, another claim or attempt follows, and then the outcome of the first comes.
    let late = (
        outcome(),
        outcome(),
        proptest::option::of(provision()),
        proptest::option::of(provision()),
        1..=3_usize,
    )
        .prop_map(move |(first, second, before, between, started)| {
            let next = start().into_iter().take(started).collect();
            let steps = [start(), before.into_iter().collect(), vec![Command::RecoverExpired], next];
            let which = usize::from(started == 3);
            let ends = [between.into_iter().collect(), vec![finish(which, first), finish(0, second)]];
            [steps.concat(), ends.concat()].concat()
        });
    // The outcome of an attempt comes after a cancel or a supersede.
    let superseded = (any::<bool>(), outcome(), provision(), any::<bool>()).prop_map(
        move |(cancels, outcome, provision, starts)| {
            let cancel = cancels.then_some(Command::Cancel);
            let next = if starts { start() } else { Vec::new() };
            let steps = [start(), cancel.into_iter().chain([provision]).collect(), next];
            [steps.concat(), vec![finish(usize::from(starts), outcome)]].concat()
        },
    );
    // The agent moves, and no longer has the job at its new callback, nor perhaps at the old one. It may come back.
    let moved = (any::<bool>(), 0..=2_usize, any::<bool>(), outcome()).prop_map(
        move |(before, gone, returns, last)| {
            let moves = vec![Command::Move { to: 1 }];
            let steps = if before { [moves, start()] } else { [start(), moves] };
            let back = vec![Command::Move { to: 0 }; usize::from(returns)];
            let asked = [vec![finish(0, Outcome::Gone)], back, start()].concat().repeat(gone);
            [steps.concat(), asked, vec![finish(0, last)]].concat()
        },
    );
    let group = prop_oneof![
        2 => moved,
        2 => late,
        2 => superseded,
        4 => concurrent().prop_map(|command| vec![command]),
        4 => Just(start()),
        4 => outcome().prop_map(move |outcome| vec![finish(0, outcome)]),
        3 => provision().prop_map(|command| vec![command]),
        2 => outcome().prop_map(move |outcome| [start(), vec![finish(0, outcome)]].concat()),
        1 => Just(vec![Command::AgeUntilDue, Command::ClaimDue]),
        1 => Just([start(), vec![Command::DeclareDead, Command::RecoverExpired]].concat()),
        1 => Just(vec![Command::Hold]),
        1 => Just(vec![Command::Release]),
        1 => prop_oneof![Just(2), Just(61), Just(301)].prop_map(|seconds| vec![Command::Age { seconds }]),
        1 => Just(vec![Command::Age { seconds: 5 }, Command::Expire]),
    ];
    proptest::collection::vec(group, groups).prop_map(|groups| groups.concat())
}

/// The knowledge of a client about an attempt.
#[derive(Clone, Debug)]
struct Try {
    lease: Lease,
    attempt: Option<Attempt>,
    /// Its outcome is recorded. A repetition must not count.
    recorded: bool,
    /// It was never sent and has no outcome.
    given_back: bool,
}

/// One job in a database, and the names of its UUIDs.
struct World {
    db: Db,
    /// Further replicas: each client has one of its own, since a replica puts provisions of one job one after the other.
    replicas: Vec<Db>,
    url: String,
    /// For statements that are not the service's.
    connection: PgConnection,
    instance: InstanceId,
    job: JobId,
    ids: Vec<Uuid>,
    tries: Vec<Try>,
    on_hold: bool,
    /// Callback of the agent's latest move.
    callback: Id,
    /// The replica that makes the attempts. One that was declared dead is replaced.
    replica_id: i32,
}

/// Result of a statement, as far as its client sees it.
#[derive(Clone, Debug)]
enum Reply {
    Done,
    Claimed { leases: Vec<Lease>, parked: usize },
    Confirmed(Option<Box<Attempt>>),
    Recovered(bool),
    Declared(bool),
    Recorded(bool),
}

/// The `not_after` of a request at `now`.
fn limit_of(limit: GivenLimit, now: Time) -> Wanted<NotAfter> {
    match limit {
        GivenLimit::Keep => Wanted::Keep,
        GivenLimit::Clear => Wanted::Clear,
        GivenLimit::At(limit) => {
            Wanted::Set(NotAfter::stored(DateTime::from_timestamp_micros(now + limit).unwrap()))
        }
    }
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        let mut world = Self {
            replicas: (0..AT_ONCE).map(|_| db.apart(2).unwrap()).collect(),
            db,
            connection: PgConnection::connect(&url).await.unwrap(),
            url,
            instance: InstanceId::new("inst-1").unwrap(),
            job: JobId::new("job").unwrap(),
            ids: Vec::new(),
            tries: Vec::new(),
            on_hold: false,
            callback: 0,
            replica_id: 0,
        };
        world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
        world.reset().await;
        world
    }

    async fn sql(&mut self, statements: &str) {
        self.connection.execute(sqlx::AssertSqlSafe(statements.to_owned())).await.expect(statements);
    }

    async fn reset(&mut self) {
        self.sql(
            "DELETE FROM one_shots; DELETE FROM superseded_attempts; DELETE FROM fires; DELETE FROM holds",
        )
        .await;
        self.ids.clear();
        self.tries.clear();
        self.on_hold = false;
        self.callback = 0;
        self.register().await;
    }

    /// Registers another replica.
    async fn register(&mut self) {
        let insert = "INSERT INTO replicas (host_name, version, session_pid) VALUES ('host', '0.0.0', 0)
                      RETURNING replica_id";
        self.replica_id = sqlx::query_scalar(insert).fetch_one(&mut self.connection).await.unwrap();
    }

    fn id(&mut self, uuid: Uuid) -> Id {
        let index = self.ids.iter().position(|one| *one == uuid).unwrap_or_else(|| {
            self.ids.push(uuid);
            self.ids.len() - 1
        });
        Id::try_from(index).unwrap()
    }

    fn fresh_id(&self) -> Id {
        Id::try_from(self.ids.len()).unwrap()
    }

    /// Returns the row, and the database's time.
    async fn look(&mut self) -> (Option<Row>, Time) {
        let found = sqlx::query("SELECT *, state::text AS state_text, parked IS NOT NULL AS is_parked, awaits IS NOT NULL AS is_awaiting FROM one_shots")
            .fetch_optional(&mut self.connection)
            .await
            .unwrap();
        let now: DateTime<chrono::Utc> =
            sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut self.connection).await.unwrap();
        let Some(found) = found else { return (None, now.timestamp_micros()) };
        let time = |column: &str| {
            found.get::<Option<DateTime<chrono::Utc>>, _>(column).map(|at| at.timestamp_micros())
        };
        let states = [
            State::Armed,
            State::Leased,
            State::Firing,
            State::Waiting,
            State::Delivered,
            State::Stuck,
            State::Dead,
        ];
        let state = states.into_iter().find(|state| state.as_str() == found.get::<&str, _>("state_text"));
        let key = |column: &str| found.get::<Option<&str>, _>(column).map(|key| key.parse().unwrap());
        let schedule = self.id(found.get("schedule_id"));
        let delivered = found.get::<Option<Uuid>, _>("delivered_schedule_id").map(|uuid| Delivered {
            key: key("delivered_key").unwrap(),
            schedule: self.id(uuid),
            at: time("delivered_at").unwrap(),
            second_fires: u8::try_from(found.get::<i16, _>("second_fires")).unwrap(),
        });
        let token = found.get::<Option<Uuid>, _>("lease_token").map(|uuid| self.id(uuid));
        let callbacks = Callbacks {
            next: callback_of(found.get("callback_url")),
            own: found.get::<Option<&str>, _>("own_callback_url").map(callback_of),
            follows_gone: found.get("follows_gone"),
        };
        let row = Row {
            schedule,
            key: key("dedup_key").unwrap(),
            fire_at: time("fire_at").unwrap(),
            state: state.expect("a known state"),
            next_attempt_at: time("next_attempt_at"),
            parked: found.get("is_parked"),
            awaits: found.get("is_awaiting"),
            token,
            claim_expires_at: time("claim_expires_at"),
            attempt_expires_at: time("attempt_expires_at"),
            attempts: u8::try_from(found.get::<i32, _>("attempts")).unwrap(),
            last_started_at: time("last_started_at"),
            asked_again_at: time("asked_again_at"),
            shows_skew: found.get("shows_skew"),
            delivered,
            not_after: time("not_after"),
            expired: found.get("expired"),
            callbacks,
            claimed_at: time("claimed_at"),
            refused: found.get("refused"),
        };
        (Some(row), now.timestamp_micros())
    }

    /// The try that a command means, if there is one for which it makes sense.
    fn chosen(&self, command: Command) -> Option<usize> {
        let suits = |one: &&Try| match command {
            Command::Confirm { .. } => one.attempt.is_none() && !one.given_back,
            Command::FinishFires { .. } => one.attempt.is_some() && !one.given_back,
            _ => !one.recorded,
        };
        match command {
            Command::Confirm { which } | Command::GiveBack { which } | Command::FinishFires { which, .. } => {
                let suitable: Vec<_> =
                    (0..self.tries.len()).rev().filter(|index| suits(&&self.tries[*index])).collect();
                (!suitable.is_empty()).then(|| suitable[which % suitable.len()])
            }
            _ => None,
        }
    }

    async fn nudge(&self, db: &Db) {
        let key = JobKey { instance_id: self.instance.to_string(), job_id: self.job.to_string() };
        if let Some(found) = jobs::by_keys(db, &[key], None).await.unwrap().first() {
            let seen = found.last_started_at;
            dormant_jobs::nudge(db, &self.instance, &self.job, found.schedule_id, seen).await.unwrap();
        }
    }

    /// Executes a statement.
    async fn execute(&self, db: &Db, command: Command, chosen: Option<usize>, now: Time) -> Reply {
        let lease = |index: usize| std::slice::from_ref(&self.tries[index].lease);
        match (command, chosen) {
            (Command::Provision { key, due_in, limit, callback }, _) => {
                let at = DateTime::from_timestamp_micros(now + due_in).unwrap();
                let arm = Arm {
                    instance_id: self.instance.clone(),
                    job_id: self.job.clone(),
                    dedup_key: DedupKey::new(key.to_string()).unwrap(),
                    fire_at: FireAt::stored(at.to_rfc3339(), at),
                    callback_url: url_of(callback),
                    not_after: limit_of(limit, now),
                    seen: None,
                    trace: None,
                };
                provisions::provision(db, &arm, &ARM_RULES).await.unwrap().expect("the instance exists");
            }
            (Command::Move { to }, _) => {
                let previous = url_of(self.callback);
                oneshots::move_callback(db, &self.instance, &self.job, Some(previous.as_str()), &url_of(to))
                    .await
                    .unwrap();
            }
            (Command::Cancel, _) => {
                oneshots::cancel(db, &self.instance, &self.job).await.unwrap();
            }
            (Command::ClaimDue, _) => {
                let (horizon, grace) = (duration(RULES.horizon), duration(RULES.claim_grace));
                let claimed = leases::claim_due(db, horizon, grace, 10, &[]).await.unwrap();
                return Reply::Claimed { leases: claimed.leases, parked: claimed.postponed };
            }
            (Command::Confirm { .. }, Some(index)) => {
                let lease_length = duration(RULES.attempt_lease);
                let confirmed =
                    leases::confirm(db, lease(index), lease_length, self.replica_id).await.unwrap();
                return Reply::Confirmed(confirmed.attempts.into_iter().next().map(Box::new));
            }
            (Command::GiveBack { .. }, Some(index)) => {
                leases::give_back(db, lease(index), duration(GIVE_BACK_DELAY)).await.unwrap();
            }
            (Command::FinishFires { outcome, .. }, Some(index)) => {
                let attempt = self.tries[index].attempt.as_ref().expect("chosen for it").started();
                let (outcome, retry_in, ambiguous) = match outcome {
                    Outcome::Delivered => (FireOutcome::Delivered, None, false),
                    Outcome::Gone => (FireOutcome::Gone, None, false),
                    Outcome::Dropped => (FireOutcome::Dropped, None, false),
                    Outcome::Duplicate => (FireOutcome::Duplicate, None, false),
                    Outcome::Failed { retry_in, ambiguous } => {
                        (FireOutcome::Failed, retry_in.map(duration), ambiguous)
                    }
                };
                let ended = Ended {
                    attempt,
                    outcome,
                    http_status: None,
                    error: None,
                    answer: None,
                    ambiguous,
                    retry_in,
                    retry_after: None,
                };
                let recorded = outcomes::finish_fires(db, &[ended], &ARM_RULES).await.unwrap();
                return Reply::Recorded(!recorded.is_empty());
            }
            (Command::RecoverExpired, _) => {
                let floor = duration(RULES.ambiguous_floor);
                let recovered = leases::recover_expired(db, floor, 10).await.unwrap();
                return Reply::Recovered(recovered.one_shots > 0);
            }
            (Command::Expire, _) => {
                return Reply::Recovered(!expiry::expire(db, 10).await.unwrap().is_empty());
            }
            (Command::DeclareDead, _) => {
                let seen = Registered { replica_id: self.replica_id, renewals: 0 };
                let declared = replicas::declare_dead(db, seen, true).await.unwrap();
                return Reply::Declared(declared.is_some());
            }
            (Command::Hold, _) => {
                holds::hold(db, &held(), None).await.unwrap();
            }
            (Command::Release, _) => {
                holds::release(db, &held()).await.unwrap();
                outages::tidy_parked(db, Duration::from_hours(72), 10).await.unwrap();
            }
            (Command::Redrive, _) => {
                let later = DateTime::from_timestamp_micros(now + 3600 * SECOND).unwrap();
                redrive_all(db, later).await;
            }
            (Command::Nudge, _) => self.nudge(db).await,
            (
                Command::Age { .. }
                | Command::AgeUntilDue
                | Command::Confirm { .. }
                | Command::GiveBack { .. }
                | Command::FinishFires { .. },
                _,
            ) => {}
        }
        Reply::Done
    }

    /// Makes everything older.
    async fn age(&mut self, microseconds: Time) {
        let columns = [
            "fire_at",
            "next_attempt_at",
            "claim_expires_at",
            "attempt_expires_at",
            "last_started_at",
            "asked_again_at",
            "delivered_at",
            "claimed_at",
            "dead_since",
            "not_after",
            "created_at",
            "updated_at",
        ];
        let set: Vec<_> = columns
            .iter()
            .map(|column| format!("{column} = {column} - interval '{microseconds} us'"))
            .collect();
        self.sql(&format!(
            "UPDATE one_shots SET {};
             UPDATE fires SET started_at = started_at - interval '{microseconds} us';
             UPDATE superseded_attempts SET started_at = started_at - interval '{microseconds} us',
                                            expires_at = expires_at - interval '{microseconds} us'",
            set.join(", ")
        ))
        .await;
        for attempt in self.tries.iter_mut().filter_map(|one| one.attempt.as_mut()) {
            attempt.started_at -= chrono::TimeDelta::microseconds(microseconds);
        }
    }

    /// Ends every lease that may have ended: none ends before its one-shot is due.
    async fn expire_leases(&mut self) {
        self.sql(
            "UPDATE one_shots SET claim_expires_at = now() - interval '1 ms',
                 attempt_expires_at = CASE WHEN state = 'firing' THEN now() - interval '1 ms' END
             WHERE claim_expires_at IS NOT NULL AND next_attempt_at <= now()",
        )
        .await;
    }

    /// Remembers what a client learned.
    fn learn(&mut self, command: Command, chosen: Option<usize>, reply: &Reply) {
        match (command, chosen, reply) {
            (Command::ClaimDue, _, Reply::Claimed { leases, .. }) => {
                self.tries.extend(leases.iter().map(|lease| Try {
                    lease: lease.clone(),
                    attempt: None,
                    recorded: false,
                    given_back: false,
                }));
            }
            (Command::Confirm { .. }, Some(index), Reply::Confirmed(attempt)) => {
                self.tries[index].attempt = attempt.as_deref().cloned();
            }
            (Command::GiveBack { .. }, Some(index), _) => self.tries[index].given_back = true,
            (Command::FinishFires { .. }, Some(index), _) => self.tries[index].recorded = true,
            (Command::Hold, ..) => self.on_hold = true,
            (Command::Release, ..) => self.on_hold = false,
            (Command::Move { to }, ..) => self.callback = to,
            _ => {}
        }
    }
}

/// The rules' side of a statement.
#[derive(Clone, Copy, Debug)]
struct Expected {
    command: Command,
    /// Name of a new arm or claim.
    fresh: Id,
    token: Option<Id>,
    attempt: Option<(Id, Id, Id, Time)>,
    /// Its outcome was recorded before.
    recorded: bool,
    on_hold: bool,
    /// Callback before a move.
    previous: Id,
    /// Time by which `fire_at` was computed.
    sent: Time,
}

impl Expected {
    fn new(world: &mut World, command: Command, chosen: Option<usize>, fresh: Id, sent: Time) -> Self {
        let one = chosen.map(|index| world.tries[index].clone());
        let attempt = one.as_ref().and_then(|one| one.attempt.as_ref()).map(|attempt| {
            let key = attempt.dedup_key.as_str().parse().unwrap();
            let callback = callback_of(attempt.callback_url.as_str());
            (callback, world.id(attempt.schedule_id.0), key, attempt.started_at.timestamp_micros())
        });
        Self {
            command,
            fresh,
            token: one.as_ref().map(|one| world.id(one.lease.lease_token)),
            attempt,
            recorded: one.is_some_and(|one| one.recorded),
            on_hold: world.on_hold,
            previous: world.callback,
            sent,
        }
    }

    /// Returns the row after the statement, executed at `now`. `late` selects the latest of random instants.
    fn apply(&self, row: Option<Row>, now: Time, late: bool) -> Option<Row> {
        let Some(before) = row else {
            let Command::Provision { key, due_in, limit, callback } = self.command else { return None };
            return Some(Row::provisioned_at(callback, None, self.given(key, due_in, limit), now, &RULES));
        };
        let after = match (self.command, self.token) {
            (Command::Provision { key, due_in, limit, callback }, _) => Some(Row::provisioned_at(
                callback,
                Some(&before),
                self.given(key, due_in, limit),
                now,
                &RULES,
            )),
            (Command::Move { to }, _) => before.moved(self.previous, to),
            (Command::Cancel, _) => return None,
            (Command::ClaimDue, _) => before.claimed(self.fresh, self.on_hold, now, &RULES),
            (Command::Confirm { .. }, Some(token)) => before.confirmed(token, self.on_hold, now, &RULES),
            (Command::GiveBack { .. }, Some(token)) => {
                before.given_back(token, now + GIVE_BACK_DELAY * if late { 2 } else { 1 })
            }
            (Command::FinishFires { outcome, .. }, Some(token)) if !self.recorded => {
                let (callback, schedule, key, started_at) = self.attempt.expect("it has started");
                let ended = row::Ended { token, schedule, key, started_at, outcome };
                Some(before.attempt_ended_at(callback, &ended, now, &RULES))
            }
            (Command::RecoverExpired, _) => before.recovered(now, &RULES),
            (Command::Expire, _) => before.expired(now),
            (Command::DeclareDead, _) => before.declared_dead(now),
            (Command::Release, _) => before.released(),
            (Command::Redrive, _) => before.redriven(now, &RULES),
            (Command::Nudge, _) => before.nudged(now, &RULES),
            _ => None,
        };
        Some(after.unwrap_or(before))
    }

    fn given(&self, key: Id, due_in: Time, limit: GivenLimit) -> Given {
        let not_after = match limit {
            GivenLimit::At(limit) => GivenLimit::At(self.sent + limit),
            other => other,
        };
        Given { schedule: self.fresh, key, fire_at: self.sent + due_in, awaits: false, not_after }
    }
}

fn url_of(callback: Id) -> CallbackUrl {
    CallbackUrl::parse(&format!("https://agent.example/{callback}")).unwrap()
}

fn callback_of(url: &str) -> Id {
    url.rsplit('/').next().and_then(|callback| callback.parse().ok()).expect("a callback of `url_of`")
}

/// Returns the row without its instants, and these.
fn split(row: Row) -> (Row, [Option<Time>; 7]) {
    let mut rest = row;
    let times = [
        rest.next_attempt_at.take(),
        rest.claim_expires_at.take(),
        rest.attempt_expires_at.take(),
        rest.last_started_at.take(),
        rest.asked_again_at.take(),
        rest.delivered.as_mut().map(|delivered| std::mem::take(&mut delivered.at)),
        rest.claimed_at.take(),
    ];
    (rest, times)
}

/// Returns true if the row is between those of the earliest and the latest execution.
fn is_between(row: Option<Row>, earliest: Option<Row>, latest: Option<Row>) -> bool {
    let (Some(row), Some(earliest), Some(latest)) = (row, earliest, latest) else {
        return row.is_none() && (earliest.is_none() || latest.is_none());
    };
    let ((row, times), (early, from), (late, to)) = (split(row), split(earliest), split(latest));
    let order = |[_, _, _, started, asked_again, delivered, _]: [Option<Time>; 7]| {
        (
            asked_again.zip(started).map(|(at, started)| at > started),
            delivered.zip(started).map(|(at, started)| at > started),
        )
    };
    (row == early || row == late)
        && order(times) == order(from)
        && times.iter().zip(from).zip(to).all(|((at, from), to)| match (at, from, to) {
            (None, None, None) => true,
            // Postgres rounds intervals to microseconds.
            (Some(at), Some(from), Some(to)) => (from - 2..=to + 2).contains(at),
            _ => false,
        })
}

/// Executes the statements one by one, and compares the row after each with the rules'.
async fn sequentially(world: &mut World, commands: &[Command]) -> Result<(), TestCaseError> {
    world.reset().await;
    for (step, command) in commands.iter().enumerate() {
        step_of(world, *command)
            .await
            .map_err(|error| TestCaseError::fail(format!("statement {step}: {error}")))?;
    }
    Ok(())
}

async fn step_of(world: &mut World, command: Command) -> Result<(), String> {
    match command {
        Command::Age { seconds } => {
            world.age(seconds * SECOND).await;
            return Ok(());
        }
        Command::AgeUntilDue => {
            let (row, now) = world.look().await;
            // A lease would end as well.
            let idle = row.filter(|row| row.claim_expires_at.is_none());
            if let Some(due) = idle.and_then(|row| row.next_attempt_at).filter(|due| *due > now) {
                world.age(due - now).await;
            }
            return Ok(());
        }
        Command::RecoverExpired => world.expire_leases().await,
        _ => {}
    }
    let chosen = world.chosen(command);
    let (before, sent) = world.look().await;
    let fresh = world.fresh_id();
    let expected = Expected::new(world, command, chosen, fresh, sent);
    let reply = world.execute(&world.db, command, chosen, sent).await;
    let (after, done) = world.look().await;
    world.learn(command, chosen, &reply);
    if matches!(reply, Reply::Declared(_)) {
        world.register().await;
    }
    let (earliest, latest) = (expected.apply(before, sent, false), expected.apply(before, done, true));
    let described = format!(
        "{command:?} at {sent}..{done}\nbefore   {before:?}\nafter    {after:?}\nexpected {earliest:?}\n     ..  {latest:?}"
    );
    if !is_between(after, earliest, latest) {
        return Err(described);
    }
    if after.is_some_and(|row| !row.is_storable()) {
        return Err(format!("columns do not fit together: {described}"));
    }
    let firing = after.is_some_and(|row| row.state == State::Firing && row.last_started_at >= Some(sent));
    match reply {
        Reply::Confirmed(attempt) if attempt.is_some() != firing => {
            Err(format!("{attempt:?} is confirmed: {described}"))
        }
        Reply::Confirmed(Some(attempt))
            if after.is_some_and(|row| row.callbacks.follows_gone != attempt.follows_gone) =>
        {
            Err(format!("{attempt:?} is confirmed: {described}"))
        }
        Reply::Recorded(recorded) if recorded && expected.recorded => {
            Err(format!("recorded twice: {described}"))
        }
        _ => Ok(()),
    }
}

/// Executes some statements one by one and then those of the clients at once. The row must be that of some order.
async fn concurrently(
    world: &mut World,
    first: &[Command],
    clients: &[Vec<Command>],
    blocked: bool,
) -> Result<(), TestCaseError> {
    sequentially(world, first).await?;
    if clients.iter().flatten().any(|command| matches!(command, Command::RecoverExpired)) {
        world.expire_leases().await;
    }
    let (before, sent) = world.look().await;
    let base = world.fresh_id();
    // An attempt belongs to one client.
    let mut taken = Vec::new();
    let mut expected: Vec<Vec<Expected>> = Vec::new();
    let mut chosen: Vec<Vec<Option<usize>>> = Vec::new();
    for (client, commands) in clients.iter().enumerate() {
        let (mut rules, mut choices) = (Vec::new(), Vec::new());
        for (index, command) in commands.iter().enumerate() {
            let choice = world.chosen(*command).filter(|one| !taken.contains(one));
            taken.extend(choice);
            let fresh = base + Id::try_from(10 * client + index).unwrap();
            rules.push(Expected::new(world, *command, choice, fresh, sent));
            choices.push(choice);
        }
        expected.push(rules);
        chosen.push(choices);
    }
    // A session that holds the row makes the others wait for it, so that their snapshots are old when they go on.
    let mut holder = PgConnection::connect(&world.url).await.unwrap();
    if blocked {
        holder.execute("BEGIN; SELECT FROM one_shots FOR UPDATE").await.unwrap();
    }
    let unblock = async {
        if blocked {
            tokio::time::sleep(Duration::from_millis(15)).await;
            holder.execute("ROLLBACK").await.unwrap();
        }
    };
    let shared = &*world;
    let runs =
        clients.iter().zip(&chosen).zip(&shared.replicas).map(|((commands, choices), db)| async move {
            let mut replies = Vec::new();
            for (command, choice) in commands.iter().zip(choices) {
                replies.push(shared.execute(db, *command, *choice, sent).await);
            }
            replies
        });
    let (replies, ()) = tokio::join!(futures::future::join_all(runs), unblock);
    let (after, done) = world.look().await;

    let seen: Vec<Vec<Seen>> = replies.iter().map(|replies| replies.iter().map(Seen::of).collect()).collect();
    let mut orders = Vec::new();
    interleave(&expected, &seen, &mut vec![0; clients.len()], &mut Vec::new(), &mut orders);
    let after_all = renamed(after, base);
    let is_possible = orders.iter().any(|order| {
        let (earliest, latest) = (in_order(before, order, sent, false), in_order(before, order, done, true));
        let (Ok(earliest), Ok(latest)) = (earliest, latest) else { return false };
        is_between(after_all, renamed(earliest, base), renamed(latest, base))
    });
    if is_possible {
        return Ok(());
    }
    Err(TestCaseError::fail(format!(
        "no order leads to the result\nbefore {before:?}\nafter  {after:?}\nreplies {replies:?}\n\
         from {sent} to {done}, names from {base}"
    )))
}

/// Effect of a statement, by its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Effect,
    NoEffect,
    /// It may have skipped a locked row.
    Skipped,
    Unknown,
}

impl Seen {
    fn of(reply: &Reply) -> Self {
        match reply {
            Reply::Claimed { leases, parked } if leases.is_empty() && *parked == 0 => Self::Skipped,
            // The replica was declared dead before, and its attempts since are another's.
            Reply::Recovered(false) | Reply::Declared(false) => Self::Skipped,
            Reply::Confirmed(None) => Self::NoEffect,
            Reply::Claimed { .. } | Reply::Recovered(true) | Reply::Confirmed(Some(_)) => Self::Effect,
            Reply::Done | Reply::Declared(true) | Reply::Recorded(_) => Self::Unknown,
        }
    }
}

/// The replies contradict the order.
struct Contradiction;

/// Returns the row after the statements in this order.
fn in_order(
    before: Option<Row>,
    order: &[(Expected, Seen)],
    from: Time,
    late: bool,
) -> Result<Option<Row>, Contradiction> {
    let (mut row, mut now) = (before, from);
    for (one, seen) in order {
        // Later than everything before it.
        now += 1;
        let after = one.apply(row, now, late);
        match seen {
            Seen::Effect if after == row => return Err(Contradiction),
            Seen::NoEffect if after != row => return Err(Contradiction),
            Seen::Skipped => {}
            _ => row = after,
        }
    }
    Ok(row)
}

/// Collects every order of the clients' statements.
fn interleave(
    clients: &[Vec<Expected>],
    seen: &[Vec<Seen>],
    next: &mut Vec<usize>,
    order: &mut Vec<(Expected, Seen)>,
    orders: &mut Vec<Vec<(Expected, Seen)>>,
) {
    let mut is_complete = true;
    for client in 0..clients.len() {
        let index = next[client];
        if index == clients[client].len() {
            continue;
        }
        is_complete = false;
        next[client] += 1;
        order.push((clients[client][index], seen[client][index]));
        interleave(clients, seen, next, order, orders);
        order.pop();
        next[client] -= 1;
    }
    if is_complete {
        orders.push(order.clone());
    }
}

/// Names new arms and claims by their order in the row.
fn renamed(row: Option<Row>, base: Id) -> Option<Row> {
    let mut row = row?;
    let mut names = Vec::new();
    let mut rename = |id: &mut Id| {
        if *id >= base {
            let index = names.iter().position(|one| one == id).unwrap_or_else(|| {
                names.push(*id);
                names.len() - 1
            });
            *id = base + Id::try_from(index).unwrap();
        }
    };
    rename(&mut row.schedule);
    if let Some(delivered) = &mut row.delivered {
        rename(&mut delivered.schedule);
    }
    if let Some(token) = &mut row.token {
        rename(token);
    }
    Some(row)
}

/// Runs random cases for a while.
fn explore<S: Strategy>(
    length: Duration,
    strategy: &S,
    test: &impl AsyncFn(&mut World, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = std::cell::RefCell::new(runtime.block_on(World::new()));
    let mut seed = std::env::var("MODEL_SEED")
        .map_or_else(|_| rand::random(), |seed| seed.parse::<u64>().expect("a number"));
    let (until, mut cases) = (Instant::now() + length, 0);
    while Instant::now() < until {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let config = Config { cases: 1, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let result = runner.run(strategy, |value| runtime.block_on(test(&mut world.borrow_mut(), value)));
        assert!(result.is_ok(), "MODEL_SEED={seed}: {}", result.unwrap_err());
        cases += 1;
        seed = seed.wrapping_add(1);
    }
    println!("{cases} cases");
}

fn each_statement_is_its_rule(length: Duration) {
    explore(length, &commands(1..25), &async |world, commands| sequentially(world, &commands).await);
}

fn concurrent_statements_have_an_order(length: Duration) {
    let clients = proptest::collection::vec(proptest::collection::vec(concurrent(), 1..3), 2..=AT_ONCE);
    explore(length, &(commands(1..6), clients, any::<bool>()), &async |world, (first, clients, blocked)| {
        concurrently(world, &first, &clients, blocked).await
    });
}

#[test]
fn statements_do_what_the_rules_say() {
    each_statement_is_its_rule(Duration::from_secs(8));
}

#[test]
fn concurrent_statements_have_the_result_of_some_order() {
    concurrent_statements_have_an_order(Duration::from_secs(8));
}

#[test]
#[ignore = "takes minutes: `make model`"]
fn statements_do_what_the_rules_say_for_longer() {
    each_statement_is_its_rule(Duration::from_mins(3));
}

#[test]
#[ignore = "takes minutes: `make model`"]
fn concurrent_statements_have_the_result_of_some_order_for_longer() {
    concurrent_statements_have_an_order(Duration::from_mins(3));
}

#[tokio::test]
async fn a_late_outcome_and_the_recovery_of_its_lease_do_not_deadlock() {
    let mut world = World::new().await;
    for _ in 0..3 {
        world.reset().await;
        for command in [
            Command::Provision { key: 0, due_in: -SECOND, limit: GivenLimit::Keep, callback: 0 },
            Command::ClaimDue,
            Command::Confirm { which: 0 },
        ] {
            step_of(&mut world, command).await.unwrap();
        }
        world.expire_leases().await;
        // A session that has inserted the attempt's history makes both statements wait in the middle.
        let mut holder = PgConnection::connect(&world.url).await.unwrap();
        let insert = "BEGIN; INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt,
                          started_at, ended_at, outcome)
                      SELECT lease_token, instance_id, job_id, schedule_id, dedup_key, fire_at, attempts,
                          last_started_at, now(), 'lost' FROM one_shots";
        holder.execute(insert).await.unwrap();
        let finish = Command::FinishFires { which: 0, outcome: Outcome::Delivered };
        let shared = &world;
        tokio::join!(
            async {
                shared.execute(&shared.db, finish, Some(0), 0).await;
            },
            async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                shared.execute(&shared.db, Command::RecoverExpired, None, 0).await;
            },
            async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                holder.execute("ROLLBACK").await.unwrap();
            }
        );
    }
}
