//! A separate file system, which can be filled without filling the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Maximum size. A tmpfs uses memory only for its contents.
const SIZE: &str = "size=6g";

/// A mounted tmpfs. Dropping it unmounts it.
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts a tmpfs at an existing folder. Returns `None` if this process lacks the permission.
    pub(super) fn mount(at: &Path) -> Option<Self> {
        let options = format!("{SIZE},mode=755");
        run("mount", &["-t", "tmpfs", "-o", &options, "nas-cron-chaos", &at.to_string_lossy()])
            .then(|| Self(at.to_owned()))
    }

    /// Shrinks it to the space in use.
    pub(super) fn fill(&self) {
        let output = Command::new("df").args(["--block-size=1", "--output=used"]).arg(&self.0).output();
        let text = String::from_utf8(output.expect("df runs").stdout).expect("a number");
        let used: u64 = text.split_whitespace().last().and_then(|used| used.parse().ok()).expect("a number");
        // The database may write between `df` and the resize: the later tries leave more room.
        let done = [1, 8, 64].into_iter().any(|room| self.resize(&format!("size={}", used + (room << 20))));
        assert!(done, "shrinking the file system failed");
    }

    /// Enlarges it to its maximum.
    pub(super) fn free(&self) {
        assert!(self.resize(SIZE), "enlarging the file system failed");
    }

    fn resize(&self, size: &str) -> bool {
        run("mount", &["-o", &format!("remount,{size}"), &self.0.to_string_lossy()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazy, because a process that is ending may still have a file open.
        run("umount", &["--lazy", &self.0.to_string_lossy()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
