//! SIGINT (^C) and SIGTERM, for programs that clean up before they exit.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A signal that asks the process to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, sent by ^C.
    Interrupt,
    /// SIGTERM, sent by orchestrators.
    Terminate,
}

impl Signal {
    /// Returns the exit code that shells report for a process ended by this signal: 130 or 143.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 128 + 2,
            Self::Terminate => 128 + 15,
        }
    }

    /// Returns the name, such as `SIGINT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Receives the process's signals from now on. They no longer end the process by themselves.
pub fn signals() -> io::Result<mpsc::Receiver<Signal>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                Some(()) = interrupt.recv() => Signal::Interrupt,
                Some(()) = terminate.recv() => Signal::Terminate,
                else => return,
            };
            if sender.send(signal).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Returns a token that the first signal cancels. A second signal ends the process at once.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut signals = signals()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_of_this_process_are_received() {
        let mut signals = signals().unwrap();
        for (number, signal) in [
            (rustix::process::Signal::TERM, Signal::Terminate),
            (rustix::process::Signal::INT, Signal::Interrupt),
        ] {
            rustix::process::kill_process(rustix::process::getpid(), number).unwrap();
            assert_eq!(signals.recv().await, Some(signal));
        }
    }
}
