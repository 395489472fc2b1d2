//! `nas-cron keys rewrap`.

use std::io::Write;

use anyhow::ensure;
use indicatif::{ProgressBar, ProgressStyle};
use nas_cron_base::terminal;

use crate::cli::operator::Place;
use crate::operations::keys::KeyOperations;

/// Encrypts the stored secrets again, and prints the result. Fails afterwards if none of the keys decrypts one of them.
pub(super) async fn run(
    on: &Place<KeyOperations>,
    dry_run: bool,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    // Drawn on stderr, and only if that is a terminal.
    let bar = ProgressBar::new(0);
    bar.set_style(ProgressStyle::with_template("{bar:40} {human_pos} of {human_len} secrets")?);
    let mut progress = |done, all| {
        bar.set_length(all);
        bar.set_position(done);
    };
    let rewrapped = on.rewrap_keys(dry_run, &mut progress).await?;
    bar.finish_and_clear();
    if json {
        terminal::json(out, &rewrapped)?;
    } else {
        writeln!(out, "{}", rewrapped.message)?;
    }
    let unreadable = &rewrapped.keys.unreadable;
    ensure!(
        unreadable.is_empty(),
        "none of the keys decrypts: {}; set the key that encrypted it as a fallback, or replace it \
         (`nas-cron webhooks rotate-secret`, `nas-cron keys withdraw`)",
        unreadable.join(", ")
    );
    Ok(())
}
