//! Progress lines of programs.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU32, Ordering};

/// Prints a progress line: on a terminal it replaces the previous one, elsewhere one is printed every half minute.
pub fn print(line: &str) {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let call = CALLS.fetch_add(1, Ordering::Relaxed);
    let mut stderr = std::io::stderr();
    let written = if stderr.is_terminal() {
        write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
    } else if call.is_multiple_of(30) {
        writeln!(stderr, "{line}")
    } else {
        Ok(())
    };
    // A closed pipe does not stop the run.
    let _ = written;
}
