//! The sessions of this process, and what is known of their health.
//!
//! A session is returned at once when its statement has ended well, without a word to the server. It is closed when
//! its statement failed on the way, was not answered in time, or was abandoned by its caller: nothing is known of such
//! a session, and the server may be out of reach behind it.
//!
//! What was sent on a session that nobody heard of may still reach the server much later, after the statement was repeated
//! on another session and even undone by a newer one. So the server is told to end such a session before anything else is
//! sent to it.
//!
//! One broken session says something about the others. They may have been opened through the same path, and only a
//! statement would show it, each in a whole deadline. So whatever has not been heard of since then is replaced before
//! it is used again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool::managed::{self, Metrics, Object, PoolError, QueueMode, RecycleError, RecycleResult};
use parking_lot::Mutex;
use sqlx::postgres::PgConnection;
use tokio::time::timeout;

use super::connector::{Connector, ServerSession};
use crate::heartbeat;

/// Sessions that were not used for longer than this are replaced: something on the way may have forgotten them.
const IDLE_AT_MOST: Duration = Duration::from_mins(4);
/// A statement that its caller gave up after this long without an answer is taken for lost.
const SUSPICIOUS_AFTER: Duration = Duration::from_millis(1_500);
/// Time to end sessions that were given up.
const END_WITHIN: Duration = Duration::from_secs(5);
/// Sessions are replaced at this age, so that what a server keeps for each does not grow for ever.
const AGE_AT_MOST: Duration = Duration::from_mins(30);

/// A session, and when the server was last heard of through it.
#[derive(Debug)]
pub(super) struct Session {
    connection: PgConnection,
    server: ServerSession,
    opened: Instant,
    heard: Instant,
}

/// What all pools of a process know of the database.
#[derive(Debug)]
pub(super) struct Health {
    /// Sessions that were last heard of before this are not trusted any more.
    suspect: Mutex<Instant>,
    /// The last time that a statement was answered.
    heard: Mutex<Instant>,
    /// Sessions that were closed in the middle of a statement: it may still be on its way.
    abandoned: Mutex<Vec<ServerSession>>,
}

impl Health {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { suspect: Mutex::new(now), heard: Mutex::new(now), abandoned: Mutex::default() }
    }

    /// How long ago the database last answered a statement.
    pub(super) fn silent_for(&self) -> Duration {
        self.heard.lock().elapsed()
    }

    /// A statement was answered.
    fn heard(&self, now: Instant) {
        let mut heard = self.heard.lock();
        *heard = (*heard).max(now);
    }

    /// Distrusts every session that was last heard of before `since`.
    fn distrust(&self, since: Instant) {
        let mut suspect = self.suspect.lock();
        *suspect = (*suspect).max(since);
    }

    /// A session was given up in the middle of a statement that began at `since`.
    fn gave_up(&self, session: &ServerSession, since: Instant) {
        // Those that were heard of since it began have shown that they are alive.
        self.distrust(since);
        self.abandoned.lock().push(session.clone());
    }
}

/// Opens sessions, and decides whether one may be used again.
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
        if trusted { Ok(()) } else { Err(RecycleError::message("not to be used again")) }
    }
}

/// A bounded set of sessions.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    sessions: managed::Pool<Manager>,
    health: Arc<Health>,
    /// How long a statement waits for a session to become free.
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
            // What is not needed goes unused, and is closed.
            .queue_mode(QueueMode::Lifo)
            .build()
            .map_err(|error| sqlx::Error::Configuration(error.into()))?;
        Ok(Self { sessions, health, wait })
    }

    /// How long a statement waits for a session to become free.
    pub(super) fn wait(&self) -> Duration {
        self.wait
    }

    /// Takes a session out of the pool, or opens one. When it returns, no statement that was given up before is still to
    /// come to the server.
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

    /// Closes the sessions that nobody has used for a while.
    pub(super) fn close_unused(&self) {
        self.sessions.retain(|session, _| session.heard.elapsed() <= IDLE_AT_MOST);
    }

    /// Closes every session as it becomes free, and gives out no more.
    pub(super) fn close(&self) {
        self.sessions.close();
    }
}

/// Ends sessions at the server. One that has ended by itself, or lived on a server that is gone, is no concern.
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

/// A session in use. It goes back to the pool if the last statement on it ended well, and is closed otherwise, also
/// when its user is dropped in the middle.
#[derive(Debug)]
pub(super) struct Taken {
    session: Option<Object<Manager>>,
    health: Arc<Health>,
    /// The last statement ended well.
    sound: bool,
    /// When the statement that is under way began.
    began: Option<Instant>,
}

impl Taken {
    /// From now on it goes back to the pool only after one more statement has ended well. Returns whether that is worth
    /// a try.
    pub(super) fn set_aside(&mut self) -> bool {
        std::mem::take(&mut self.sound)
    }

    /// Runs one statement, for `patience` at most.
    pub(super) async fn within<'t, T, F>(
        &'t mut self,
        patience: Duration,
        statement: impl FnOnce(&'t mut PgConnection) -> F,
    ) -> Result<T, sqlx::Error>
    where
        F: Future<Output = Result<T, sqlx::Error>>,
    {
        // Apart from each other: the statement borrows the connection, and its end is noted beside it.
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
                // A session that is about to end, or that cannot be written through any more, is of no use.
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
            // Out of the pool, which may open another one at once, and closed.
            drop(Object::take(session));
        }
    }
}
