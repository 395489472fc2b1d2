//! A file system of the run's own, which can be filled without filling the machine's.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Upper bound while it is not full: it takes memory only for what is in it.
const SIZE: &str = "size=6g";

/// A mounted tmpfs. Unmounted when dropped.
pub(super) struct Disk(PathBuf);

impl Disk {
    /// Mounts one at an existing folder; `None` where this process may not.
    pub(super) fn mount(at: &Path) -> Option<Self> {
        let options = format!("{SIZE},mode=755");
        run("mount", &["-t", "tmpfs", "-o", &options, "nas-cron-chaos", &at.to_string_lossy()])
            .then(|| Self(at.to_owned()))
    }

    /// Shrinks it to what is in use.
    pub(super) fn fill(&self) {
        let output = Command::new("df").args(["--block-size=1", "--output=used"]).arg(&self.0).output();
        let text = String::from_utf8(output.expect("df runs").stdout).expect("a number");
        let used: u64 = text.split_whitespace().last().and_then(|used| used.parse().ok()).expect("a number");
        // The database writes between the look and the change: a little room makes the change possible.
        let done = [1, 8, 64].into_iter().any(|room| self.resize(&format!("size={}", used + (room << 20))));
        assert!(done, "the file system cannot be shrunk");
    }

    /// Gives it room again.
    pub(super) fn free(&self) {
        assert!(self.resize(SIZE), "the file system cannot be enlarged");
    }

    fn resize(&self, size: &str) -> bool {
        run("mount", &["-o", &format!("remount,{size}"), &self.0.to_string_lossy()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is on its way out may still have a file open.
        run("umount", &["--lazy", &self.0.to_string_lossy()]);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}
