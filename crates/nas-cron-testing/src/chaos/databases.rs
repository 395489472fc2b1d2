//! The primary, and a standby before a failover. All functions block.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nas_cron_dev::private_postgres::{Options, PrivatePostgres, Tcp};

use super::disk::Disk;
use crate::frozen;

/// The service's database.
pub(super) const DATABASE: &str = "chaos";
/// Enough for the sessions that half-open connections leave behind.
const MAX_CONNECTIONS: &str = "300";

/// A server and its file system. The server is dropped first.
struct Server {
    postgres: PrivatePostgres,
    disk: Option<Disk>,
}

/// The servers of a run.
pub(super) struct Databases {
    dir: PathBuf,
    /// True if each server has a separate file system.
    disks: bool,
    number: u32,
    primary: Server,
    standby: Option<Server>,
    /// The primary before a failover, which may be frozen.
    former: Option<Server>,
}

impl Databases {
    /// Starts a primary below `dir`. With `disks`, each server gets a separate file system where that is possible.
    pub(super) fn start(dir: &Path, disks: bool) -> Self {
        let (options, disk) = place(dir, 0, disks);
        let postgres = PrivatePostgres::start(options).unwrap_or_else(|error| panic!("{error}"));
        postgres.create_database(DATABASE).expect("a database can be created");
        let primary = Server { postgres, disk };
        Self { dir: dir.to_owned(), disks, number: 1, primary, standby: None, former: None }
    }

    /// Returns the server that accepts writes.
    pub(super) fn primary(&mut self) -> &mut PrivatePostgres {
        &mut self.primary.postgres
    }

    /// Returns the primary's file system, if it has a separate one.
    pub(super) fn disk(&self) -> Option<&Disk> {
        self.primary.disk.as_ref()
    }

    pub(super) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.primary.postgres.port()))
    }

    pub(super) fn url(&self) -> String {
        self.primary.postgres.tcp_url(DATABASE).expect("it listens")
    }

    /// Runs a statement on the primary.
    pub(super) fn execute(&self, statement: &str) {
        let executed = self.primary.postgres.execute(statement);
        executed.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }

    /// Starts a standby with synchronous replication.
    pub(super) fn prepare_failover(&mut self) {
        self.kill_former();
        let (options, disk) = place(&self.dir, self.number, self.disks);
        self.number += 1;
        let primary = &self.primary.postgres;
        let postgres = primary.start_standby(options).unwrap_or_else(|error| panic!("{error}"));
        primary.wait_for_standby(true).expect("a setting can be changed");
        self.standby = Some(Server { postgres, disk });
    }

    /// Kills or freezes the primary, and promotes the standby in its place.
    pub(super) fn fail_over(&mut self, freeze: bool) {
        let standby = self.standby.take().expect("a standby was prepared");
        let mut former = std::mem::replace(&mut self.primary, standby);
        if freeze {
            frozen::freeze(&former.postgres);
        } else {
            former.postgres.kill9();
        }
        self.former = Some(former);
        self.primary.postgres.promote().expect("a standby can be promoted");
    }

    /// Kills the former primary.
    pub(super) fn kill_former(&mut self) {
        if let Some(mut former) = self.former.take()
            && former.postgres.is_running()
        {
            frozen::thaw(&former.postgres);
            former.postgres.kill9();
        }
    }
}

fn place(dir: &Path, number: u32, disks: bool) -> (Options, Option<Disk>) {
    let dir = dir.join(format!("database-{number}"));
    fs::create_dir(&dir).expect("a new folder");
    let disk = if disks { Disk::mount(&dir) } else { None };
    let settings =
        [("max_connections", MAX_CONNECTIONS), ("max_wal_size", "256MB"), ("min_wal_size", "80MB")];
    let options = Options {
        durable: false,
        tcp: Tcp::AnyPort,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        remove_on_drop: true,
        ..Options::new(dir.join("pg"))
    };
    (options, disk)
}
