//! ^C and SIGTERM, for subcommands that have something to put away before they end.

use std::{io, process};

use tokio_util::sync::CancellationToken;

use crate::shutdown;

/// A token that the first signal cancels. The second one ends the process at once.
pub(super) fn on_signal() -> io::Result<CancellationToken> {
    let mut signals = shutdown::signals()?;
    let first = CancellationToken::new();
    let token = first.clone();
    tokio::spawn(async move {
        if signals.recv().await.is_some() {
            first.cancel();
        }
        if let Some(signal) = signals.recv().await {
            process::exit(signal.exit_code().into());
        }
    });
    Ok(token)
}
