//! The process between this one and the server, which stops the server when this process ends.
//!
//! `postgres` has no option to end with its parent. Linux's parent-death signal needs `unsafe` code here, follows the
//! thread instead of the process, and exists on no other system. Therefore a shell starts the server and reads from a
//! pipe whose other end only this process holds. A word on the pipe is a signal for the server. The end of the pipe means
//! that this process has ended: the kernel closes it even after a `kill -9`. Only the shell uses the server's process id,
//! because a parent never signals an id that was reused.
//!
//! Both run in a separate process group: a ^C at the terminal must not stop the server before the service has drained.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{POLL, PrivatePostgresError, Result};

/// The shell script. `$1` is a folder to remove at the end, or empty; the rest is the server's command line.
///
/// Descriptor 3 is the pipe, which only the reading loop keeps open. After the end of the pipe, the server has 5 s for a
/// fast shutdown and 5 s for an immediate one; then it is killed.
const SCRIPT: &str = r#"
litter=$1
shift
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    while read -r signal; do kill -s "$signal" "$server"; done
    for signal in INT QUIT KILL; do kill -s "$signal" "$server"; sleep 5; done
} <&3 3<&- 2>/dev/null &
reader=$!
exec 3<&-
wait "$server"
status=$?
kill "$reader" 2>/dev/null
if [ -n "$litter" ]; then rm -f "$litter"/.s.PGSQL.*; rmdir "$litter"; fi 2>/dev/null
exit "$status"
"#;

/// A running shell with its server.
#[derive(Debug)]
pub(super) struct Keeper {
    shell: Child,
    pipe: ChildStdin,
}

impl Keeper {
    /// Adds the arguments of `/bin/sh` up to the server's program; the server's arguments follow.
    pub(super) fn prepare(shell: &mut Command, litter: &Path, server: &Path) {
        shell.args(["-c", SCRIPT, "nas-cron-postgres"]).arg(litter).arg(server);
    }

    /// Starts the shell. `log` receives the server's output.
    pub(super) fn spawn(mut shell: Command, log: File) -> Result<Self> {
        let path = Path::new("/bin/sh");
        let copy = log.try_clone().map_err(PrivatePostgresError::io("log for", path))?;
        shell.process_group(0).stdin(Stdio::piped()).stdout(copy).stderr(log);
        let mut shell = shell.spawn().map_err(PrivatePostgresError::io("run", path))?;
        let pipe = shell.stdin.take().expect("stdin is piped");
        Ok(Self { shell, pipe })
    }

    /// Sends a signal to the server, by its name without SIG.
    pub(super) fn signal(&mut self, name: &str) {
        // The pipe is closed if the server has ended.
        let _ = writeln!(self.pipe, "{name}");
    }

    /// True if the server is running.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.shell.try_wait(), Ok(None))
    }

    /// Waits up to `limit` until the server has ended. Returns true if it has.
    pub(super) fn wait(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while self.is_running() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }
}
