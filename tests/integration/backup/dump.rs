//! Dumps of a database, and services on restored ones.

use std::process::Stdio;

use nas_cron_testing::database::empty_database;
use nas_cron_testing::service::Service;
use nas_cron_testing::world::World;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Dumps a database as docs/backup.md says.
pub(super) async fn dump(url: &str) -> Vec<u8> {
    let mut command = Command::new("pg_dump");
    let output = command.args(["--no-owner", "--format", "custom", url]).output().await;
    let output = output.expect("pg_dump is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Restores a dump as docs/backup.md says.
pub(super) async fn restore(url: &str, dump: &[u8]) {
    let mut command = Command::new("pg_restore");
    command.args(["--no-owner", "--exit-on-error", "--dbname", url]);
    let mut child = command.stdin(Stdio::piped()).spawn().expect("pg_restore is installed");
    let mut input = child.stdin.take().expect("piped");
    input.write_all(dump).await.expect("pg_restore reads");
    drop(input);
    assert!(child.wait().await.expect("pg_restore ends").success());
}

/// Replaces the service by one on a restored database.
pub(super) async fn serve_restored(world: &mut World, dump: &[u8]) {
    let url = empty_database().await;
    restore(&url, dump).await;
    let settings =
        world.settings.clone().with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_MIGRATE", "false");
    world.service = Service::start(&settings).await;
}
