//! A hot standby that follows another private Postgres by streaming replication, for tests of failover.

use super::{Options, PrivatePostgres, Result, SUPERUSER, wire};

impl PrivatePostgres {
    /// Copies this running server into the new folder of `options`, and starts the copy as a hot standby that follows it.
    ///
    /// Replication is asynchronous until [`Self::wait_for_standby`] makes it synchronous.
    pub fn start_standby(&self, options: Options) -> Result<Self> {
        Self::start_with(options, |standby, cluster| {
            standby.make_cluster(cluster, |unfinished| {
                let mut copy = standby.command(standby.installation.basebackup());
                copy.arg("-D").arg(unfinished).arg("-h").arg(&self.socket_dir);
                copy.args(["-p", &self.port.to_string(), "-U", SUPERUSER]);
                // The setting and the file that make a standby are written, too.
                copy.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
                copy
            })
        })
    }

    /// Makes commits wait for a standby from now on, or not any more.
    pub fn wait_for_standby(&self, wait: bool) -> Result<()> {
        let names = if wait { "*" } else { "" };
        self.execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{names}'"))?;
        self.execute("SELECT pg_reload_conf()")
    }

    /// Makes this standby a primary. Returns when it takes writes.
    pub fn promote(&self) -> Result<()> {
        self.execute("SELECT pg_promote(true, 30)")
    }

    /// Runs a statement as the superuser, in the database `postgres`, over the Unix socket.
    pub fn execute(&self, statement: &str) -> Result<()> {
        wire::execute(&self.socket(), statement)
    }
}
