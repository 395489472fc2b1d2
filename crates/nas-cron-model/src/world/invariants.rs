//! The properties that a state alone can break. The others are where the step is: [`super::statements`].

use super::property::Violation;
use super::scope::Config;
use super::state::{Phase, Task, World};
use crate::row::State;

impl World {
    pub(super) fn check(&mut self, config: &Config) {
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
                    Phase::Confirmed => self.may_post(task, config),
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
}
