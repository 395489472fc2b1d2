//! The programs of a private Postgres: what creates its cluster, and the server.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::keeper::Keeper;
use super::wire::{self, Probe};
use super::{POLL, PrivatePostgres, PrivatePostgresError, Result, START_LIMIT, SUPERUSER, Tcp, error};

impl PrivatePostgres {
    /// Returns a command that runs as the server's user and ignores the caller's `PG*` variables.
    pub(super) fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(name);
        }
        // The C locale keeps the messages in English, because the log is searched for some of them.
        command.env("LC_ALL", "C").current_dir(&self.options.data_dir);
        if let Some(identity) = &self.identity {
            identity.assume(&mut command);
        }
        command
    }

    /// Creates the cluster with `initdb`.
    pub(super) fn init(&self, cluster: &Path) -> Result<()> {
        self.make_cluster(cluster, |unfinished| {
            let mut initdb = self.command(self.installation.initdb());
            initdb.arg("-D").arg(unfinished);
            initdb.args(["-U", SUPERUSER, "--auth=trust", "--no-sync", "--locale=C", "-E", "UTF8"]);
            initdb
        })
    }

    /// Runs a command that creates a cluster. The cluster is renamed when it is complete, so that an interrupted command
    /// does not leave a partial one.
    pub(super) fn make_cluster(&self, cluster: &Path, command: impl FnOnce(&Path) -> Command) -> Result<()> {
        let unfinished = self.options.data_dir.join("cluster.new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(PrivatePostgresError::io("remove", &unfinished)(error));
            }
            _ => {}
        }
        self.make_dir(&unfinished)?;
        let mut command = command(&unfinished);
        let program = PathBuf::from(command.get_program());
        let output = command.output().map_err(PrivatePostgresError::io("run", &program))?;
        if !output.status.success() {
            let program = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = [output.stdout, output.stderr].concat();
            return Err(PrivatePostgresError::Init { program, output: error::tail(&text) });
        }
        fs::rename(&unfinished, cluster).map_err(PrivatePostgresError::io("rename", &unfinished))
    }

    /// Creates a folder that only the server's user can read.
    fn make_dir(&self, dir: &Path) -> Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && !dir.is_symlink() => {}
            result => result.map_err(PrivatePostgresError::io("create", dir))?,
        }
        if let Some(identity) = &self.identity {
            identity.take_over(dir)?;
        }
        Ok(())
    }

    /// Tries once to start the server.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.make_dir(&self.socket_dir)?;
        let log_path = self.log_path();
        let log = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&log_path)
            .map_err(PrivatePostgresError::io("open", &log_path))?;
        let old_log_bytes = log.metadata().map_or(0, |metadata| metadata.len());
        let log_since = || error::log_tail(&log_path, old_log_bytes);

        let mut command = self.command("/bin/sh");
        // A socket folder outside the data folder is removed by the keeper.
        let own_dir = self.socket_dir.starts_with(&self.options.data_dir);
        let litter = if own_dir { Path::new("") } else { &self.socket_dir };
        Keeper::prepare(&mut command, litter, &self.installation.postgres());
        command.arg("-D").arg(self.cluster()).arg("-k").arg(&self.socket_dir);
        command.args(["-p", &self.port.to_string()]);
        for (name, value) in self.settings() {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let socket = self.socket();
        let keeper = self.keeper.insert(Keeper::spawn(command, log)?);

        let deadline = Instant::now() + START_LIMIT;
        loop {
            // Checked before the probe, which might reach another server on the same socket.
            let gone = !keeper.is_running();
            if gone {
                self.keeper = None;
                return Err(PrivatePostgresError::Exited { log: log_since() });
            }
            match wire::probe(&socket) {
                Probe::Ready => return Ok(()),
                Probe::NotYet if Instant::now() < deadline => std::thread::sleep(POLL),
                Probe::NotYet => {
                    self.stop_server();
                    return Err(PrivatePostgresError::NotReady { limit: START_LIMIT, log: log_since() });
                }
            }
        }
    }

    /// Returns the settings; later ones override earlier ones.
    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let listen = if self.options.tcp == Tcp::Off { "" } else { "127.0.0.1" };
        let switch = if self.options.durable { "on" } else { "off" };
        [
            ("listen_addresses", listen),
            ("unix_socket_permissions", "0700"),
            ("fsync", switch),
            ("full_page_writes", switch),
            ("cluster_name", "nas-cron"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            ("log_destination", "stderr"),
            ("logging_collector", "off"),
        ]
        .into_iter()
        .chain(self.options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }
}
