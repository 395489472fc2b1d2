//! Steps of the environment: faults and their ends, and the time.

use super::action::{Action, Add};
use super::mistakes::Mistake;
use super::scope::{Config, TICK};
use super::state::{Faulty, Phase, Statement, Status, Task, World, owner};
use crate::row::{Row, State};

impl World {
    pub(super) fn faults(&self, config: &Config, add: Add<'_>) {
        let Faulty { status, connected, session, .. } = self.faulty;
        if status != Status::Down && self.limits.crashes.is_left() {
            add(Action::Crash, &|world| {
                world.limits.crashes.take();
                world.faulty.status = Status::Down;
                // Its host closes its connections, those to agents and those to the database.
                world.faulty.session = false;
                for task in world.tasks.iter().filter(|task| task.phase == Phase::Posted) {
                    if owner(task.token) == 0 {
                        world.observer.may_be_claimed(task.schedule);
                    }
                }
                world.tasks.retain(|task| owner(task.token) != 0);
            });
        }
        if status == Status::Down
            && let Some(renewals) = self.database.renewals
            && config.makes(Mistake::SameIdentity)
        {
            add(Action::Restart, &|world| {
                world.faulty = Faulty { status: Status::Up, session: true, renewed: Some(0), ..world.faulty };
                world.database.renewals = Some(renewals + 1);
                world.durable = None;
            });
        }
        if status == Status::Up
            && self.limits.freezes.is_left()
            && (session || config.terminations_while_frozen)
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
        if session && terminable && self.limits.terminations.is_left() {
            add(Action::Terminate, &|world| {
                world.limits.terminations.take();
                world.faulty.session = false;
                world.running.retain(|(_, statement)| !matches!(statement, Statement::Renew { .. }));
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
        self.faulty.session = false;
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
    pub(super) fn may_tick(&self, config: &Config) -> bool {
        let timer = |task: &Task| {
            let runs = owner(task.token) != 0 || self.faulty.status == Status::Up;
            let overdue = task.phase == Phase::Posted && task.posted <= -config.delays().deadline;
            runs && overdue || self.must_abort(task, config)
        };
        !self.tasks.iter().any(timer) && self.running.iter().all(|(begun, _)| *begun > -TICK)
    }

    pub(super) fn tick(&mut self, config: &Config) {
        let age = |row: &mut Option<Row>| {
            if let Some(row) = row {
                row.fire_at -= TICK;
                for at in [
                    &mut row.next_attempt_at,
                    &mut row.claim_expires_at,
                    &mut row.last_started_at,
                    &mut row.asked_again_at,
                    &mut row.claimed_at,
                    &mut row.not_after,
                ] {
                    *at = at.map(|at| at - TICK);
                }
                row.attempt_expires_at =
                    row.attempt_expires_at.map(|at| at - if config.endless_leases { 0 } else { TICK });
                if let Some(delivered) = &mut row.delivered {
                    delivered.at -= TICK;
                }
            }
        };
        age(&mut self.database.row);
        if let Some(durable) = &mut self.durable {
            age(&mut durable.row);
        }
        self.faulty.renewed = self.faulty.renewed.map(|sent| sent - TICK);
        self.seen.since -= TICK;
        self.observer.claimed = self.observer.claimed.map(|at| at - TICK);
        for task in &mut self.tasks {
            task.started -= TICK;
            task.confirmed -= TICK;
            task.posted -= TICK;
        }
        for (begun, statement) in &mut self.running {
            *begun -= TICK;
            match statement {
                Statement::Renew { sent } | Statement::Renewed { sent, .. } => *sent -= TICK,
                Statement::FinishFires { ended_at, .. } => *ended_at -= TICK,
                Statement::Provision { snapshot, .. } => age(snapshot),
                _ => {}
            }
        }
    }
}
