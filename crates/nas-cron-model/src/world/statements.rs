//! The statements: their snapshot, the lock of the row with the commit, and the reply. Also the properties that a
//! statement can break.

use Durability::{Asynchronous, Synchronous};

use super::mistakes::Mistake;
use super::property::{Observer, Violation};
use super::scope::{Answer, Config, Limit, TICK};
use super::state::{Phase, Statement, Status, Task, World, is_attempt_of_faulty, owner};
use crate::row::{Ended, Given, GivenLimit, Id, Outcome, Row, State, Time};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    Synchronous,
    Asynchronous,
}

impl World {
    pub(super) fn send(&mut self, statement: Statement, in_two_steps: bool, config: &Config) {
        if in_two_steps {
            self.running.push((0, statement));
        } else {
            self.commit(statement, config);
        }
    }

    /// Commits a change of the row.
    pub(super) fn store(&mut self, row: Option<Row>, durability: Durability, config: &Config) {
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
    pub(super) fn commit(&mut self, statement: Statement, config: &Config) {
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
            Statement::FinishFires { token, answer, ended_at, reply } => {
                let Some(index) = self.tasks.iter().position(|task| task.token == token) else { return };
                self.finish(index, answer, ended_at, config);
                if reply {
                    self.tasks.remove(index);
                }
            }
            Statement::Release => {
                if let Some(row) = row.and_then(|row| row.released()) {
                    self.store(Some(row), Synchronous, config);
                }
            }
            Statement::DeclareDead { renewals, in_flight } => self.declare_dead(renewals, in_flight, config),
            Statement::Renew { sent } => self.renew(sent, config),
            // A reply that is lost in a partition leaves the older renewal.
            Statement::Renewed { .. } if !self.faulty.connected => {}
            Statement::Renewed { found: false, .. } if !config.makes(Mistake::DeathUnnoticed) => {
                self.faulty.renewed = None;
            }
            Statement::Renewed { sent, .. } => {
                let sent = if config.makes(Mistake::CountedFromReply) { 0 } else { sent };
                self.faulty.renewed = self.faulty.renewed.map(|latest| latest.max(sent));
            }
        }
    }

    /// Compares the renewals on the locked row of `replicas`. The row is locked first, the attempts then.
    fn declare_dead(&mut self, renewals: u8, in_flight: bool, config: &Config) {
        let registered = self.database.renewals;
        if registered != Some(renewals) && !config.makes(Mistake::DeclaredBySnapshot) {
            return;
        }
        self.database.renewals = None;
        let row = self.database.row;
        let declared =
            row.filter(|row| in_flight && is_attempt_of_faulty(row)).and_then(|row| row.declared_dead(0));
        self.store(declared.or(row), Synchronous, config);
    }

    fn renew(&mut self, sent: Time, config: &Config) {
        let before = self.database;
        let found = before.renewals.is_some();
        self.database.renewals = before.renewals.map(|renewals| renewals + 1);
        if config.makes(Mistake::AsynchronousRenewal) {
            self.durable = Some(self.durable.unwrap_or(before));
        } else if found {
            self.durable = None;
        }
        if self.faulty.status != Status::Down {
            // Sent over a new session, if the old one has ended.
            self.faulty.session |= found;
            self.send(Statement::Renewed { sent, found }, config.snapshots, config);
        }
    }

    fn provision(&mut self, key: Id, later: bool, snapshot: Option<Row>, config: &Config) {
        let before = self.database.row;
        let fire_at = if later { TICK } else { 0 };
        let given = Given {
            schedule: self.fresh_schedule(),
            key,
            fire_at,
            awaits: config.backend && later,
            not_after: if config.limited { GivenLimit::At(fire_at + TICK) } else { GivenLimit::Keep },
        };
        let locked = match (before, snapshot) {
            (Some(row), Some(snapshot)) => Some(Row { delivered: snapshot.delivered, ..row }),
            _ => before,
        };
        let refused = |row: &Row| row.refused && !config.makes(Mistake::DuplicateShowsSkew);
        let locked = locked.map(|row| Row { refused: refused(&row), ..row });
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
        let current = Some(row.schedule);
        let known = if self.observer.current == current { self.observer } else { Observer::default() };
        self.observer = Observer { current, owed: true, delivered: false, same_key_again, ..known };
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

    pub(super) fn confirmed(&self, token: Id, on_hold: bool, config: &Config) -> Option<Row> {
        let row = self.database.row?;
        let not_after = row.not_after.filter(|_| !config.makes(Mistake::ConfirmationIgnoresLimit));
        let confirmed = Row { not_after, ..row }.confirmed(token, on_hold, 0, config.rules())?;
        Some(Row { not_after: row.not_after, ..confirmed })
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

    pub(super) fn reply_lost(&mut self, token: Id) {
        if let Some(task) = self.tasks.iter_mut().find(|task| task.token == token) {
            task.phase = Phase::Unsent;
        }
    }

    /// An attempt starts: its confirmation commits.
    pub(super) fn start(&mut self, index: usize) {
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
        } else if self.database.row.and_then(|row| row.not_after).is_some_and(|limit| limit < 0) {
            self.violation = Some(Violation::TooLate);
        }
    }

    pub(super) fn after_recovery(row: Row, config: &Config) -> Row {
        Row {
            asked_again_at: row.asked_again_at.filter(|_| !config.makes(Mistake::RecoveryForgetsProvision)),
            ..row
        }
    }

    fn finish(&mut self, index: usize, answer: Answer, ended_at: Time, config: &Config) {
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
            Answer::Refused | Answer::Ambiguous => {
                let ambiguous = answer == Answer::Ambiguous;
                let delay = if ambiguous { config.rules().ambiguous_floor } else { 0 };
                Outcome::Failed { retry_in: (task.attempt < config.attempts_max).then_some(delay), ambiguous }
            }
        };
        if Some(task.schedule) == self.observer.current {
            self.observer.refused = match outcome {
                Outcome::Duplicate => true,
                Outcome::Gone | Outcome::Dropped => false,
                Outcome::Delivered | Outcome::Failed { .. } => self.observer.refused,
            };
        }
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
        let claimed_at = before.claimed_at.filter(|_| !config.makes(Mistake::DuplicateIsFinal));
        let mut row = Row { claimed_at, ..before }.attempt_ended(&ended, ended_at, config.rules());
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
}
