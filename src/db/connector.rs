//! Opens database sessions: on the writable server, within a deadline, and with timeouts on both sides.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Executor, Row};
use tokio::time::timeout;

use crate::domain::database_url::{of_each_server, with_user};

/// Timeout of opening one connection: name resolution, TCP, TLS, authentication and set-up. TCP resends a lost packet
/// of the handshake after one second, so this tolerates the loss of one.
const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Head start of one server before the next one is tried concurrently.
const HEAD_START: Duration = Duration::from_millis(500);

/// Oldest supported major version of Postgres. The migrations use its SQL function bodies (`BEGIN ATOMIC`).
const OLDEST_MAJOR: i32 = 14;

/// A server that is older than the oldest supported Postgres.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Postgres {version} is too old: nas-cron needs {OLDEST_MAJOR} or newer")]
pub struct TooOld {
    version: String,
}

/// Settings of every session, where the server supports them. They let the server detect a client that has vanished:
/// it ends idle transactions, probes silent connections, and stops abandoned statements.
///
/// Sessions keep their plans while tables grow, so a plan that reads a whole table because it is small would become slow. By
/// the cost of a page, such a plan is only chosen for a few pages. To compile plans would take longer than to execute them.
///
/// They are set after the start of the session, because poolers refuse unknown start-up parameters.
const SETUP: &str = "\
SELECT pg_is_in_recovery(), pg_backend_pid(), \
       current_setting('server_version_num')::int, current_setting('server_version'), \
       (SELECT backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()), \
       (SELECT count(set_config(name, value, false)) FROM (VALUES \
          ('statement_timeout', '60s'), ('idle_in_transaction_session_timeout', '15s'), \
          ('tcp_user_timeout', '15s'), ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), \
          ('tcp_keepalives_count', '2'), ('random_page_cost', '0.1'), ('jit', 'off') \
        ) AS wanted(name, value) WHERE current_setting(name, true) IS NOT NULL)";

/// The server's identification of a session. The start time distinguishes it from a later session with the same
/// process id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerSession {
    pub(super) pid: i32,
    pub(super) started: String,
}

/// Opens connections to the servers of one database URL.
#[derive(Debug)]
pub(super) struct Connector {
    servers: Vec<PgConnectOptions>,
    /// Index of the last writable server, which is tried first.
    last: AtomicUsize,
}

impl Connector {
    /// Parses `url`. Does not connect. As in libpq, a URL without a user means `PGUSER`, else the operating system's user.
    pub(super) fn new(url: &str) -> Result<Self, sqlx::Error> {
        let set_up = |server: PgConnectOptions| {
            server
                .application_name("nas-cron")
                // The functions in this module trace statements by name.
                .log_statements(tracing::log::LevelFilter::Off)
                .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO)
        };
        let urls = with_user(url, own_user).and_then(|url| of_each_server(&url));
        let urls = urls.map_err(|why| sqlx::Error::Configuration(why.into()))?;
        let servers: Result<_, sqlx::Error> = urls.iter().map(|one| one.parse().map(set_up)).collect();
        Ok(Self { servers: servers?, last: AtomicUsize::new(0) })
    }

    /// Opens a session on the first server that answers and is writable. If all servers fail, the error has the
    /// reasons of all of them.
    pub(super) async fn connect(&self) -> Result<(PgConnection, ServerSession), sqlx::Error> {
        let (first, count) = (self.last.load(Ordering::Relaxed), self.servers.len());
        let mut tries: FuturesUnordered<_> = (0..count)
            .map(|place| async move {
                let number = (first + place) % count;
                tokio::time::sleep(HEAD_START * u32::try_from(place).unwrap_or(u32::MAX)).await;
                (number, self.open(number).await)
            })
            .collect();
        let mut failures = Vec::new();
        while let Some((number, tried)) = tries.next().await {
            match tried {
                Ok(opened) => {
                    self.last.store(number, Ordering::Relaxed);
                    return Ok(opened);
                }
                Err(error) => failures.push((number, error)),
            }
        }
        Err(summary(failures, &self.servers))
    }

    async fn open(&self, number: usize) -> Result<(PgConnection, ServerSession), sqlx::Error> {
        let server = &self.servers[number];
        let opening = async {
            let connecting = server.connect().await;
            let mut connection = connecting.map_err(|error| match error {
                sqlx::Error::Io(cause) => failed(&format!("cannot connect to {}: {cause}", place(server))),
                error => error,
            })?;
            let row = connection.fetch_one(sqlx::raw_sql(SETUP)).await?;
            if row.try_get_unchecked::<i32, _>(2)? < OLDEST_MAJOR * 10_000 {
                return Err(sqlx::Error::Configuration(TooOld { version: row.try_get_unchecked(3)? }.into()));
            }
            if row.try_get_unchecked::<bool, _>(0)? {
                return Err(failed(&format!("{} is a standby and cannot be written to", place(server))));
            }
            let session = ServerSession {
                pid: row.try_get_unchecked(1)?,
                started: row.try_get_unchecked::<Option<String>, _>(4)?.unwrap_or_default(),
            };
            Ok((connection, session))
        };
        timeout(CONNECT_WITHIN, opening).await.unwrap_or_else(|_| {
            let within = CONNECT_WITHIN.as_secs();
            Err(failed(&format!("connecting to {} timed out after {within} s", place(server))))
        })
    }

    /// Opens a session that receives notifications, on the last writable server.
    pub(super) async fn listener(&self) -> Result<PgListener, sqlx::Error> {
        let server = self.servers[self.last.load(Ordering::Relaxed) % self.servers.len()].clone();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_WITHIN)
            .test_before_acquire(false)
            .connect_lazy_with(server);
        PgListener::connect_with(&pool).await
    }
}

/// Returns the user of a URL that names none.
fn own_user() -> Result<String, String> {
    if let Some(user) = std::env::var("PGUSER").ok().filter(|user| !user.is_empty()) {
        return Ok(user);
    }
    whoami::username().map_err(|_| {
        let id = rustix::process::geteuid().as_raw();
        format!("it names no user, and user id {id} has no name on this system")
    })
}

fn failed(why: &str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(why.to_owned()))
}

/// Combines the errors of the servers into one.
fn summary(mut failures: Vec<(usize, sqlx::Error)>, servers: &[PgConnectOptions]) -> sqlx::Error {
    if failures.len() == 1
        && let Some((_, only)) = failures.pop()
    {
        return only;
    }
    failures.sort_by_key(|(number, _)| *number);
    let reasons: Vec<_> = failures
        .iter()
        .map(|(number, error)| match error {
            sqlx::Error::Io(cause) => cause.to_string(),
            error => format!("{}: {error}", place(&servers[*number])),
        })
        .collect();
    failed(&reasons.join("; "))
}

/// Returns the address of a server for error messages.
fn place(server: &PgConnectOptions) -> String {
    match server.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => format!("{}:{}", server.get_host(), server.get_port()),
    }
}
