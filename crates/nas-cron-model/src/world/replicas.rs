//! Steps of the replicas: the statements of their loops, and their attempts.

use super::action::{Action, Add};
use super::mistakes::Mistake;
use super::scope::{ABORT_AFTER, Answer, Config, Limit, TAKE_OVER_AFTER};
use super::state::{Faulty, Phase, Seen, Statement, Status, Task, World, is_attempt_of_faulty, owner};
use super::statements::Durability::Synchronous;

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
            if self.has_renewed(replica) && row.is_some_and(|row| row.is_claimable(0, config.rules())) {
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
        if let Some(expired) = row.and_then(|row| row.expired(0))
            && !config.makes(Mistake::NoExpiry)
        {
            add(Action::Expire, &|world| world.store(Some(expired), Synchronous, config));
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
    }

    /// Replica 0 renews its registration, and replica 1 watches it.
    pub(super) fn registrations(&self, config: &Config, add: Add<'_>) {
        let runs = |name: &str| self.running.iter().any(|(_, statement)| statement.name() == name);
        let Faulty { renewed, session, .. } = self.faulty;
        // A fresh renewal changes nothing.
        let is_old = renewed.is_some_and(|sent| sent < 0 || !session);
        if self.can_send(0) && is_old && !runs("renew") && !runs("renewed") {
            add(Action::Renew, &|world| {
                world.send(Statement::Renew { sent: 0 }, config.snapshots, config);
            });
        }
        let Some(renewals) = self.database.renewals else { return };
        if renewals != self.seen.renewals {
            add(Action::Look, &|world| world.seen = Seen { renewals, since: 0 });
        }
        let silence = if config.makes(Mistake::TakeOverTooEarly) { ABORT_AFTER } else { TAKE_OVER_AFTER };
        let is_silent = renewals == self.seen.renewals && self.seen.since <= -silence;
        if (is_silent || config.makes(Mistake::SessionAlone))
            && (!session || config.makes(Mistake::SilenceAlone))
            && !runs("declare_dead")
        {
            let in_flight = self.database.row.is_some_and(|row| is_attempt_of_faulty(&row));
            add(Action::DeclareDead, &|world| {
                world.send(Statement::DeclareDead { renewals, in_flight }, config.snapshots, config);
            });
        }
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
                Phase::Confirmed => self.may_post(task, config),
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
            let is_recording = self.running.iter().any(
                |(_, statement)| matches!(statement, Statement::FinishFires { token: of, .. } if *of == token),
            );
            if let Phase::Ended(answer) = phase
                && !is_recording
            {
                for reply in [true, false] {
                    if !reply && (task.recorded || self.limits.partitions == Limit::AtMost(0)) {
                        continue;
                    }
                    let by_snapshot = config.makes(Mistake::DeliveredAtBeforeLock);
                    add(Action::FinishFires { token, reply }, &|world| {
                        let statement = Statement::FinishFires { token, answer, ended_at: 0, reply };
                        world.send(statement, by_snapshot, config);
                    });
                }
            }
        }
        if self.tasks.iter().any(|task| self.must_abort(task, config)) {
            add(Action::Abort, &|world| {
                for task in world.tasks.iter_mut().filter(|task| owner(task.token) == 0) {
                    task.phase = match task.phase {
                        Phase::Confirmed => Phase::Unsent,
                        Phase::Posted => {
                            world.observer.may_be_claimed(task.schedule);
                            Phase::Ended(Answer::Ambiguous)
                        }
                        phase => phase,
                    };
                }
            });
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
            self.observer.may_be_claimed(task.schedule);
        }
    }
}
