//! The normal form of a state, which makes their number finite: states become equal that differ only in names, or in
//! instants that no longer matter.

use super::scope::{ABORT_AFTER, Config, TAKE_OVER_AFTER, TICK};
use super::state::{Database, Phase, Statement, Status, Task, World, owner};
use crate::row::{Id, State, Time};

impl World {
    pub(super) fn fresh_schedule(&self) -> Id {
        self.schedules().into_iter().max().map_or(0, |highest| highest + 1)
    }

    pub(super) fn fresh_token(&self, replica: usize) -> Id {
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

    /// Of the numbers of renewals, only their order matters; of the times since then, only which limits they have passed.
    fn normalise_registration(&mut self, config: &Config) {
        if !config.registrations {
            (self.faulty.renewed, self.seen.since) = (Some(0), 0);
            return;
        }
        if self.databases().all(|database| database.renewals != Some(self.seen.renewals)) {
            // It matters again when replica 1 has looked.
            self.seen.since = 0;
        }
        if self.databases().all(|database| database.renewals.is_none()) {
            (self.seen.renewals, self.faulty.session) = (0, true);
        }
        if self.faulty.status == Status::Down {
            self.faulty.renewed = None;
        }
        self.seen.since = self.seen.since.max(-TAKE_OVER_AFTER);
        self.faulty.renewed = self.faulty.renewed.map(|sent| sent.max(-ABORT_AFTER));
        let mut numbers: Vec<u8> = self.databases().filter_map(|database| database.renewals).collect();
        numbers.push(self.seen.renewals);
        for (_, statement) in &self.running {
            if let Statement::DeclareDead { renewals, .. } = statement {
                numbers.push(*renewals);
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        let rank = |number: u8| u8::try_from(numbers.partition_point(|one| *one < number)).unwrap_or(u8::MAX);
        for database in std::iter::once(&mut self.database).chain(&mut self.durable) {
            database.renewals = database.renewals.map(rank);
        }
        self.seen.renewals = rank(self.seen.renewals);
        for (_, statement) in &mut self.running {
            if let Statement::DeclareDead { renewals, .. } = statement {
                *renewals = rank(*renewals);
            }
        }
    }

    /// Makes states equal that differ only in names, or in instants that no longer matter.
    #[expect(clippy::too_many_lines, reason = "one field after the other")]
    pub(super) fn normalise(&mut self, config: &Config) {
        let next_tick = |at: Time| (at + TICK - 1) / TICK * TICK;
        let sorted = |mut ids: Vec<Id>| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let rank = |ids: &[Id], id: Id| {
            Id::try_from(ids.iter().position(|one| *one == id).unwrap_or(0)).unwrap_or(0)
        };
        for database in std::iter::once(&mut self.database).chain(&mut self.durable) {
            let Some(row) = &mut database.row else { continue };
            row.fire_at = row.fire_at.max(0);
            row.shows_skew = false;
            row.next_attempt_at = row.next_attempt_at.map(|at| next_tick(at.max(0)));
            row.claim_expires_at = row.claim_expires_at.map(|at| at.max(0));
            row.attempt_expires_at = row.attempt_expires_at.map(|at| at.max(0));
            row.attempts = row.attempts.min(config.attempts_max);
            if !row.state.is_live() {
                row.attempts = 0;
                row.token = None;
                row.not_after = None;
            }
            row.not_after = row.not_after.map(|limit| limit.max(-1));
            if row.state != State::Firing {
                row.last_started_at = None;
            }
            row.claimed_at = row.claimed_at.filter(|_| config.newer_agent || self.limits.nudges.is_left());
            // Attempts that start from now on answer it.
            let unanswered = |at: &Time| {
                let of_row = |task: &&Task| {
                    task.schedule == row.schedule && task.phase.has_started() && !task.recorded
                };
                self.tasks.iter().filter(of_row).any(|task| task.confirmed < *at)
            };
            row.asked_again_at = row.asked_again_at.filter(unanswered);
        }
        self.normalise_registration(config);
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
            past.extend(row.last_started_at.into_iter().chain(row.asked_again_at));
            past.extend(row.claimed_at.filter(|at| *at <= 0));
            past.extend(row.delivered.map(|delivered| delivered.at));
        }
        past.extend(self.running.iter().filter_map(|(_, statement)| match statement {
            Statement::FinishFires { ended_at, .. } => Some(*ended_at),
            _ => None,
        }));
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
            // In the future if the agent may still accept an attempt in flight.
            row.claimed_at = row.claimed_at.map(|at| if at > 0 { next_tick(at) } else { instant(at) });
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
            match statement {
                Statement::Confirm { token: of, .. } => *of = token(*of),
                Statement::FinishFires { token: of, ended_at, .. } => {
                    *of = token(*of);
                    *ended_at = instant(*ended_at);
                }
                _ => {}
            }
        }
        self.tasks.sort_unstable();
        if self.durable == Some(self.database) {
            self.durable = None;
        }
    }
}
