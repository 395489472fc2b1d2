//! The pool of database sessions, and their health.
//!
//! A session returns to the pool as soon as its statement succeeds, without a health check. It is closed if its
//! statement failed in transit, timed out, or was abandoned by its caller: the state of such a session is unknown, and
//! the server may be unreachable through it.
//!
//! A statement on an abandoned session may reach the server much later, after it was repeated on another session or even
//! undone by a newer statement. Such a session is therefore ended on the server before any other statement is sent.
//!
//! If one session breaks, others on the same network path may be broken too, and each would cost a whole statement
//! timeout to find out. So every session that has not been answered since then is replaced before its next use.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::connector::{Connector, ServerSession};
use crate::heartbeat;

/// Maximum idle time of a session: afterwards, a NAT or firewall may have dropped the connection.
const IDLE_AT_MOST: Duration = Duration::from_mins(4);
/// Time without a response after which a statement that its caller aborts counts as lost.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(1_500);
/// Timeout of the statement that ends abandoned sessions.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Maximum age of a session. It bounds the memory that the server keeps for each.
const AGE_AT_MOST: Duration = Duration::from_mins(30);

/// A session, and the time of the last response on it.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    server: ServerSession,
    opened: Instant,
    heard: Instant,
}

/// The state of the database's health that all pools of a process share.
#[derive(Debug)]
pub(super) struct Health {
    /// Sessions whose last response is older than this are no longer trusted.
    suspect: Mutex<Instant>,
    /// Time of the last response to any statement.
    heard: Mutex<Instant>,
    /// Sessions that were closed during a statement, which may still reach the server.
    abandoned: Mutex<Vec<ServerSession>>,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { suspect: Mutex::new(now), heard: Mutex::new(now), abandoned: Mutex::default() }
    }

    /// Returns the time since the database last answered a statement.
    pub(super) fn silent_for(&self) -> Duration {
        self.heard.lock().elapsed()
    }

    /// Records a response to a statement.
    fn heard(&self, now: Instant) {
        let mut heard = self.heard.lock();
        *heard = (*heard).max(now);
    }

    /// Stops trusting sessions whose last response is older than `since`.
    fn distrust(&self, since: Instant) {
        let mut suspect = self.suspect.lock();
        *suspect = (*suspect).max(since);
    }

    /// Records that a session was abandoned during a statement that began at `since`.
    fn gave_up(&self, session: &ServerSession, since: Instant) {
        // Sessions with a response since then are alive.
        self.distrust(since);
        self.abandoned.lock().push(session.clone());
    }
}

/// Opens sessions, and decides whether one may be reused.
#[derive(Debug)]
pub(super) struct Manager {
    connector: Arc<Connector>,
    health: Arc<Health>,
}

impl managed::Manager for Manager {
    type Type = Session;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Session, sqlx::Error> {
        let (connection, server) = self.connector.connect().await?;
        let now = Instant::now();
        self.health.heard(now);
        Ok(Session { connection, server, opened: now, heard: now })
    }

    async fn recycle(&self, session: &mut Session, _: &Metrics) -> RecycleResult<sqlx::Error> {
        let trusted = session.heard >= *self.health.suspect.lock()
            && session.heard.elapsed() <= IDLE_AT_MOST
            && session.opened.elapsed() <= AGE_AT_MOST;
        if trusted { Ok(()) } else { Err(RecycleError::message("not trusted")) }
    }
}

/// The sessions of a pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUse {
    /// Open sessions that no statement uses.
    pub idle: usize,
    /// Sessions that a statement uses.
    pub in_use: usize,
    /// Statements that wait for a free session.
    pub waiting: usize,
    /// Maximum number of sessions.
    pub max: usize,
}

/// A pool with a maximum number of sessions.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    sessions: managed::Pool<Manager>,
    health: Arc<Health>,
    /// Maximum time that a statement waits for a free session.
    wait: Duration,
}

impl Pool {
    pub(super) fn new(
        connector: Arc<Connector>,
        health: Arc<Health>,
        size: u32,
        wait: Duration,
    ) -> Result<Self, sqlx::Error> {
        let manager = Manager { connector, health: Arc::clone(&health) };
        let sessions = managed::Pool::builder(manager)
            .max_size(usize::try_from(size).unwrap_or(usize::MAX))
            // Last in, first out: surplus sessions stay idle and are closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| sqlx::Error::Configuration(error.into()))?;
        Ok(Self { sessions, health, wait })
    }

