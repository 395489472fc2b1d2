//! The folder of a private Postgres: its lock, its permissions, and the remains of earlier servers.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::{PrivatePostgresError, Result};

/// Marks the folder of a private Postgres, and is locked while the folder is in use.
const LOCK: &str = "nas-cron.lock";
/// Maximum time to wait for a lock that another process holds briefly.
const LOCKED_FOR: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(10);
/// Maximum length of a Unix socket's path: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Creates the folder, or reuses an empty one or that of an earlier start, and locks it. The lock ends with the process.
pub(super) fn claim(folder: &Path) -> Result<File> {
    fs::create_dir_all(folder).map_err(PrivatePostgresError::io("create", folder))?;
    let path = folder.join(LOCK);
    let mut entries = fs::read_dir(folder).map_err(PrivatePostgresError::io("read", folder))?;
    if entries.next().is_some() && !path.exists() {
        return Err(PrivatePostgresError::NotOurs { folder: folder.to_owned() });
    }
    let open = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = open.map_err(PrivatePostgresError::io("open", &path))?;
    let start = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            // A child of this process that is being started holds the lock, too, until it executes its program.
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCKED_FOR => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => {
                return Err(PrivatePostgresError::InUse { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(PrivatePostgresError::io("lock", &path)(error)),
        }
    }
}

/// True if a process uses the folder for a server.
pub fn is_in_use(folder: &Path) -> bool {
    let lock = File::options().write(true).open(folder.join(LOCK));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Prefix of the names of temporary folders.
pub(super) const TEMPORARY: &str = "nas-cron-pg-";
/// Minimum age of an abandoned folder: a younger one may not be locked yet.
const YOUNG: Duration = Duration::from_secs(30);

/// Removes abandoned temporary folders below `parent`. Their processes ended without dropping the server, because they
/// were killed, or because a test binary held it in a static.
pub(super) fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let folder = entry.path();
        let temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if !temporary || age.is_none_or(|age| age < YOUNG) {
            continue;
        }
        let Ok(lock) = File::options().write(true).open(folder.join(LOCK)) else { continue };
        if lock.try_lock().is_ok() && !is_served(&folder.join("cluster")) {
            // It may belong to another user, or another process may be removing it.
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Sets the mode of the folder. The server's user may enter it but not list it; the folder and its log keep their owner.
pub(super) fn open_for(identity: Option<&Identity>, folder: &Path) -> Result<()> {
    let mode = if identity.is_some() { 0o711 } else { 0o700 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        .map_err(PrivatePostgresError::io("set the mode of", folder))
}

/// Returns the folder of the socket: inside `folder`, or a separate short one if the path would be too long.
pub(super) fn socket_dir(folder: &Path, port: u16) -> PathBuf {
    let inside = folder.join("socket");
    if inside.join(socket_name(port)).as_os_str().len() <= MAX_SOCKET_PATH {
        return inside;
    }
    Path::new("/tmp").join(format!("nas-cron-pg-{:016x}", rand::random::<u64>()))
}

/// Returns the name that Postgres gives the socket.
pub(super) fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// Returns a TCP port that was just free.
pub(super) fn free_port() -> Result<u16> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    any.map(|address| address.port()).map_err(PrivatePostgresError::io("listen on", Path::new("127.0.0.1")))
}

/// True if a start failed because of an earlier server on the same cluster.
pub(super) fn is_predecessor_in_the_way(log: &str) -> bool {
    // A postmaster that is still running, or backends that have outlived theirs.
    log.contains("lock file \"postmaster.pid\" already exists")
        || log.contains("pre-existing shared memory block")
}

/// True if a server is running on the cluster. Without `/proc` always false: Postgres then reports the conflict.
pub(super) fn is_served(cluster: &Path) -> bool {
    postmaster_dir(cluster).is_some_and(|dir| is_same(&dir, cluster))
}

/// Removes a stale `postmaster.pid` whose process id now belongs to another program of the same user, a case that
/// Postgres does not detect. Returns true if it was removed.
pub(super) fn remove_stale_pid_file(cluster: &Path) -> bool {
    postmaster_dir(cluster).is_some_and(|dir| !is_same(&dir, cluster))
        && fs::remove_file(cluster.join("postmaster.pid")).is_ok()
}

/// Returns the working directory of the process that `postmaster.pid` names, if it is running. That of a postmaster is
/// its cluster.
fn postmaster_dir(cluster: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
