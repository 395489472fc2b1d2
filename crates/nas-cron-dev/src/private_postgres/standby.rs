//! A hot standby that replicates another private Postgres by streaming, for tests of failover.

use super::{Options, PrivatePostgres, Result, SUPERUSER, wire};

impl PrivatePostgres {
    /// Copies this running server into the new folder of `options`, and starts the copy as its hot standby.
    ///
    /// Replication is asynchronous until [`Self::wait_for_standby`] makes it synchronous.
    pub fn start_standby(&self, options: Options) -> Result<Self> {
        Self::start_with(options, |standby, cluster| {
            standby.make_cluster(cluster, |unfinished| {
                let mut copy = standby.command(standby.installation.basebackup());
                copy.arg("-D").arg(unfinished).arg("-h").arg(&self.socket_dir);
                copy.args(["-p", &self.port.to_string(), "-U", SUPERUSER]);
                // Writes the setting and the file that make the copy a standby.
                copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
                copy
            })
        })
    }

    /// Makes replication synchronous or asynchronous: commits do or do not wait for a standby.
    pub fn wait_for_standby(&self, wait: bool) -> Result<()> {
        let names = if wait { "*" } else { "" };
        self.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
        self.execute("SELECT pg_reload_conf()")
    }

    /// Promotes this standby to primary. Returns when it accepts writes.
    pub fn promote(&self) -> Result<()> {
        self.execute("SELECT pg_promote(true, 30)")
    }

    /// Runs a statement as the superuser, in the database `postgres`, over the Unix socket.
    pub fn execute(&self, statement: &str) -> Result<()> {
        wire::execute(&self.socket(), statement)
    }
}
