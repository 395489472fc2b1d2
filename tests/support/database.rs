//! A database of its own for every test, on one private server per test binary.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nas_cron::db::{Db, DbOptions, migrate};
use nas_cron::private_postgres::{Options, PrivatePostgres, Tcp};

/// Options of a server for tests: thrown away with the process, reachable over TCP.
pub fn server_options() -> Options {
    Options {
        tcp: Tcp::AnyPort,
        settings: vec![("max_connections".to_owned(), "300".to_owned())],
        ..Options::temporary()
    }
}

/// The tests' server. It goes when this process goes, however that ends.
fn server() -> &'static Mutex<PrivatePostgres> {
    static SERVER: OnceLock<Mutex<PrivatePostgres>> = OnceLock::new();
    SERVER.get_or_init(|| {
        Mutex::new(PrivatePostgres::start(server_options()).unwrap_or_else(|error| panic!("{error}")))
    })
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database.
pub async fn empty_database() -> String {
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    tokio::task::spawn_blocking(move || {
        let server = server().lock().unwrap_or_else(PoisonError::into_inner);
        server.create_database(&name).expect("a database can be created");
        server.tcp_url(&name).expect("it listens")
    })
    .await
    .expect("no panic")
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
