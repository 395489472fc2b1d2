//! The replicas of the service, and the end of a dead one. docs/ARCHITECTURE.md#a-replica-that-dies has the
//! protocol.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::connector::ServerSession;
use super::seconds::duration;
use super::{Db, DbError, DbResult};
use crate::domain::replica::Registered;

/// Timeout of one statement, and of opening the session. Short, because a replica that cannot renew its registration has
/// to stop its attempts: after a fault of the network, a new session is sooner ready than an old one.
const STEP_WITHIN: Duration = Duration::from_secs(2);

/// A replica's row, as another replica sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The replica.
    pub replica_id: i32,
    /// Number of its renewals.
    pub renewals: i64,
}

/// Returns the registered replicas in the order of their start. The process of one that is silent may have died.
pub async fn list(db: &Db) -> DbResult<Vec<Registered>> {
    let rows = sqlx::query!(
        r#"SELECT replica_id, host_name, version, started_at, clock_offset_ms,
                  extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS "silent_for!"
           FROM replicas ORDER BY started_at, replica_id"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Registered {
            replica_id: row.replica_id,
            host_name: row.host_name,
            version: row.version,
            started_at: row.started_at,
            clock_offset: row.clock_offset_ms.and_then(TimeDelta::try_milliseconds),
            silent_for: duration(row.silent_for),
        })
        .collect())
}

/// This process's row in `replicas`, and the session whose end shows that the process has ended.
#[derive(Debug)]
pub struct Registration {
    session: (PgConnection, ServerSession),
    replica_id: i32,
}

impl Registration {
    /// Opens a session and registers a new replica. `clock_offset` is the database's clock minus this machine's.
    pub async fn new(db: &Db, host_name: &str, version: &str, clock_offset: TimeDelta) -> DbResult<Self> {
        let mut session = open(db).await?;
        let (connection, server) = &mut session;
        let replica_id = in_time(
            sqlx::query_scalar!(
                "INSERT INTO replicas (host_name, version, session_pid, session_started, clock_offset_ms)
                 VALUES ($1, $2, $3, NULLIF($4::text, '')::timestamptz, $5)
                 RETURNING replica_id",
                host_name,
                version,
                server.pid,
                server.started,
                clock_offset.num_milliseconds(),
            )
            .fetch_one(connection),
        )
        .await?;
        Ok(Self { session, replica_id })
    }

    /// Returns the number of this replica.
    pub fn replica_id(&self) -> i32 {
        self.replica_id
    }

    /// Opens a new session, after a fault of the old one. The next renewal stores it.
    pub async fn reconnect(&mut self, db: &Db) -> DbResult<()> {
        self.session = open(db).await?;
        Ok(())
    }

    /// Renews the registration and returns the rows of all replicas, with this one's as it was before. `None`: another
    /// replica has declared this one dead. Commits synchronously: a renewal that is acknowledged and then lost in a crash of
    /// the database could let another replica take over too early.
    pub async fn renew(&mut self, clock_offset: TimeDelta) -> DbResult<Option<Vec<Seen>>> {
        let (connection, server) = &mut self.session;
        let seen = in_time(
            sqlx::query_as!(
                Seen,
                "WITH renewed AS (
                     UPDATE replicas
                     SET renewals = renewals + 1, renewed_at = now(), session_pid = $2,
                         session_started = NULLIF($3::text, '')::timestamptz, clock_offset_ms = $4
                     WHERE replica_id = $1
                     RETURNING 1
                 )
                 SELECT replica_id, renewals FROM replicas WHERE EXISTS (SELECT FROM renewed)",
                self.replica_id,
                server.pid,
                server.started,
                clock_offset.num_milliseconds(),
            )
            .fetch_all(connection),
        )
        .await?;
        Ok(Some(seen).filter(|seen| !seen.is_empty()))
    }

    /// Deletes the row: the process ends, without attempts in flight.
    pub async fn leave(mut self) -> DbResult<()> {
        let connection = &mut self.session.0;
        let deleting = sqlx::query!("DELETE FROM replicas WHERE replica_id = $1", self.replica_id);
        in_time(deleting.execute(connection)).await?;
        Ok(())
    }
}

/// Declares a replica dead unless it has renewed its registration since `seen`: deletes its row and ends the leases of its
/// attempts, so that they are recovered at once. With `session_must_be_gone`, nothing happens while the session of its
/// latest renewal exists. Returns the number of ended leases; `None` if the replica is not dead.
///
/// The row is deleted first, behind its lock. A renewal that commits before is seen by this statement; one that comes
/// later finds no row. So an attempt that started after the latest renewal is never taken for an old one.
pub async fn declare_dead(db: &Db, seen: Seen, session_must_be_gone: bool) -> DbResult<Option<u64>> {
    let row = sqlx::query!(
        r#"
        WITH dead AS (
            DELETE FROM replicas r
            WHERE r.replica_id = $1 AND r.renewals = $2 /* seen */
              AND NOT ($3 /* session_must_be_gone */ AND EXISTS (
                  SELECT FROM pg_stat_activity a
                  WHERE a.pid = r.session_pid AND (a.backend_start = r.session_started) IS NOT FALSE))
            RETURNING r.replica_id
        ), attempts AS (
            SELECT o.instance_id, o.job_id
            FROM dead JOIN one_shots o USING (replica_id)
            -- Attempts are among what is due: see `recover_expired`.
            WHERE o.next_attempt_at <= now() AND o.parked IS NULL AND o.awaits IS NULL AND o.state = 'firing'
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        ), superseded AS (
            UPDATE superseded_attempts s SET expires_at = LEAST(s.expires_at, now())
            FROM dead d WHERE s.replica_id = d.replica_id
        ), ended AS (
            UPDATE one_shots o
            SET claim_expires_at = LEAST(o.claim_expires_at, now()), attempt_expires_at = LEAST(o.attempt_expires_at, now())
            FROM attempts a
            WHERE o.instance_id = a.instance_id AND o.job_id = a.job_id
            RETURNING 1
        )
        SELECT EXISTS (SELECT FROM dead) AS "is_dead!", (SELECT count(*) FROM ended) AS "leases!"
        "#,
        seen.replica_id,
        seen.renewals,
        session_must_be_gone,
    )
    .fetch_one(db)
    .await?;
    Ok(row.is_dead.then(|| row.leases.unsigned_abs()))
}

async fn open(db: &Db) -> DbResult<(PgConnection, ServerSession)> {
    in_time(db.connector.connect()).await
}

async fn in_time<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> DbResult<T> {
    let ended = timeout(STEP_WITHIN, step).await;
    Ok(ended.map_err(|_| DbError::Unavailable("renewing this replica's registration timed out".into()))??)
}
