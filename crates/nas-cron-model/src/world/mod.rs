//! The world: one job, two replicas, one agent, the database, and their faults.
//!
//! **Time** passes in ticks. Everything between two ticks may happen in any order, and the order of what has happened is kept.
//! All instants are relative to now, so that the set of states is finite without a limit on the length of a run.
//!
//! **Postgres.** A statement that decides by the locked row alone is one step. A statement that also reads another row or
//! table (holds, registrations) is two: its snapshot, and the lock of the row's latest version with the commit; anything may
//! happen in between, and the statement may outlive its client. Claims and confirmations commit asynchronously: a crash of
//! the database takes it back to an earlier commit, but to none before the latest synchronous one.
//!
//! **Replicas.** Faults hit replica 0. It may be killed, frozen, cut off from the database, and its session may end. By
//! symmetry this covers one faulty replica of any number; two faulty ones are not modelled. Replica 1 stands for all the
//! others, also for a process that restarts or registers again.
//!
//! Read the files in this order:
//!
//! 1. `scope`: the parts of the world, and the delays.
//! 2. `state`: the database, the replicas, and the statements that are under way.
//! 3. `property`: what must never be, and the observer who sees it.
//! 4. `action`, then the steps: `requests` (agent, operators, backends), `replicas`, `faults` (and the time).
//! 5. `statements`: the effect of a statement on the row, by the rules of [`crate::row`].
//! 6. `invariants`: properties of a state. `normal_form`: the reason for which the states are finite.
//! 7. `mistakes`: the branches in all of these that deviate from the design.

mod action;
mod faults;
mod invariants;
mod mistakes;
mod normal_form;
mod property;
mod replicas;
mod requests;
mod scope;
mod state;
mod statements;

pub use self::action::{Action, Step};
pub use self::mistakes::Mistake;
pub use self::property::Violation;
pub use self::scope::{Answer, Config, Limit, Limits};
pub use self::state::{Database, World};

impl World {
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
        if config.registrations {
            self.registrations(config, &mut add);
        }
        self.attempts(config, &mut add);
        self.faults(config, &mut add);
        for (index, (_, statement)) in self.running.iter().enumerate() {
            add(Action::Commit { statement: statement.name() }, &|world| {
                let (_, statement) = world.running.remove(index);
                world.commit(statement, config);
            });
        }
        if self.may_tick(config) {
            add(Action::Tick, &|world| world.tick(config));
        }
        steps
    }
}
