//! Files and rows of the tests of exports.

use std::path::PathBuf;

use nas_cron_testing::world::World;
use sqlx::PgPool;

/// A temporary file. Dropping this removes it.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Creates a file whose name contains `name`.
    pub(super) fn file(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-{name}-{:016x}", rand::random::<u64>()));
        std::fs::write(&path, content).expect("a file");
        Self(path)
    }

    /// Returns the incomplete file of an export to this one, which need not exist.
    pub(super) fn partial(&self) -> Self {
        Self(format!("{}.partial", self.path()).into())
    }

    pub(super) fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Counts the rows of a table.
pub(super) async fn count(pool: &PgPool, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(pool).await.unwrap()
}

/// Stores so many one-shots of `inst-1`, which are due in 2036.
pub(super) async fn store_jobs(world: &World, jobs: usize) {
    world
        .sql(&format!(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                    state, next_attempt_at)
             SELECT 'inst-1', to_char(n, 'FM000000'), gen_random_uuid(), 'k', '2036-01-01T00:00:00Z', '2036-01-01',
                    'https://agent.example', 'armed', '2036-01-01'
             FROM generate_series(1, {jobs}) n",
        ))
        .await;
}
