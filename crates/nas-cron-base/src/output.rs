//! stdout of commands, which may be closed before they end: by `| head`, or by a pager that is left.
//!
//! A shell tool then ends without a word, killed by SIGPIPE. Rust programs ignore this signal, and the service must: a
//! closed pipe or socket is an ordinary error to it. A command ends the same way here: the failed write is its first
//! error, and [`ended`] reports no error after it.

use std::io::{self, IsTerminal, Stdout, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use tokio_util::sync::CancellationToken;

/// Exit code after the reader has left, as shells report it for a process ended by SIGPIPE.
const READER_LEFT: u8 = 128 + 13;

/// Cancelled when the reader of stdout has left.
static LEFT: LazyLock<CancellationToken> = LazyLock::new(CancellationToken::new);

/// stdout of this process. The first write that fails because its reader has left is remembered.
#[derive(Debug)]
pub struct Output(Stdout);

/// Returns stdout.
#[expect(clippy::disallowed_methods, reason = "the only place that writes to stdout directly")]
pub fn stdout() -> Output {
    Output(io::stdout())
}

/// Returns a token that is cancelled when a write has found that the reader of stdout left.
pub fn reader_left() -> &'static CancellationToken {
    &LEFT
}

/// Cancels `work` when the reader of stdout leaves, for a command that runs until it is stopped.
pub fn ends_with_reader(work: CancellationToken) {
    tokio::spawn(async move {
        LEFT.cancelled().await;
        work.cancel();
    });
}

/// Remembers it if a write to stdout failed because the reader has left.
pub fn note<T>(written: io::Result<T>) -> io::Result<T> {
    if written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
        LEFT.cancel();
    }
    written
}

/// Returns the exit code of a command. `report` prints its error, unless the error is that the reader of stdout left.
pub fn ended(result: anyhow::Result<ExitCode>, report: impl FnOnce(&anyhow::Error) -> ExitCode) -> ExitCode {
    if LEFT.is_cancelled() {
        return ExitCode::from(READER_LEFT);
    }
    result.unwrap_or_else(|error| report(&error))
}

impl Output {
    /// Returns true if stdout is a terminal.
    pub fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        note(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        note(self.0.flush())
    }
}
