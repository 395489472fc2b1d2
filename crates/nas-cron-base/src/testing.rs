//! Helpers for the tests of this workspace: temporary folders, and the log lines of the current thread.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;

use crate::logging::subscriber;

/// Returns the shortest time of `calls` calls: the one that the machine disturbed least.
pub fn fastest(calls: usize, mut call: impl FnMut()) -> Duration {
    let times = (0..calls).map(|_| {
        let began = Instant::now();
        call();
        began.elapsed()
    });
    times.min().expect("at least one call")
}

/// A temporary folder, removed when it is dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Creates a new, empty folder.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-{:016x}", rand::random::<u64>()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// Path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Log lines of the current thread, for tests of what is logged.
#[derive(Clone, Debug, Default)]
pub struct LogLines(Arc<Mutex<Vec<u8>>>);

impl LogLines {
    /// Collects JSON lines until the guard is dropped.
    pub fn collect(filter: &str) -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = lines.clone().set_default(false, filter);
        (lines, guard)
    }

    pub(crate) fn set_default(self, pretty: bool, filter: &str) -> DefaultGuard {
        // The maximum level is global to the process, and tests on other threads change it with filters of their own. A
        // global subscriber that accepts everything keeps it above what this test looks for.
        static EVERYTHING: Once = Once::new();
        EVERYTHING.call_once(|| drop(tracing::subscriber::set_global_default(Registry::default())));
        tracing::subscriber::set_default(subscriber(pretty, false, filter, move || self.clone()).unwrap())
    }

    /// All lines as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    /// The JSON lines, without their timestamps.
    pub fn json(&self) -> Vec<serde_json::Value> {
        let lines = self.text();
        let lines = lines.lines().map(|line| {
            let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
            line.as_object_mut().unwrap().remove("timestamp").expect("every line has a timestamp");
            line
        });
        lines.collect()
    }
}

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
