//! What the checks look at: the settings, and the database as far as it can be used.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nas_cron_base::clock::{Clock, SystemClock};
use tokio::sync::OnceCell;

use super::DEADLINE;
use crate::backends::checks::Examined;
use crate::config::Config;
use crate::db::migrate::{SchemaState, schema_state};
use crate::db::{Db, DbOptions, DbResult, pooler};

/// A little less than a check's deadline, so that what takes too long is told in its own words.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

/// What has to be there before a check can find out anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    Nothing,
    /// A database that answers.
    Database,
    /// The tables of this release in it.
    Schema,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Deployment {
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) db: Db,
    answer: OnceCell<Result<Duration, String>>,
    schema: OnceCell<Result<SchemaState, String>>,
}

impl Deployment {
    /// Connects to nothing yet.
    pub(super) fn new(mut config: Config) -> anyhow::Result<Self> {
        // A backend that is away is to be reported before a check's deadline.
        config.backends.call_timeout = config.backends.call_timeout.min(PATIENCE);
        let url = config.database.url.clone();
        let options = DbOptions { url, max_connections: 4, acquire_timeout: PATIENCE };
        let db = Db::new(&options).context("invalid database_url")?;
        Ok(Self {
            config,
            clock: Arc::new(SystemClock),
            db,
            answer: OnceCell::new(),
            schema: OnceCell::new(),
        })
    }

    /// What the checks of backends look at.
    pub(super) fn examined(&self) -> Examined<'_> {
        Examined { config: &self.config.backends, clock: &self.clock, db: &self.db, patience: PATIENCE }
    }

    /// How long the database took to answer, or why it did not. Asked once.
    pub(super) async fn answer(&self) -> &Result<Duration, String> {
        let ask = async || {
            let asked = async {
                pooler::require_sessions(&self.db).await?;
                // The first one connects.
                self.db.ping().await?;
                let began = Instant::now();
                self.db.ping().await.map(|()| began.elapsed())
            };
            within_deadline(asked).await
        };
        self.answer.get_or_init(ask).await
    }

    /// How the schema stands. Asked once.
    pub(super) async fn schema(&self) -> &Result<SchemaState, String> {
        self.schema.get_or_init(|| within_deadline(schema_state(&self.db))).await
    }

    /// Why a check with these needs has nothing to look at; nothing if it has.
    pub(super) async fn lacks(&self, needs: Needs) -> Option<&'static str> {
        if needs != Needs::Nothing && self.answer().await.is_err() {
            return Some("not looked at: the database does not answer");
        }
        // Migrations only add: what a later release has made can be read.
        let readable =
            async || matches!(self.schema().await, Ok(SchemaState::Current | SchemaState::Ahead { .. }));
        if needs == Needs::Schema && !readable().await {
            return Some("not looked at: the schema is not the one of this release");
        }
        None
    }
}

async fn within_deadline<T>(asked: impl Future<Output = DbResult<T>>) -> Result<T, String> {
    match tokio::time::timeout(DEADLINE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("no answer within 5 s".to_owned()),
    }
}
