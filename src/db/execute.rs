//! Implements sqlx's `Executor` for [`Db`] and [`Transaction`].
//!
//! Every statement has a timeout. All rows are collected before they are returned: no session is held while the caller
//! processes rows.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use sqlx::postgres::{PgQueryResult, PgRow, PgStatement, PgTypeInfo};
use sqlx::{Describe, Either, Error, Execute, Executor, Postgres, SqlStr};

use super::pool::Taken;
use super::{Db, DbResult};

type Step = Either<PgQueryResult, PgRow>;

async fn many<'q, E: Execute<'q, Postgres> + 'q>(
    session: &mut Taken,
    patience: Duration,
    query: E,
) -> Result<Vec<Step>, Error> {
    session.within(patience, |connection| connection.fetch_many(query).try_collect::<Vec<_>>()).await
}

async fn optional<'q, E: Execute<'q, Postgres> + 'q>(
    session: &mut Taken,
    patience: Duration,
    query: E,
) -> Result<Option<PgRow>, Error> {
    session.within(patience, |connection| connection.fetch_optional(query)).await
}

/// Returns the results of a statement as the stream that sqlx expects.
fn steps<'e>(
    ended: impl Future<Output = Result<Vec<Step>, Error>> + Send + 'e,
) -> BoxStream<'e, Result<Step, Error>> {
    stream::once(ended).map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten().boxed()
}

impl<'c> Executor<'c> for &'c Db {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        steps(async move { many(&mut self.pool.take().await?, self.patience, query).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        async move { optional(&mut self.pool.take().await?, self.patience, query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        async move {
            let mut session = self.pool.take().await?;
            session.within(self.patience, |connection| connection.prepare_with(sql, parameters)).await
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        async move {
            let mut session = self.pool.take().await?;
            session.within(self.patience, |connection| connection.describe(sql)).await
        }
        .boxed()
    }
}

/// A transaction. It is rolled back unless it is [committed](Self::commit).
#[derive(Debug)]
pub(super) struct Transaction {
    /// `None` once it has ended.
    session: Option<Taken>,
    patience: Duration,
}

impl Db {
    /// Begins a transaction. Its statements have the timeout of this handle.
    pub(super) async fn begin(&self) -> DbResult<Transaction> {
        let mut session = self.pool.take().await?;
        session.within(self.patience, |connection| connection.execute(sqlx::raw_sql("BEGIN"))).await?;
        Ok(Transaction { session: Some(session), patience: self.patience })
    }
}

impl Transaction {
    /// Commits. After an error, it is unknown whether the commit took effect.
    pub(super) async fn commit(mut self) -> DbResult<()> {
        let patience = self.patience;
        let Some(mut session) = self.session.take() else { return Ok(()) };
        session.within(patience, |connection| connection.execute(sqlx::raw_sql("COMMIT"))).await?;
        Ok(())
    }

    fn session(&mut self) -> Result<&mut Taken, Error> {
        self.session.as_mut().ok_or(Error::PoolClosed)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        let patience = self.patience;
        // Rolls back in the background, so that the session can be reused. If that fails, the session is closed, which
        // rolls back as well.
        if session.set_aside()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                let rolled_back = session
                    .within(patience, |connection| connection.execute(sqlx::raw_sql("ROLLBACK")))
                    .await;
                if let Err(error) = rolled_back {
                    tracing::debug!(%error, "rollback failed; session closed");
                }
            });
        }
    }
}

impl<'c> Executor<'c> for &'c mut Transaction {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Step, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let patience = self.patience;
        steps(async move { many(self.session()?, patience, query).await })
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let patience = self.patience;
        async move { optional(self.session()?, patience, query).await }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, Error>>
    where
        'c: 'e,
    {
        let patience = self.patience;
        async move {
            self.session()?.within(patience, |connection| connection.prepare_with(sql, parameters)).await
        }
        .boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, Error>>
    where
        'c: 'e,
    {
        let patience = self.patience;
        async move { self.session()?.within(patience, |connection| connection.describe(sql)).await }.boxed()
    }
}