    /// Returns the maximum time that a statement waits for a free session.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Takes a session from the pool, or opens one. Afterwards, no statement that was abandoned before can reach the
    /// server any more.
    pub(super) async fn take(&self) -> Result<Taken, sqlx::Error> {
        let mut session = self.free().await?;
        let abandoned = self.health.abandoned.lock().clone();
        if !abandoned.is_empty() {
            session.within(END_WITHIN, |connection| end(connection, &abandoned)).await?;
            self.health.abandoned.lock().retain(|one| !abandoned.contains(one));
        }
        Ok(session)
    }

    async fn free(&self) -> Result<Taken, sqlx::Error> {
        let found = timeout(self.wait, self.sessions.get()).await;
        heartbeat::beat();
        match found {
            Ok(Ok(session)) => Ok(Taken {
                session: Some(session),
                health: Arc::clone(&self.health),
                sound: false,
                began: None,
            }),
            Ok(Err(PoolError::Backend(error))) => Err(error),
            Ok(Err(PoolError::Closed)) => Err(sqlx::Error::PoolClosed),
            Ok(Err(_)) | Err(_) => Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("all {} connections of this replica were busy", self.sessions.status().max_size),
            ))),
        }
    }

    /// Returns the number of sessions by use.
    pub(super) fn in_use(&self) -> PoolUse {
        let status = self.sessions.status();
        PoolUse {
            idle: status.available,
            in_use: status.size.saturating_sub(status.available),
            waiting: status.waiting,
            max: status.max_size,
        }
    }

    /// Closes sessions that were idle for too long.
    pub(super) fn close_unused(&self) {
        self.sessions.retain(|session, _| session.heard.elapsed() <= IDLE_AT_MOST);
    }

    /// Closes every session as it becomes free. No further session can be taken.
    pub(super) fn close(&self) {
        self.sessions.close();
    }
}

/// Ends sessions on the server. Sessions that no longer exist are ignored.
async fn end(connection: &mut PgConnection, sessions: &[ServerSession]) -> Result<(), sqlx::Error> {
    let pids: Vec<i32> = sessions.iter().map(|one| one.pid).collect();
    let starts: Vec<&str> = sessions.iter().map(|one| one.started.as_str()).collect();
    sqlx::query(
        "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a
         JOIN unnest($1::int[], $2::timestamptz[]) AS s(pid, started)
           ON a.pid = s.pid AND a.backend_start = s.started",
    )
    .bind(pids)
    .bind(starts)
    .execute(connection)
    .await?;
    Ok(())
}

/// A session in use. On drop, it returns to the pool if its last statement succeeded, and is closed otherwise. A dropped
/// statement counts as failed.
#[derive(Debug)]
pub(super) struct Taken {
    session: Option<Object<Manager>>,
    health: Arc<Health>,
    /// True if the session is usable after its last statement.
    sound: bool,
    /// Start of the statement in flight.
    began: Option<Instant>,
}

impl Taken {
    /// Keeps the session out of the pool until one more statement succeeds. Returns true if it was usable so far.
    pub(super) fn set_aside(&mut self) -> bool {
        std::mem::take(&mut self.sound)
    }

    /// Runs one statement with `patience` as its timeout.
    pub(super) async fn within<'t, T, F>(
        &'t mut self,
        patience: Duration,
        statement: impl FnOnce(&'t mut PgConnection) -> F,
    ) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        // Separate borrows: the statement borrows the connection while the other fields change.
        let Self { session, health, sound, began } = self;
        *sound = false;
        let Some(session) = session else { return Err(sqlx::Error::PoolClosed) };
        let session: &'t mut Session = session;
        let Session { connection, heard, server, .. } = session;
        let start = Instant::now();
        *began = Some(start);
        let ended = timeout(patience, statement(connection)).await;
        *began = None;
        heartbeat::beat();
        let Ok(answer) = ended else {
            health.gave_up(server, start);
            let silence = format!("no answer from the database within {} s", patience.as_secs_f64());
            return Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, silence)));
        };
        match &answer {
            Ok(_) => *sound = true,
            Err(sqlx::Error::Database(refusal)) => {
                // A session that is about to end, or has become read-only, is not usable.
                *sound = !refusal.code().is_some_and(|code| {
                    code.starts_with("57P") || matches!(code.as_ref(), "25006" | "25P03")
                });
                health.heard(Instant::now());
            }
            Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_)) => {
                health.distrust(Instant::now());
            }
            Err(_) => {}
        }
        if *sound {
            *heard = Instant::now();
            health.heard(*heard);
        }
        answer
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let (Some(began), Some(session)) = (self.began, &self.session)
            && began.elapsed() >= SUSPICIOUS_AFTER
        {
            self.health.gave_up(&session.server, began);
        }
        if let Some(session) = self.session.take().filter(|_| !self.sound) {
            // Removes it from the pool, which may open another one at once, and closes it.
            drop(Object::take(session));
        }
    }
}
