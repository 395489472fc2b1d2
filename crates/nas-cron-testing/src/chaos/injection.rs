//! Injects a fault, from its begin to its end.

use std::time::Duration;

use futures::future::join_all;
use nas_cron_dev::private_postgres::PrivatePostgres;
use rustix::process::Signal;
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::{Instant, sleep};

use super::databases::{DATABASE, Databases};
use super::fault::Fault;
use super::ledger::now;
use super::schedule::Step;
use super::stage::Stage;
use crate::frozen;

/// Prepares a fault.
pub(super) async fn prepare(stage: &mut Stage, fault: Fault) {
    if matches!(fault, Fault::FailoverKilled | Fault::FailoverFrozen) {
        stage.blocking(Databases::prepare_failover).await;
        // Until the standby has caught up and commits wait for it.
        sleep(Duration::from_secs(2)).await;
    }
}

/// Injects a fault, waits until it is over, and returns the time of its end, in microseconds.
pub(super) async fn inject(stage: &mut Stage, step: &Step) -> i64 {
    let number = step.dice as usize % stage.targets().len();
    let length = sleep(step.length);
    match step.fault {
        Fault::Kill => {
            stage.replicas[number].kill9();
            stage.replicas[number].start(0);
        }
        Fault::Stop => {
            stage.replicas[number].signal(Signal::STOP);
            length.await;
            stage.replicas[number].signal(Signal::CONT);
        }
        Fault::Rolling => {
            for replica in stage.targets() {
                replica.drain().await;
                replica.start(0);
                replica.ready().await;
            }
        }
        Fault::Clock(seconds) => {
            for clock in [seconds, 0] {
                stage.replicas[number].drain().await;
                stage.replicas[number].start(clock);
                if clock != 0 {
                    // Without a wait until it is ready: a replica that never is shows up in the recovery.
                    sleep(step.length).await;
                }
            }
        }
        Fault::HoleExisting => stage.proxy.black_hole_existing(),
        Fault::HoleAll | Fault::HoleReplies | Fault::Latency100 | Fault::Latency200 => {
            match step.fault {
                Fault::HoleAll => stage.proxy.black_hole(),
                Fault::HoleReplies => stage.proxy.drop_replies(),
                Fault::Latency100 => stage.proxy.delay(Duration::from_millis(100)),
                _ => stage.proxy.delay(Duration::from_millis(200)),
            }
            length.await;
            stage.proxy.heal();
        }
        fault if fault.is_of_backend() => stage.backend.inject(step).await,
        _ => inject_database_fault(stage, step).await,
    }
    now()
}

async fn inject_database_fault(stage: &mut Stage, step: &Step) {
    let length = step.length;
    match step.fault {
        Fault::DatabaseRestart => outage(stage, length, PrivatePostgres::stop_server).await,
        Fault::DatabaseCrash => outage(stage, length, PrivatePostgres::kill9).await,
        Fault::TerminatedBackends => stage.blocking(|databases| databases.execute(&terminate())).await,
        Fault::DatabasePaused => {
            stage.blocking(|databases| frozen::freeze(databases.primary())).await;
            sleep(length).await;
            stage.blocking(|databases| frozen::thaw(databases.primary())).await;
        }
        Fault::DiskFull => {
            stage.blocking(fill_disk).await;
            sleep(length).await;
            stage
                .blocking(|databases| {
                    databases.disk().expect("the fault was not skipped").free();
                    // A full disk may stop the server. An operator would start it again.
                    databases.primary().start_server().expect("the server starts");
                })
                .await;
        }
        Fault::ReadOnly => {
            stage.blocking(|databases| read_only(databases, "on")).await;
            sleep(length).await;
            stage.blocking(|databases| read_only(databases, "off")).await;
        }
        Fault::NoSlots => take_every_slot(&stage.databases().url(), length).await,
        _ => {
            let freeze = step.fault == Fault::FailoverFrozen;
            stage.blocking(move |databases| databases.fail_over(freeze)).await;
            stage.proxy.switch(stage.databases().address());
        }
    }
}

/// Stops the database for a while.
async fn outage(stage: &mut Stage, length: Duration, stop: fn(&mut PrivatePostgres)) {
    stage.blocking(move |databases| stop(databases.primary())).await;
    sleep(length).await;
    stage.blocking(|databases| databases.primary().start_server().expect("the server starts")).await;
}

/// Fills the disk, and the recycled segments of the write-ahead log.
fn fill_disk(databases: &mut Databases) {
    const SEGMENTS: usize = 20;
    databases.disk().expect("the fault was not skipped").fill();
    for _ in 0..SEGMENTS {
        let switched = databases
            .primary()
            .execute("SELECT pg_create_restore_point('full')")
            .and_then(|()| databases.primary().execute("SELECT pg_switch_wal()"));
        if switched.is_err() {
            return;
        }
    }
}

fn terminate() -> String {
    format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{DATABASE}' AND pid <> pg_backend_pid()"
    )
}

fn read_only(databases: &Databases, value: &str) {
    databases.execute(&format!("ALTER SYSTEM SET default_transaction_read_only = {value}"));
    databases.execute("SELECT pg_reload_conf()");
}

/// Terminates all sessions, and occupies every connection slot that becomes free.
async fn take_every_slot(url: &str, length: Duration) {
    let mut admin = PgConnection::connect(url).await.expect("a slot is free");
    let end = Instant::now() + length;
    let greedy = async || {
        let mut held = Vec::new();
        while Instant::now() < end {
            match tokio::time::timeout_at(end, PgConnection::connect(url)).await {
                Ok(Ok(connection)) => held.push(connection),
                _ => sleep(Duration::from_millis(5)).await,
            }
        }
        held
    };
    let terminating = async {
        // The free slots are occupied first.
        sleep(length / 4).await;
        let terminate = terminate().replace(
            "pid <> pg_backend_pid()",
            "pid <> pg_backend_pid() AND application_name LIKE 'nas-cron%'",
        );
        let _ = admin.execute(sqlx::AssertSqlSafe(terminate)).await;
    };
    let (held, ()) = tokio::join!(join_all((0..8).map(|_| greedy())), terminating);
    drop(held);
}
