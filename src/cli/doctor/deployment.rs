//! The input of the checks: the settings, and the state of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nas_cron_base::clock::{Clock, SystemClock};
use tokio::sync::OnceCell;

use super::DEADLINE;
use crate::backends::checks::Examined;
use crate::config::Config;
use crate::db::advice::Advice;
use crate::db::migrate::{SchemaState, schema_state};
use crate::db::{Db, DbOptions, DbResult, pooler};

/// Time limit of one operation: less than that of a check, so that the operation's own error is reported.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// Precondition of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// A database that responds.
    Database,
    /// A database with the tables of this release.
    Schema,
}

/// The settings, and the cached state of the database.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) db: Db,
    answer: OnceCell<Result<Duration, Advice>>,
    schema: OnceCell<Result<SchemaState, Advice>>,
}

impl Deployment {
    /// Prepares the checks, without connecting yet.
    pub(super) fn new(mut config: Config) -> anyhow::Result<Self> {
        // An unreachable backend must fail before the time limit of its check.
        config.backends.call_timeout = config.backends.call_timeout.min(PATIENCE);
        let url = config.database.url.clone();
        let options = DbOptions { url, max_connections: 4, acquire_timeout: PATIENCE };
        let db = Db::new(&options)?;
        Ok(Self {
            config,
            clock: Arc::new(SystemClock),
            db,
            answer: OnceCell::new(),
            schema: OnceCell::new(),
        })
    }

    /// Returns the input of the checks of backends.
    pub(super) fn examined(&self) -> Examined<'_> {
        Examined { config: &self.config.backends, clock: &self.clock, db: &self.db, patience: PATIENCE }
    }

    /// Returns the response time of the database, or the error. Measured once.
    pub(super) async fn answer(&self) -> &Result<Duration, Advice> {
        let ask = async || {
            let asked = async {
                pooler::require_sessions(&self.db).await?;
                // The first statement connects.
                self.db.ping().await?;
                let began = Instant::now();
                self.db.ping().await.map(|()| began.elapsed())
            };
            within_deadline(asked).await
        };
        self.answer.get_or_init(ask).await
    }

    /// Returns the state of the schema, or the error. Read once.
    pub(super) async fn schema(&self) -> &Result<SchemaState, Advice> {
        self.schema.get_or_init(|| within_deadline(schema_state(&self.db))).await
    }

    /// Returns the reason to skip a check with these needs, or `None` if they are met.
    pub(super) async fn lacks(&self, needs: Needs) -> Option<&'static str> {
        if needs != Needs::Nothing && self.answer().await.is_err() {
            return Some("not checked: the database is unavailable");
        }
        // The checks read what a later release has most likely kept. If not, they report the failed statement.
        let readable =
            async || matches!(self.schema().await, Ok(SchemaState::Current | SchemaState::Ahead { .. }));
        if needs == Needs::Schema && !readable().await {
            return Some("not checked: the schema is not the one of this release");
        }
        None
    }
}

async fn within_deadline<T>(asked: impl Future<Output = DbResult<T>>) -> Result<T, Advice> {
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|error| error.advice()),
        Err(_) => Err(Advice {
            failure: "the database did not answer within 5 s".to_owned(),
            fix: "check that Postgres is running and not overloaded, and that database_url is right",
        }),
    }
}
