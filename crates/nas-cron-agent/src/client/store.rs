//! The auth store: the credentials and defaults of the agent's tools for each server, in one private JSON file.
//!
//! ```text
//! {"version": 1, "servers": {"https://portal.example": {
//!    "bearer":             {"access_token", "expires_at"},
//!    "agent_identity":     {"agent_runtime_id", "private_key", "registered_at", "background_task_id"},
//!    "pending_private_key": …,
//!    "use_agent_identity": "on" | "off",
//!    "agent_callback_url": …}}}
//! ```
//!
//! Any number of processes share it. A write replaces the whole file at once, so readers need no lock. A writer takes the
//! lock (`auth.json.lock`), reads and writes. Unknown fields survive, so that other programs may keep theirs in the file.

mod document;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::document::{Document, Mode, ServerEntry, StoredBearer, StoredIdentity};
use nas_cron_base::private_file;

use super::server_url::ServerUrl;

/// Maximum wait for the lock. Longer than a registration, during which another process holds it.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);
/// Maximum size of the file. An entry takes a few kilobytes.
const MAX_BYTES: u64 = 1 << 20;

/// An unusable auth store, with the fix. No error contains any of its content.
#[derive(Debug, thiserror::Error)]
pub enum AuthStoreError {
    /// No path is given, and `HOME` is not set.
    #[error("no path for the auth store: HOME is not set; give a file with --auth-store")]
    NoHome,
    /// Reading an existing file failed.
    #[error(
        "reading the auth store {path} failed: {error}; fix its permissions, or give another file with --auth-store"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Other users may read or write the file.
    #[error(
        "the auth store {path} holds secrets, but other users may open it (mode {mode:04o}): run `chmod 600 {path}`, and log in \
         again if another user may have read it"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file belongs to another user.
    #[error(
        "the auth store {path} belongs to another user (uid {owner}); run as that user, or give your own file with \
         --auth-store"
    )]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// The user's ID.
        owner: u32,
    },
    /// The content is not an auth store.
    #[error(
        "the auth store {path} {problem}; it was not changed: restore it, or move it aside and log in again with \
         `nas-cron cron login`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The problem, as a phrase that follows the path.
        problem: String,
    },
    /// A newer nas-cron wrote the file.
    #[error(
        "the auth store {path} was written by a newer nas-cron (format {version}; this version supports 1): use that version, \
         or give another file with --auth-store"
    )]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u64,
    },
    /// Another process holds the lock.
    #[error(
        "another process has held the lock {path} for {waited:?}; find it with `fuser {path}`, end it, and try again"
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// Time spent waiting.
        waited: Duration,
    },
    /// Writing the file failed.
    #[error(
        "writing the auth store {path} failed: {error}; fix the permissions of its folder, or give another file with \
         --auth-store"
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// The path of the store. Each operation opens the file again.
#[derive(Clone, Debug)]
pub struct AuthStore {
    path: PathBuf,
    lock_wait: Duration,
}

/// The locked store. Until it is dropped, no other process changes the file.
#[derive(Debug)]
pub struct LockedStore<'a> {
    store: &'a AuthStore,
    _lock: File,
}

impl AuthStore {
    /// Returns the store at `path`, by default at `$XDG_CONFIG_HOME/nas-cron/auth.json`.
    pub fn named(path: Option<PathBuf>) -> Result<Self, AuthStoreError> {
        let path = path
            .or_else(|| {
                private_file::user_folder("XDG_CONFIG_HOME", ".config", |name| std::env::var_os(name))
                    .map(|folder| folder.join("nas-cron/auth.json"))
            })
            .ok_or(AuthStoreError::NoHome)?;
        // Follow a symbolic link, so that a write replaces its target and not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        Ok(Self { path, lock_wait: LOCK_WAIT })
    }

    /// Returns the store with another maximum wait for the lock.
    #[must_use]
    pub fn with_lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file. A missing file is an empty store.
    pub fn read(&self) -> Result<Document, AuthStoreError> {
        let unreadable = |error| AuthStoreError::Unreadable { path: self.path.clone(), error };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) => return Err(unreadable(error)),
        };
        // The metadata of the open file: the path may lead to another file by now.
        let metadata = file.metadata().map_err(unreadable)?;
        let malformed = |problem| AuthStoreError::Malformed { path: self.path.clone(), problem };
        if !metadata.is_file() {
            return Err(malformed("is not a regular file".to_owned()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(AuthStoreError::WrongOwner { path: self.path.clone(), owner: metadata.uid() });
        }
        let mode = metadata.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(AuthStoreError::Exposed { path: self.path.clone(), mode });
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(malformed(format!("is longer than {MAX_BYTES} bytes")));
        }
        match Document::parse(&bytes).map_err(malformed)? {
            (document, 1) => Ok(document),
            (_, version) => Err(AuthStoreError::NewerFormat { path: self.path.clone(), version }),
        }
    }

    /// Reads the entry of a server; `None` if it has none.
    pub fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, AuthStoreError> {
        self.entry(&self.read()?, server)
    }

    /// Takes the lock, after a wait of at most `LOCK_WAIT`. Creates the store's folder if it is missing.
    pub async fn lock(&self) -> Result<LockedStore<'_>, AuthStoreError> {
        let unwritable = |error| AuthStoreError::Unwritable { path: self.path.clone(), error };
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unwritable)?;
        }
        let path = self.path.with_added_extension("lock");
        match private_file::lock(&path, self.lock_wait).await {
            Ok(lock) => Ok(LockedStore { store: self, _lock: lock }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(AuthStoreError::Locked { path, waited: self.lock_wait })
            }
            Err(error) => Err(unwritable(error)),
        }
    }

    /// Changes the entry of a server under the lock. Writes only if something changed.
    pub async fn change<T>(
        &self,
        server: &ServerUrl,
        change: impl FnOnce(&mut ServerEntry) -> T,
    ) -> Result<T, AuthStoreError> {
        let locked = self.lock().await?;
        let mut entry = locked.server(server)?.unwrap_or_default();
        let result = change(&mut entry);
        locked.put(server, &entry)?;
        Ok(result)
    }

    fn entry(&self, document: &Document, server: &ServerUrl) -> Result<Option<ServerEntry>, AuthStoreError> {
        document
            .server(server)
            .map_err(|problem| AuthStoreError::Malformed { path: self.path.clone(), problem })
    }
}

impl LockedStore<'_> {
    /// Reads the entry of a server; `None` if it has none.
    pub fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, AuthStoreError> {
        self.store.server(server)
    }

    /// Stores the entry of a server durably. Unknown fields stay. An unreadable file is never replaced.
    pub fn put(&self, server: &ServerUrl, entry: &ServerEntry) -> Result<(), AuthStoreError> {
        let before = self.store.read()?;
        let after = before.clone().with(server, entry);
        if after == before {
            return Ok(());
        }
        private_file::write(&self.store.path, &after.to_bytes())
            .map_err(|error| AuthStoreError::Unwritable { path: self.store.path.clone(), error })
    }
}

#[cfg(test)]
mod tests;
