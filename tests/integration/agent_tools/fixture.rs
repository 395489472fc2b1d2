//! The agent's tools: the real binary with a home folder that is removed after the test.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nas_cron_testing::service::binary;
use serde_json::Value;

/// Result of a command.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    /// Returns stdout. Requires exit code 0 and an empty stderr.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert!(self.code == Some(0) && self.err.is_empty(), "{self:?}");
        self.out
    }

    /// Returns stdout as JSON. Requires exit code 0 and an empty stderr.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Returns stdout and stderr. Requires exit code 0 and exactly one warning.
    #[track_caller]
    pub(crate) fn warned(self) -> (String, String) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert_eq!(self.err.matches("warning: ").count(), 1, "{self:?}");
        (self.out, self.err)
    }

    /// Returns stderr. Requires this exit code, an empty stdout, and one line on stderr with this text.
    #[track_caller]
    pub(crate) fn failed(self, code: i32, why: &str) -> String {
        assert!(self.code == Some(code) && self.err.contains(why) && self.out.is_empty(), "{why}: {self:?}");
        assert_eq!(self.err.lines().count(), 1, "{self:?}");
        self.err
    }
}

/// A home folder for the tools, and their server.
pub(crate) struct Tools {
    home: PathBuf,
    server: Option<String>,
}

impl Tools {
    /// Tools for this server.
    pub(crate) fn at(server: &str) -> Self {
        let mut tools = Self::without_server();
        tools.server = Some(server.to_owned());
        tools
    }

    /// Tools without a server.
    pub(crate) fn without_server() -> Self {
        let home = std::env::temp_dir().join(format!("nas-cron-tools-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&home).unwrap();
        Self { home, server: None }
    }

    /// Tools that are logged in at this server with this token.
    pub(crate) async fn logged_in(server: &str, token: &str) -> Self {
        let tools = Self::at(server);
        tools.run_with("login", token).await.ok();
        tools
    }

    /// Path of a file in the home folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.join(name)
    }

    /// Default path of the auth store.
    pub(crate) fn auth_store(&self) -> PathBuf {
        self.path("config/nas-cron/auth.json")
    }

    /// Content of the auth store.
    pub(crate) fn stored(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.auth_store()).unwrap()).unwrap()
    }

    /// Builds `nas-cron cron …` from arguments separated by blanks.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = binary();
        command.arg("cron").args(line.split_whitespace());
        command.env("XDG_CONFIG_HOME", self.path("config")).env("TZ", "XST-3:30");
        if let Some(server) = &self.server {
            command.env("NAS_CRON_SERVER", server);
        }
        command
    }

    /// Runs a command line to its end.
    pub(crate) async fn run(&self, line: &str) -> Done {
        run(self.command(line), "").await
    }

    /// Runs a command line with input on stdin.
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
        let mut child = command.spawn().expect("the command starts");
        // The command may exit without reading its input.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("the command ends");
        Done {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}
