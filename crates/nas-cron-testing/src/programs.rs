//! Programs of the system that tests start.

use std::path::PathBuf;

/// Finds a program. Debian installs daemons in a folder that only root has in its `PATH`.
pub(crate) fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let programs = folders.map(|folder: PathBuf| folder.join(name));
    programs.into_iter().find(|program| program.is_file()).unwrap_or_else(|| name.into())
}
