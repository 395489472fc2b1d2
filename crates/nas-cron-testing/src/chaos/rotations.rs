//! Rotations of the key that signs fire tokens, by the command that an operator would run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::process::Command;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::ledger::now;

/// Timeout of a command.
const LIMIT: Duration = Duration::from_mins(1);

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A next key is published.
    Published,
    /// The next key, which agents can fetch since the step before, signs.
    Activated,
    /// A key signs that no agent could know before, as after a leak.
    Sudden,
}

/// The kinds in their order.
const KINDS: [Kind; 3] = [Kind::Published, Kind::Activated, Kind::Sudden];

/// A step that was taken.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Rotation {
    /// Its begin, in microseconds since 1970.
    pub begin: i64,
    /// Its end.
    pub end: i64,
    /// The step.
    pub kind: Kind,
    /// False if the command failed, because of a fault. It may have had its effect all the same.
    pub succeeded: bool,
}

/// Takes a step of a rotation every `period`, `steps` in all, and passes each to `done`.
pub(super) async fn rotate(
    binary: PathBuf,
    environment: Vec<(&'static str, String)>,
    period: Duration,
    steps: usize,
    done: impl Fn(Rotation),
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is immediate.
    ticks.tick().await;
    for kind in KINDS.into_iter().cycle().take(steps) {
        ticks.tick().await;
        let begin = now();
        let succeeded = run(&binary, &environment, kind).await;
        done(Rotation { begin, end: now(), kind, succeeded });
    }
}

/// Runs the command. Returns true if it has succeeded.
async fn run(binary: &Path, environment: &[(&'static str, String)], kind: Kind) -> bool {
    let at_once: &[&str] = if kind == Kind::Published { &[] } else { &["--now", "--yes"] };
    let mut command = Command::new(binary);
    command.args(["keys", "rotate"]).args(at_once);
    command.envs(environment.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    timeout(LIMIT, command.status()).await.is_ok_and(|status| status.is_ok_and(|status| status.success()))
}
