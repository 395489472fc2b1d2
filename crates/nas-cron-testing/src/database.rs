//! A separate database for every test, on a private server that all tests of the process share.
//!
//! A test that stops the server, or that depends on other databases, starts its own server with [`server_options`].

use std::cell::RefCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nas_cron::db::{Db, DbOptions, migrate};
use nas_cron_dev::private_postgres::{Options, PrivatePostgres, Tcp};
use parking_lot::{Mutex, MutexGuard};
use sqlx::{Connection, Executor, PgConnection};
use tokio::sync::OnceCell;

use crate::time::PATIENCE;

/// Template of new databases with the schema.
const TEMPLATE: &str = "with_schema";

/// Returns the options of a server for tests: temporary, and reachable over TCP.
pub fn server_options() -> Options {
    Options {
        tcp: Tcp::AnyPort,
        settings: vec![
            // About 50 for each of the concurrent tests: the pools of three replicas and of the test itself.
            ("max_connections".to_owned(), "600".to_owned()),
        ],
        ..Options::temporary()
    }
}

/// Makes durable commits wait 10 ms, so that concurrent work shares statements on every machine: for tests that count.
pub fn with_slow_disk(mut options: Options) -> Options {
    let slow = [("commit_delay", "10000"), ("commit_siblings", "0")];
    options.settings.extend(slow.map(|(name, value)| (name.to_owned(), value.to_owned())));
    // Without fsync there is no delay.
    Options { durable: true, ..options }
}

/// Returns the tests' server. It stops when this process ends, also if it is killed.
fn server() -> MutexGuard<'static, PrivatePostgres> {
    static SERVER: OnceLock<Mutex<PrivatePostgres>> = OnceLock::new();
    SERVER
        .get_or_init(|| {
            Mutex::new(PrivatePostgres::start(server_options()).unwrap_or_else(|error| panic!("{error}")))
        })
        .lock()
}

/// Returns the URL of a database on the tests' server.
async fn url_of(name: &str) -> String {
    let name = name.to_owned();
    // The first call starts the server.
    tokio::task::spawn_blocking(move || server().tcp_url(&name).expect("TCP is enabled"))
        .await
        .expect("no panic")
}

/// Databases whose tests have ended. They are dropped early, because their files would fill the disk.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The databases of the test that runs on this thread. Each test has its own thread, which ends with it.
struct OfThisTest(RefCell<Vec<String>>);

impl Drop for OfThisTest {
    fn drop(&mut self) {
        ENDED.lock().append(&mut self.0.borrow_mut());
    }
}

thread_local! {
    static OF_THIS_TEST: OfThisTest = const { OfThisTest(RefCell::new(Vec::new())) };
}

/// Creates a database for the test that runs on this thread, and drops those of tests that have ended.
async fn create_database(template: &str) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut admin = PgConnection::connect(&url_of("postgres").await).await.expect("the server answers");
    let ended = std::mem::take(&mut *ENDED.lock());
    for name in ended {
        // After a failure the files stay until the server stops. Other tests must not fail for it.
        let drop = sqlx::AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"));
        let _ = admin.execute(drop).await;
    }
    execute(&mut admin, format!("CREATE DATABASE {name} TEMPLATE {template}")).await;
    OF_THIS_TEST.with(|databases| databases.0.borrow_mut().push(name.clone()));
    url_of(&name).await
}

async fn execute(connection: &mut PgConnection, statement: String) {
    let executed = connection.execute(sqlx::AssertSqlSafe(statement.clone())).await;
    executed.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// Creates the template once per process. Copying a database is much faster than running the migrations.
async fn template() -> &'static str {
    static MADE: OnceCell<()> = OnceCell::const_new();
    MADE.get_or_init(async || {
        let mut admin = PgConnection::connect(&url_of("postgres").await).await.expect("the server answers");
        execute(&mut admin, format!("DROP DATABASE IF EXISTS {TEMPLATE} WITH (FORCE)")).await;
        execute(&mut admin, format!("CREATE DATABASE {TEMPLATE}")).await;
        migrate::migrate(&connect(&url_of(TEMPLATE).await)).await.expect("the schema can be applied");
        // A database with open sessions cannot be copied, and the pool above closes its sessions asynchronously.
        execute(&mut admin, format!("ALTER DATABASE {TEMPLATE} ALLOW_CONNECTIONS false")).await;
        let close = format!(
            "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity WHERE datname = '{TEMPLATE}'"
        );
        execute(&mut admin, close).await;
    })
    .await;
    TEMPLATE
}

/// Returns the URL of a new, empty database.
pub async fn empty_database() -> String {
    create_database("template1").await
}

/// Connects to a database.
pub fn connect(url: &str) -> Db {
    Db::new(&DbOptions { url: url.to_owned().into(), max_connections: 5, acquire_timeout: PATIENCE })
        .expect("a valid URL")
}

/// Returns a new database with the schema, and its URL.
pub async fn database() -> (Db, String) {
    let url = create_database(template().await).await;
    (connect(&url), url)
}
