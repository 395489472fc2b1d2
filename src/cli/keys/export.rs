//! `nas-cron keys export-jwks`.

use std::io::Write;

use anyhow::Context as _;

use super::KeysContext;
use crate::keys::Jwks;
use crate::keys::sweep::records;

/// Prints the published JWKS.
pub(super) async fn export(context: &KeysContext, out: &mut impl Write) -> anyhow::Result<()> {
    let keys = records(&context.db.signing_keys().await?);
    let jwks = Jwks::of(&keys)
        .context("no signing keys yet: `nas-cron serve` creates the first one at its start")?;
    let document: serde_json::Value = nas_cron_protocol::json::from_slice(&jwks.body)?;
    writeln!(out, "{document:#}")?;
    Ok(())
}
