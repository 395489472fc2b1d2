//! `nas-cron keys export-jwks`.

use std::io::Write;

use anyhow::Context as _;

use crate::keys::Jwks;
use crate::keys::sweep::records;
use crate::operations::keys::KeyOperations;

/// Prints the published JWKS.
pub(super) async fn export(keys: &KeyOperations, out: &mut dyn Write) -> anyhow::Result<()> {
    let keys = records(&keys.db.signing_keys().await?);
    let jwks = Jwks::of(&keys)
        .context("no signing keys yet: `nas-cron serve` creates the first one at its start")?;
    let document: serde_json::Value = nas_cron_protocol::json::from_slice(&jwks.body)?;
    writeln!(out, "{document:#}")?;
    Ok(())
}
