//! An agent's tools on a machine of their own: the real binary, with a home that goes with the test.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nas_cron_testing::service::binary;
use serde_json::Value;

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Its result, where it did without a word on stderr.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// The same, read as JSON.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// What it said, where it did, and warned once.
    #[track_caller]
    pub(crate) fn warned(self) -> (String, String) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.err.matches("warning: ").count(), 1, "{self:?}");
        (self.out, self.err)
    }

    /// What it said, where it did not do, for this reason.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, why: &str) -> String {
        assert!(self.code == Some(code) && self.err.contains(why) && self.out.is_empty(), "{why}: {self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        self.err
    }
}

/// A machine with the tools on it.
pub(crate) struct Tools {
    home: PathBuf,
    server: Option<String>,
}

impl Tools {
    /// Whose server is this one.
    pub(crate) fn at(server: &str) -> Self {
        let mut tools = Self::without_server();
        tools.server = Some(server.to_owned());
        tools
    }

    /// That have never heard of a server.
    pub(crate) fn without_server() -> Self {
        let home = std::env::temp_dir().join(format!("nas-cron-tools-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        Self { home, server: None }
    }

    /// At this server, with this token.
    pub(crate) async fn logged_in(server: &str, token: &str) -> Self {
        let tools = Self::at(server);
        tools.run_with("login", token).await.ok();
        tools
    }

    /// A file of the machine.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Where the tools keep what they know, by default.
    pub(crate) fn auth_store(&self) -> PathBuf {
        self.path("config/nas-cron/auth.json")
    }

    /// What is there.
    pub(crate) fn stored(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.auth_store()).unwrap()).unwrap()
    }

    /// `nas-cron cron …`; its words are separated by blanks.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = binary();
        command.arg("cron").args(line.split_whitespace());
        command.env("XDG_CONFIG_HOME", self.path("config")).env("TZ", "XST-3:30");
        if let Some(server) = &self.server {
            command.env("NAS_CRON_SERVER", server);
        }
        command
    }

    /// Runs it to its end.
    pub(crate) async fn run(&self, line: &str) -> Done {
        run(self.command(line), "").await
    }

    /// Runs it with something on stdin.
    pub(crate) async fn run_with(&self, line: &str, input: &str) -> Done {
        run(self.command(line), input).await
    }
}

impl Drop for Tools {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command, input: &str) -> Done {
    let input = input.to_owned();
    let work = move || {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // It may end without having read it.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}
