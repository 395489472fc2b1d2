//! The folder of the private Postgres: inside that of `nas-cron dev`, or elsewhere if the server's user cannot enter it.
//!
//! Postgres refuses to run as root, so for root it runs as another user, who cannot enter root's home folder or a folder
//! of `mktemp -d`. Its data is then in a folder of its own below [`ELSEWHERE`], and a link takes its usual place:
//!
//! ```text
//! DIR/postgres -> /var/lib/nas-cron-dev/ID/data
//! /var/lib/nas-cron-dev/ID/of    the path of the link
//! ```

use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::private_postgres::{can_enter, is_in_use};

/// Folder of the data that cannot be in the folder of `nas-cron dev`. Only root writes to it.
const ELSEWHERE: &str = "/var/lib/nas-cron-dev";
/// File with the path of the link.
const OF: &str = "of";

/// Returns the folder for the data whose usual place is `usual`, a path in an existing folder.
pub(super) fn find(usual: &Path) -> anyhow::Result<PathBuf> {
    find_or_make(usual, Path::new(ELSEWHERE), &|folder| Ok(can_enter(folder)?))
}

fn find_or_make(
    usual: &Path,
    elsewhere: &Path,
    can_enter: &dyn Fn(&Path) -> anyhow::Result<bool>,
) -> anyhow::Result<PathBuf> {
    match fs::read_link(usual) {
        Ok(target) => return Ok(usual.parent().unwrap_or(usual).join(target)),
        // A folder.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(usual.to_owned()),
        Err(_) => {}
    }
    let parent = usual.parent().unwrap_or(usual);
    if can_enter(parent)? {
        return Ok(usual.to_owned());
    }
    remove_abandoned(elsewhere, &std::env::temp_dir());
    make(usual, elsewhere).with_context(|| {
        format!(
            "the user that Postgres runs as cannot enter {}, and making a folder for its data in {} failed; allow the \
             former (chmod o+x), or choose another folder with --dir",
            parent.display(),
            elsewhere.display()
        )
    })
}

/// Makes a folder for the data, and the link to it.
fn make(usual: &Path, elsewhere: &Path) -> io::Result<PathBuf> {
    if !elsewhere.exists() {
        fs::create_dir_all(elsewhere)?;
        open(elsewhere)?;
    }
    let own = elsewhere.join(format!("{:016x}", rand::random::<u64>()));
    fs::create_dir(&own)?;
    open(&own)?;
    fs::write(own.join(OF), usual.as_os_str().as_bytes())?;
    let data = own.join("data");
    symlink(&data, usual)?;
    Ok(data)
}

/// Lets other users enter the folder but not list it, whatever the umask is.
fn open(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o711))
}

/// Removes the data of folders below `temporary` that no longer exist. Other folders may have been moved.
fn remove_abandoned(elsewhere: &Path, temporary: &Path) {
    for entry in fs::read_dir(elsewhere).into_iter().flatten().flatten() {
        let own = entry.path();
        let Ok(link) = fs::read(own.join(OF)).map(|path| PathBuf::from(std::ffi::OsString::from_vec(path)))
        else {
            continue;
        };
        let folder = link.parent().unwrap_or(&link);
        let gone = fs::symlink_metadata(folder).is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if gone && folder.starts_with(temporary) && !is_in_use(&own.join("data")) {
            // Remains only take space.
            let _ = fs::remove_dir_all(&own);
        }
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_base::testing::Scratch;

    use super::*;

    #[test]
    fn data_is_inside_the_folder_if_the_servers_user_can_enter_it() {
        let scratch = Scratch::new();
        let usual = scratch.path().join("postgres");
        let elsewhere = scratch.path().join("elsewhere");
        assert_eq!(find_or_make(&usual, &elsewhere, &|_| Ok(true)).unwrap(), usual);
        assert!(!elsewhere.exists() && fs::symlink_metadata(&usual).is_err());
        // A folder of an earlier run stays.
        fs::create_dir(&usual).unwrap();
        assert_eq!(find_or_make(&usual, &elsewhere, &|_| Ok(false)).unwrap(), usual);
    }

    #[test]
    fn data_is_elsewhere_and_found_again_if_the_servers_user_cannot_enter_the_folder() {
        let scratch = Scratch::new();
        let elsewhere = scratch.path().join("elsewhere");
        let usual = scratch.path().join("postgres");
        let data = find_or_make(&usual, &elsewhere, &|_| Ok(false)).unwrap();
        assert!(data.starts_with(&elsewhere) && fs::read_link(&usual).unwrap() == data);
        assert_eq!(find_or_make(&usual, &elsewhere, &|_| panic!("not asked")).unwrap(), data);
        for folder in [elsewhere.as_path(), data.parent().unwrap()] {
            assert_eq!(fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o711);
        }
    }

    #[test]
    fn data_of_a_temporary_folder_is_removed_after_it() {
        let scratch = Scratch::new();
        let (elsewhere, temporary) = (scratch.path().join("elsewhere"), scratch.path().join("temporary"));
        let made = |folder: PathBuf| {
            fs::create_dir_all(&folder).unwrap();
            make(&folder.join("postgres"), &elsewhere).unwrap().parent().unwrap().to_owned()
        };
        let (kept, removed) = (made(temporary.join("kept")), made(temporary.join("removed")));
        let moved = made(scratch.path().join("moved"));
        fs::remove_dir_all(temporary.join("removed")).unwrap();
        fs::rename(scratch.path().join("moved"), scratch.path().join("to")).unwrap();
        remove_abandoned(&elsewhere, &temporary);
        assert!(kept.exists() && moved.exists() && !removed.exists());
    }
}
