//! The expected fires, compared with those that the agents received.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use nas_cron_testing::agent::Fire;
use nas_cron_testing::time::{instant, now};

/// The expected result of an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is delivered exactly once.
    Fires,
    /// It never fires: it was cancelled or superseded before its instant.
    Never,
    /// It may fire: it was cancelled or superseded around its instant.
    Either,
}

/// All arms, by job and `fire_at`.
#[derive(Default)]
pub struct Ledger {
    arms: Mutex<HashMap<(String, String), Fate>>,
}

impl Ledger {
    /// Records an arm that is durable.
    pub fn armed(&self, job: &str, fire_at: &str) {
        self.arms.lock().unwrap().insert((job.to_owned(), fire_at.to_owned()), Fate::Fires);
    }

    /// Records that the service has just confirmed a cancel or supersede.
    pub fn ended(&self, job: &str, fire_at: &str) {
        let fate = if now() < instant(fire_at) { Fate::Never } else { Fate::Either };
        self.arms.lock().unwrap().insert((job.to_owned(), fire_at.to_owned()), fate);
    }

    /// Returns the arms that must fire until `until`.
    pub fn due_until(&self, until: DateTime<Utc>) -> Vec<(String, String)> {
        let arms = self.arms.lock().unwrap();
        let due = arms.iter().filter(|((_, at), fate)| **fate == Fate::Fires && instant(at) <= until);
        due.map(|(arm, _)| arm.clone()).collect()
    }

    /// Counts the arms that must fire after `after`.
    pub fn due_after(&self, after: DateTime<Utc>) -> usize {
        let arms = self.arms.lock().unwrap();
        arms.iter().filter(|((_, at), fate)| **fate == Fate::Fires && instant(at) > after).count()
    }

    /// Asserts that the agents received the expected fires. `lost` are jobs with an attempt that was interrupted when
    /// its replica was killed. It is unknown whether the agent received it, so it is repeated (at least once).
    pub fn audit(&self, fires: &[Fire], until: DateTime<Utc>, lost: &[String]) {
        let mut seen: HashMap<(String, String), usize> = HashMap::new();
        for fire in fires {
            *seen.entry((fire.job_id.clone(), fire.fire_at.clone())).or_default() += 1;
            assert!(fire.arrived >= instant(&fire.fire_at), "early: {fire:?}");
        }
        let mut wrong = String::new();
        for (arm, fate) in self.arms.lock().unwrap().iter() {
            let count = seen.remove(arm).unwrap_or_default();
            let again = usize::from(lost.contains(&arm.0));
            let right = match fate {
                Fate::Fires if instant(&arm.1) > until => count == 0,
                Fate::Fires => (1..=1 + again).contains(&count),
                Fate::Never => count == 0,
                Fate::Either => count <= 1 + again,
            };
            if !right {
                let _ = writeln!(wrong, "{arm:?} {fate:?}: {count} fires");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
        assert!(seen.is_empty(), "never armed: {seen:?}");
    }
}
