//! What should fire, what may not, and what the agents saw of it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use nas_cron_testing::agent::Fire;
use nas_cron_testing::time::{instant, now};

/// What is to become of one arm, by its job and its `fire_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is delivered once, and never again.
    Fires,
    /// It was cancelled or superseded before its instant: never.
    Never,
    /// It was cancelled or superseded so near its instant that nobody can tell.
    Either,
}

/// Every arm that there was.
#[derive(Default)]
pub struct Ledger {
    arms: Mutex<HashMap<(String, String), Fate>>,
}

impl Ledger {
    /// It was armed, durably.
    pub fn armed(&self, job: &str, fire_at: &str) {
        self.arms.lock().unwrap().insert((job.to_owned(), fire_at.to_owned()), Fate::Fires);
    }

    /// It is not to fire any more; the service has said so just now.
    pub fn ended(&self, job: &str, fire_at: &str) {
        let fate = if now() < instant(fire_at) { Fate::Never } else { Fate::Either };
        self.arms.lock().unwrap().insert((job.to_owned(), fire_at.to_owned()), fate);
    }

    /// Those that are to fire until then.
    pub fn due_until(&self, until: DateTime<Utc>) -> Vec<(String, String)> {
        let arms = self.arms.lock().unwrap();
        let due = arms.iter().filter(|((_, at), fate)| **fate == Fate::Fires && instant(at) <= until);
        due.map(|(arm, _)| arm.clone()).collect()
    }

    /// How many are to fire after that.
    pub fn due_after(&self, after: DateTime<Utc>) -> usize {
        let arms = self.arms.lock().unwrap();
        arms.iter().filter(|((_, at), fate)| **fate == Fate::Fires && instant(at) > after).count()
    }

    /// Holds what the agents saw against it. `lost` are jobs one attempt of which was cut off when its replica was
    /// killed: nobody can know whether the agent had it, so that it is made again (at least once).
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
