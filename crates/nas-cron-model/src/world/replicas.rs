//! Steps of the replicas: the statements of their loops, and their attempts.

use super::action::{Action, Add};
use super::mistakes::Mistake;
use super::scope::{ABORT_AFTER, Config, Limit, TAKE_OVER_AFTER};
use super::state::{Answer, Phase, Statement, Status, Task, World, owner};
use super::statements::Durability::Synchronous;
use crate::row::State;

impl World {
    /// Statements of the loops of both replicas.
    pub(super) fn work(&self, config: &Config, add: Add<'_>) {
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

    /// The condition of `recover_dead`: an old heartbeat, and a free advisory lock.
    fn is_dead(&self, config: &Config) -> bool {
        let age = if config.makes(Mistake::TakeOverTooEarly) { ABORT_AFTER } else { TAKE_OVER_AFTER };
        (self.database.renewed <= -age || config.makes(Mistake::LockAlone))
            && (!self.faulty.locked || config.makes(Mistake::HeartbeatAlone))
    }

    /// Leases and attempts in memory.
    pub(super) fn attempts(&self, config: &Config, add: Add<'_>) {
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
                let answers = [Answer::Accepted, Answer::Gone, Answer::Refused, Answer::Ambiguous];
                for answer in answers {
                    if answer == Answer::Gone && !config.gone {
                        continue;
                    }
                    add(Action::Answer { token, answer }, &|world| {
                        let task = &mut world.tasks[index];
                        task.phase = Phase::Ended(answer);
                        let answers_latest = Some(task.schedule) == world.observer.current && !task.stale;
                        if matches!(answer, Answer::Accepted | Answer::Gone) && answers_latest {
                            world.observer.owed = false;
                        }
                    });
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
                        Phase::Posted => Phase::Ended(Answer::Ambiguous),
                        phase => phase,
                    };
                }
            });
        }
    }
}
