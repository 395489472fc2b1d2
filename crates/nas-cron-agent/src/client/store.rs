//! The auth store: what the agent's tools keep for each server, in one private JSON file.
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
//! Any number of processes share it. Readers need no lock, as a write replaces the whole file at once; who changes
//! something takes the lock (`auth.json.lock`), reads, and writes. Fields that this version does not know
//! survive, so that other programs may keep theirs beside ours.

mod document;

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::document::{Document, Mode, ServerEntry, StoredBearer, StoredIdentity};
use nas_cron_base::private_file;

use super::server_url::ServerUrl;

/// Longer than a registration may take, during which another process holds the lock.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(10);
/// A store is a few kilobytes for each server.
const MAX_BYTES: u64 = 1 << 20;

/// Why the store cannot be used, and how that is mended. None shows anything that is in it.
#[derive(Debug, thiserror::Error)]
pub enum AuthStoreError {
    /// No path given, and none to be derived.
    #[error("there is no HOME to keep an auth store in; name a file with --auth-store")]
    NoHome,
    /// The file is there and cannot be read.
    #[error(
        "the auth store {path} cannot be read: {error}; mend its permissions, or name another one with --auth-store"
    )]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// Others may read or write it.
    #[error(
        "the auth store {path} holds secrets, and others may open it (mode {mode:04o}): `chmod 600 {path}`, and log in anew if \
         somebody may have read it"
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is somebody else's.
    #[error(
        "the auth store {path} belongs to another user (uid {owner}); run as that user, or name a store of your own with \
         --auth-store"
    )]
    Foreign {
        /// Which file.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// It is not what we write.
    #[error(
        "the auth store {path} {problem}; it is left as it is: restore it, or move it away and log in again with `nas-cron \
         cron login`"
    )]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where it breaks.
        problem: String,
    },
    /// A later version of this program wrote it.
    #[error(
        "the auth store {path} was written by a newer nas-cron (format {version}, this one knows 1); use that one, or name \
         another store with --auth-store"
    )]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its format.
        version: u64,
    },
    /// Another process does not let go of it.
    #[error(
        "another process has held the lock {path} for {waited:?}; `fuser {path}` says which one: end it, and try again"
    )]
    Locked {
        /// Which lock.
        path: PathBuf,
        /// For how long it was waited.
        waited: Duration,
    },
    /// It cannot be changed.
    #[error(
        "the auth store {path} cannot be written: {error}; mend the permissions of its folder, or name another one with \
         --auth-store"
    )]
    Unwritable {
        /// Which file.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
}

/// Where the store is. Nothing is opened until it is needed.
#[derive(Clone, Debug)]
pub struct AuthStore {
    path: PathBuf,
    lock_wait: Duration,
}

/// While it lives, no other process changes the store.
#[derive(Debug)]
pub struct LockedStore<'a> {
    store: &'a AuthStore,
    _lock: File,
}

impl AuthStore {
    /// The file that was named, or the user's own: `$XDG_CONFIG_HOME/nas-cron/auth.json`.
    pub fn named(path: Option<PathBuf>) -> Result<Self, AuthStoreError> {
        let path = path
            .or_else(|| {
                private_file::user_folder("XDG_CONFIG_HOME", ".config", |name| std::env::var_os(name))
                    .map(|folder| folder.join("nas-cron/auth.json"))
            })
            .ok_or(AuthStoreError::NoHome)?;
        // A link is followed: a write replaces the file that it leads to, and not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        Ok(Self { path, lock_wait: LOCK_WAIT })
    }

    /// The same, that waits less long for its lock.
    #[must_use]
    pub fn with_lock_wait(self, lock_wait: Duration) -> Self {
        Self { lock_wait, ..self }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in it now. A file that is not there is an empty store.
    pub fn read(&self) -> Result<Document, AuthStoreError> {
        let unreadable = |error| AuthStoreError::Unreadable { path: self.path.clone(), error };
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(error) => return Err(unreadable(error)),
        };
        // Of the file that is open, and not of one that has its name by then.
        let metadata = file.metadata().map_err(unreadable)?;
        let malformed = |problem| AuthStoreError::Malformed { path: self.path.clone(), problem };
        if !metadata.is_file() {
            return Err(malformed("is no file".to_owned()));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(AuthStoreError::Foreign { path: self.path.clone(), owner: metadata.uid() });
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
            (_, version) => Err(AuthStoreError::Newer { path: self.path.clone(), version }),
        }
    }

    /// What is kept for a server; `None` where it was never heard of.
    pub fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, AuthStoreError> {
        self.entry(&self.read()?, server)
    }

    /// Waits for the lock, for some seconds at most. The store's folder is made where it is missing.
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

    /// Changes what is kept for a server, under the lock; nothing is written where nothing changes.
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
    /// What is kept for a server now; `None` where it was never heard of.
    pub fn server(&self, server: &ServerUrl) -> Result<Option<ServerEntry>, AuthStoreError> {
        self.store.server(server)
    }

    /// Keeps this for a server, durably. What others keep in the file stays; a file that cannot be read is never replaced.
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
