//! Steps of the agent, of operators and of backends.

use super::action::{Action, Add};
use super::mistakes::Mistake;
use super::property::Observer;
use super::scope::Config;
use super::state::{Statement, World};
use super::statements::Durability::Synchronous;
use crate::row::Row;

impl World {
    /// Requests of the agent, operators and backends.
    pub(super) fn requests(&self, config: &Config, add: Add<'_>) {
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
        if self.limits.nudges.is_left()
            && let Some(row) = row
            && let claimed_at = row.claimed_at.filter(|_| !config.makes(Mistake::NudgeAtOnce))
            && let Some(nudged) = (Row { claimed_at, ..row }).nudged(0, config.rules())
        {
            add(Action::Nudge, &|world| {
                world.limits.nudges.take();
                world.store(Some(nudged), Synchronous, config);
                world.observer.delivered = false;
            });
        }
    }
}
