//! Files that only their owner may read, the user's folders for them, and locks between processes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

/// Interval between tries to take a lock that another process holds, typically for milliseconds to seconds.
const RETRY_LOCK_EVERY: Duration = Duration::from_millis(20);

/// Writes a file atomically, readable only by its owner. The file is durable when this returns.
///
/// Concurrent writers of one file need a lock: all use the same temporary name, so that killed processes leave at most one
/// temporary file.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = unfinished(path, bytes)?;
    fs::rename(&unfinished, path)?;
    keep_name(path)
}

/// Like [`write()`], but fails with `AlreadyExists` if the file exists.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = unfinished(path, bytes)?;
    // Unlike a rename, a link fails if the target exists.
    let linked = fs::hard_link(&unfinished, path);
    fs::remove_file(&unfinished)?;
    linked?;
    keep_name(path)
}

fn unfinished(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let unfinished = path.with_added_extension("tmp");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Always a new file: an existing one would keep its owner and mode, and might be a link.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(unfinished)
}

fn keep_name(path: &Path) -> io::Result<()> {
    match path.parent() {
        // Without this, the name may refer to the old content after a crash of the machine.
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Returns a user's folder by the XDG base directory rules: the value of the variable `named_by` if it is an absolute
/// path, otherwise `below_home` under `HOME`, or `None` without `HOME`.
pub fn user_folder(
    named_by: &str,
    below_home: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let named = variable(named_by).map(PathBuf::from).filter(|path| path.is_absolute());
    let home =
        || variable("HOME").filter(|home| !home.is_empty()).map(|home| Path::new(&home).join(below_home));
    named.or_else(home)
}

/// Opens a lock file, and creates it if it is missing. Its content is never used.
pub fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)
}

/// Takes a lock between processes. It is held until the returned file is dropped or the process ends.
///
/// Fails with `TimedOut` if another process holds the lock for longer than `within`.
pub async fn lock(path: &Path, within: Duration) -> io::Result<File> {
    let file = open_lock(path)?;
    let deadline = Instant::now() + within;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::Error(error)) => return Err(error),
            Err(fs::TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            // A blocking wait needs a thread that cannot be cancelled: for a lock that is never released, such threads
            // would accumulate.
            Err(fs::TryLockError::WouldBlock) => tokio::time::sleep(RETRY_LOCK_EVERY).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn write_replaces_the_whole_file_for_its_owner_alone_despite_leftovers_of_a_killed_process() {
        let scratch = Scratch::new();
        let path = scratch.path().join("secret");
        fs::write(scratch.path().join("secret.tmp"), "half").unwrap();
        fs::set_permissions(scratch.path().join("secret.tmp"), fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&path, "before").unwrap();
        write(&path, b"after").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"after");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    }

    #[test]
    fn planted_links_are_not_followed_and_existing_files_stay() {
        let scratch = Scratch::new();
        let (path, elsewhere) = (scratch.path().join("secret"), scratch.path().join("elsewhere"));
        fs::write(&elsewhere, "theirs").unwrap();
        std::os::unix::fs::symlink(&elsewhere, scratch.path().join("secret.tmp")).unwrap();
        write_new(&path, b"ours").unwrap();
        assert_eq!(fs::read(&elsewhere).unwrap(), b"theirs");
        assert_eq!(write_new(&path, b"again").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"ours");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn lock_waits_until_its_timeout() {
        let scratch = Scratch::new();
        let path = scratch.path().join("lock");
        let held = lock(&path, Duration::from_mins(1)).await.unwrap();
        let error = lock(&path, Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { lock(&path, Duration::from_mins(1)).await.map(drop) }
        });
        tokio::task::yield_now().await;
        drop(held);
        waiting.await.unwrap().unwrap();
        // A caller that timed out holds nothing.
        lock(&path, Duration::from_mins(1)).await.unwrap();
    }
}
