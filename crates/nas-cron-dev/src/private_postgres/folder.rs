//! The folder of a private Postgres: whose it is, and what an earlier server left in it.

use std::fs::{self, File, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::identity::Identity;
use super::{PrivatePostgresError, Result};

/// Marks a folder as ours, and is locked while it is in use.
const LOCK: &str = "nas-cron.lock";
/// How long somebody may hold the lock in passing.
const LOCKED_FOR: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(10);
/// The longest path of a Unix socket that can be connected to: `sun_path` without its final zero.
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Makes the folder, or takes over one that is empty or ours, and locks it. The lock goes with the process,
/// however it ends.
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
            // A child of this process that is just being started holds it as well, until it has become its program.
            Err(TryLockError::WouldBlock) if start.elapsed() < LOCKED_FOR => thread::sleep(LOCK_POLL),
            Err(TryLockError::WouldBlock) => {
                return Err(PrivatePostgresError::InUse { folder: folder.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(PrivatePostgresError::io("lock", &path)(error)),
        }
    }
}

/// How temporary folders are called.
pub(super) const TEMPORARY: &str = "nas-cron-pg-";
/// A folder this young may still be on its way to its lock.
const YOUNG: Duration = Duration::from_secs(30);

/// Removes temporary folders below `parent` that nobody holds any more: their processes ended without dropping
/// what was theirs (killed, or held to the end of a test binary).
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
            // Somebody else's, or being removed by another: not ours to worry about.
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// The folder itself stays ours, and the log in it: whoever runs the server may pass, and sees nothing.
pub(super) fn open_for(identity: Option<&Identity>, folder: &Path) -> Result<()> {
    let mode = if identity.is_some() { 0o711 } else { 0o700 };
    fs::set_permissions(folder, fs::Permissions::from_mode(mode))
        .map_err(PrivatePostgresError::io("set the mode of", folder))
}

/// Where the socket lives: in the folder, or, if that makes its path too long, in a short one of its own.
pub(super) fn socket_dir(folder: &Path, port: u16) -> PathBuf {
    let inside = folder.join("socket");
    if inside.join(socket_name(port)).as_os_str().len() <= MAX_SOCKET_PATH {
        return inside;
    }
    Path::new("/tmp").join(format!("nas-cron-pg-{:016x}", rand::random::<u64>()))
}

/// As Postgres names it.
pub(super) fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// A TCP port that was free a moment ago.
pub(super) fn free_port() -> Result<u16> {
    let any = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    any.map(|address| address.port()).map_err(PrivatePostgresError::io("listen on", Path::new("127.0.0.1")))
}

/// Whether a start failed because of an earlier server in the same cluster.
pub(super) fn is_predecessor_in_the_way(log: &str) -> bool {
    // A postmaster that still runs, or backends that have outlived theirs.
    log.contains("lock file \"postmaster.pid\" already exists")
        || log.contains("pre-existing shared memory block")
}

/// Whether a server runs on the cluster. Where that cannot be seen (no `/proc`), `false`: Postgres will say so.
pub(super) fn is_served(cluster: &Path) -> bool {
    postmaster_dir(cluster).is_some_and(|dir| is_same(&dir, cluster))
}

/// Postgres looks through a stale `postmaster.pid`, unless its process number now belongs to another program
/// of the same user. That case is mended here. Answers whether it was.
pub(super) fn remove_stale_pid_file(cluster: &Path) -> bool {
    postmaster_dir(cluster).is_some_and(|dir| !is_same(&dir, cluster))
        && fs::remove_file(cluster.join("postmaster.pid")).is_ok()
}

/// Where the process that `postmaster.pid` names works, if it lives. A postmaster works in its cluster.
fn postmaster_dir(cluster: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string(cluster.join("postmaster.pid")).ok()?;
    let pid: u32 = text.lines().next()?.trim().parse().ok()?;
    fs::read_link(format!("/proc/{pid}/cwd")).ok()
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
