//! A Postgres server that archives its log and is recovered to a point in time, with the settings and commands of
//! docs/backup.md.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nas_cron_dev::private_postgres::{Options, PrivatePostgres, Tcp};
use nas_cron_testing::ports::free_address;

use super::page::{commands, postgres_settings};

/// The folders of the page.
const BACKUPS: &str = "/backups";
const DATA: &str = "/var/lib/postgresql/data";
const RECOVERED: &str = "/var/lib/postgresql/recovered";
/// The time of the page.
const TIME: &str = "2026-06-18 12:34:56+00";
const DATABASE: &str = "nas_cron";

/// The server, its backups, and the recovered server. Dropping this stops both and removes everything.
pub(super) struct Archived {
    postgres: PrivatePostgres,
    /// Has the backups and the recovered server.
    folder: PathBuf,
    /// Port of the recovered server.
    port: u16,
    keeper: Option<Child>,
}

impl Archived {
    /// Starts the server, with an empty database.
    pub(super) async fn start() -> Self {
        tokio::task::spawn_blocking(Self::start_now).await.expect("no panic")
    }

    fn start_now() -> Self {
        let options = Options { tcp: Tcp::AnyPort, ..Options::temporary() };
        let mut postgres = PrivatePostgres::start(options).unwrap_or_else(|error| panic!("{error}"));
        postgres.create_database(DATABASE).unwrap();
        postgres.stop_server();
        let name = format!("nas-cron-archived-{:016x}", rand::random::<u64>());
        let folder = std::env::temp_dir().join(name);
        let port = free_address().port();
        let archived = Self { postgres, folder, port, keeper: None };
        archived.set_up()
    }

    /// Creates the archive and starts the server again, with the settings of the page.
    fn set_up(mut self) -> Self {
        let owner = fs::metadata(self.cluster()).unwrap();
        for folder in [self.folder.clone(), self.folder.join("log")] {
            fs::create_dir(&folder).unwrap();
            chown(&folder, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        let path = self.cluster().join("postgresql.conf");
        // The last four are those of the recovered server: this one has its own on its command line.
        let settings = format!(
            "{}\n{}\nport = {}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n",
            fs::read_to_string(&path).unwrap(),
            self.placed(&postgres_settings()),
            self.port,
            self.folder.display()
        );
        fs::write(&path, settings).unwrap();
        self.postgres.start_server().unwrap();
        self
    }

    /// Returns the URL of the database.
    pub(super) fn url(&self) -> String {
        self.postgres.tcp_url(DATABASE).expect("TCP is enabled")
    }

    /// Makes a base backup.
    pub(super) async fn back_up(&self) {
        self.run(&commands("pg_basebackup "), self.postgres.port()).await;
    }

    /// Stops the server and recovers its database to `time`. Returns the URL of the recovered database.
    pub(super) async fn recover(&mut self, time: &str) -> String {
        self.keeper = Some(self.keeper());
        self.run(&commands("recovery.signal").replace(TIME, time), self.port).await;
        format!("postgres://postgres@127.0.0.1:{}/{DATABASE}", self.port)
    }

    /// Runs commands of the page, for which the server at `port` is the default.
    async fn run(&self, commands: &str, port: u16) {
        let script = self.placed(commands);
        let mut bash = self.command("bash");
        bash.args(["-euo", "pipefail", "-c", &script]).env("PGPORT", port.to_string());
        let ended = tokio::process::Command::from(bash).kill_on_drop(true).output().await;
        let ended = ended.expect("bash is installed");
        let text = String::from_utf8_lossy(&[ended.stdout, ended.stderr].concat()).into_owned();
        let log = fs::read_to_string(self.recovered().with_extension("log")).unwrap_or_default();
        assert!(ended.status.success(), "{script}\n{text}\n{log}");
    }

    /// Starts a shell that stops the recovered server when its stdin ends: with this process, also if that is killed.
    fn keeper(&self) -> Child {
        let mut shell = self.command("sh");
        shell.args(["-c", "cat; pg_ctl stop --mode immediate --pgdata \"$0\""]).arg(self.recovered());
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A ^C must stop this process only.
        shell.process_group(0).spawn().expect("a shell")
    }

    /// Returns a command that runs as the server's user, and finds the programs of its version first.
    fn command(&self, program: &str) -> Command {
        let owner = fs::metadata(self.cluster()).unwrap();
        // Folders of links often have the server only.
        let server = self.postgres.programs().join("postgres").canonicalize().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", server.parent().expect("a folder").display());
        let mut command = Command::new(program);
        command.uid(owner.uid()).gid(owner.gid()).current_dir(&self.folder);
        command.env("PATH", path).env("PGHOST", "127.0.0.1").env("PGUSER", "postgres");
        command
    }

    /// Returns a text of the page with the folders of this server.
    fn placed(&self, text: &str) -> String {
        let shown = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        text.replace(BACKUPS, &shown(&self.folder))
            .replace(RECOVERED, &shown(&self.recovered()))
            .replace(DATA, &shown(&self.cluster()))
    }

    fn cluster(&self) -> PathBuf {
        self.postgres.data_dir().join("cluster")
    }

    fn recovered(&self) -> PathBuf {
        self.folder.join("recovered")
    }
}

impl Drop for Archived {
    fn drop(&mut self) {
        if let Some(mut keeper) = self.keeper.take() {
            // Waiting closes its stdin first.
            let _ = keeper.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}
