//! The user that runs the server. Postgres refuses to run as root, the usual user in containers.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{PrivatePostgresError, Result};

/// A user other than root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    name: String,
    uid: u32,
    gid: u32,
}

/// True if the user that a new server's processes run as can enter `folder`: the current user, except for root.
pub fn can_enter(folder: &Path) -> Result<bool> {
    let Some(identity) = Identity::of_server(&folder.join("cluster"))? else { return Ok(true) };
    match identity.check_can_enter(folder) {
        Ok(()) => Ok(true),
        Err(PrivatePostgresError::NotTraversable { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Identity {
    /// Returns the user that must run the server of `cluster`, or `None` for the current one. For root this is the owner of
    /// an existing cluster, else `postgres`, else `nobody`.
    pub(super) fn of_server(cluster: &Path) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        if let Ok(metadata) = fs::metadata(cluster)
            && metadata.uid() != 0
        {
            let name = format!("user {}", metadata.uid());
            return Ok(Some(Self { name, uid: metadata.uid(), gid: metadata.gid() }));
        }
        let passwd = Path::new("/etc/passwd");
        let users = fs::read_to_string(passwd).map_err(PrivatePostgresError::io("read", passwd))?;
        let user = ["postgres", "nobody"].iter().find_map(|name| Self::in_passwd(&users, name));
        user.map(Some).ok_or(PrivatePostgresError::NoUser)
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            if fields.next()? != name {
                return None;
            }
            let mut id = || fields.next().and_then(parse_id);
            let (_password, uid, gid) = (id(), id()?, id()?);
            (uid != 0).then(|| Self { name: name.to_owned(), uid, gid })
        })
    }

    /// Makes `command` run as this user, without root's groups.
    pub(super) fn assume(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Makes this user the owner of `dir`.
    pub(super) fn take_over(&self, dir: &Path) -> Result<()> {
        lchown(dir, Some(self.uid), Some(self.gid))
            .map_err(PrivatePostgresError::io("change the owner of", dir))
    }

    /// Checks that this user can enter `dir`, by trying it: mode bits do not reflect access lists and mounts. The bits only
    /// select the folder that the error names.
    pub(super) fn check_can_enter(&self, dir: &Path) -> Result<()> {
        let mut enter = Command::new("/bin/sh");
        enter.args(["-c", r#"cd -- "$1""#, "sh"]).arg(dir).current_dir("/");
        enter.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.assume(&mut enter);
        if enter.status().map_err(PrivatePostgresError::io("run", Path::new("/bin/sh")))?.success() {
            return Ok(());
        }
        let mut ancestors: Vec<_> = dir.ancestors().collect();
        ancestors.reverse();
        let closed = ancestors.into_iter().find(|folder| !self.bits_let_enter(folder)).unwrap_or(dir);
        Err(PrivatePostgresError::NotTraversable { folder: PathBuf::from(closed), user: self.name.clone() })
    }

    fn bits_let_enter(&self, folder: &Path) -> bool {
        let Ok(metadata) = fs::metadata(folder) else { return false };
        let bit = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        metadata.mode() & bit != 0
    }
}

/// Parses an id. Some systems write the id of `nobody` as -2.
fn parse_id(field: &str) -> Option<u32> {
    field.parse::<u32>().ok().or_else(|| field.parse::<i32>().ok().map(i32::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\npostgresql:x:7:8::/:\npostgres:x:101:104:,,,:/x:/bin/sh\n\
                      nobody:*:-2:-2:Nobody:/var/empty:/usr/bin/false\nodd:x:abc:1::/:\nshort:x\n";
        let found = |name| Identity::in_passwd(passwd, name).map(|user| (user.uid, user.gid));
        assert_eq!(found("postgres"), Some((101, 104)));
        assert_eq!(found("nobody"), Some((4_294_967_294, 4_294_967_294)));
        for name in ["root", "odd", "short", "post", "missing"] {
            assert_eq!(found(name), None, "{name}");
        }
    }
}
