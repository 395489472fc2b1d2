//! The process between us and the server, which makes sure that the server goes when we go.
//!
//! `postgres` has no option to follow its parent, and Linux's parent-death signal needs `unsafe` code here,
//! follows the thread instead of the process, and exists nowhere else. So a shell keeps the server: it reads
//! from a pipe whose other end we alone hold. A word on the pipe is a signal to pass on; its end, which the
//! kernel brings about even after a `kill -9`, is ours. The shell also is what knows the server's process
//! number, so that we never signal a number that has passed to somebody else.
//!
//! Both are in a process group of their own: a ^C at the terminal is for us, and the server has to outlive it
//! until we have drained.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use super::{POLL, PrivatePostgresError, Result};

/// `$1` is a folder to remove in the end, or empty; the rest is the server's command line.
///
/// Descriptor 3 is the pipe, and only the reading loop keeps it. After its end the server has 5 s for a fast
/// shutdown, 5 s for an immediate one, and is killed then.
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
    /// The arguments of `/bin/sh` up to the server's program; its own arguments follow.
    pub(super) fn prepare(shell: &mut Command, litter: &Path, server: &Path) {
        shell.args(["-c", SCRIPT, "nas-cron-postgres"]).arg(litter).arg(server);
    }

    /// Starts it. `log` gets what the server says.
    pub(super) fn spawn(mut shell: Command, log: File) -> Result<Self> {
        let path = Path::new("/bin/sh");
        let copy = log.try_clone().map_err(PrivatePostgresError::io("log for", path))?;
        shell.process_group(0).stdin(Stdio::piped()).stdout(copy).stderr(log);
        let mut shell = shell.spawn().map_err(PrivatePostgresError::io("run", path))?;
        let pipe = shell.stdin.take().expect("stdin was asked for");
        Ok(Self { shell, pipe })
    }

    /// Passes a signal on to the server, by its name without SIG.
    pub(super) fn signal(&mut self, name: &str) {
        // Nobody reads any more: then there is no server either.
        let _ = writeln!(self.pipe, "{name}");
    }

    /// Whether the server is there.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.shell.try_wait(), Ok(None))
    }

    /// Waits until the server is gone, for `limit` at most. Answers whether it is.
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
