//! A database of its own for every test, on one server per test binary.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nas_cron::db::{Db, DbOptions, migrate};
use sqlx::{Connection, Executor};

/// Where the tests' server is.
fn server_url() -> String {
    std::env::var("NAS_CRON_TEST_DATABASE_URL").expect("NAS_CRON_TEST_DATABASE_URL")
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database.
pub async fn empty_database() -> String {
    let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let server = server_url();
    let mut connection = sqlx::PgConnection::connect(&server).await.expect("the tests' server answers");
    connection
        .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .await
        .expect("a database can be created");
    let mut url = url::Url::parse(&server).expect("a URL");
    url.set_path(&name);
    url.to_string()
}

/// Connects to a database.
pub fn connect(url: &str) -> Db {
    Db::new(&DbOptions {
        url: url.to_owned().into(),
        max_connections: 5,
        acquire_timeout: Duration::from_secs(10),
    })
    .expect("a valid URL")
}

/// A new database with the schema, and its URL.
pub async fn database() -> (Db, String) {
    let url = empty_database().await;
    let db = connect(&url);
    migrate::migrate(&db).await.expect("the schema can be applied");
    (db, url)
}
