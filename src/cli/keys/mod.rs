//! `nas-cron keys`: see, rotate, import and export the keys that sign fire tokens.

mod activate;
pub(super) mod agents_jwks;
mod export;
mod import;
mod list;
mod rotate;
mod withdraw;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use url::Url;

use self::activate::activate;
use self::export::export;
use self::import::import;
use self::rotate::{rotate, rotate_now};
use self::withdraw::withdraw;
use crate::db::keys::LockedKeys;
use crate::db::{Db, DbError};
use crate::domain::NewKey;
use crate::domain::{KeyRecord, KeyState, SigningAlg};
use crate::keys::{KeyEncryptionKey, RotationPolicy};

/// See, rotate, import and export the keys that sign fire tokens.
#[derive(Clone, Debug, clap::Args)]
pub struct KeysArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// The subcommands.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// Show the keys, how old they are, and what happens to each next.
    List {
        /// Show keys that are gone, too.
        #[arg(long)]
        all: bool,
        /// Print JSON instead of a table.
        #[arg(long)]
        json: bool,
    },
    /// Begin a rotation: publish the next key. The service activates it when every cache knows it (910 s).
    Rotate {
        /// Activate the next key at once, whether or not agents can know it. For a leaked key only.
        #[arg(long)]
        now: bool,
        /// With --now: yes, fires may be refused for some minutes.
        #[arg(long, requires = "now")]
        yes: bool,
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Publish the portal's own private key (PEM, RSA of 2048 bits or more, or EC P-256) as the next key.
    /// Rotation is then by hand: see `activate`.
    Import {
        /// The PEM file: PKCS#8, PKCS#1 or SEC1, without a passphrase.
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// The kid under which the portal publishes it; without it, the RFC 7638 thumbprint.
        #[arg(long)]
        kid: Option<String>,
        /// Keep the private key in that file, outside of the database. Every replica must be able to read it
        /// under the same path.
        #[arg(long)]
        in_place: bool,
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Let a next key sign. With imported keys: only when it shows at the JWKS URL that agents use. Run it
    /// once to record that, and again 910 s later.
    Activate {
        /// The key.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Take a next key back that never signed.
    Withdraw {
        /// The key.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Print the JWKS as it is published.
    ExportJwks,
}

/// What the commands work with.
#[derive(Debug)]
pub struct KeysContext {
    /// The database.
    pub db: Db,
    /// Seals private keys; needed by `rotate` and `import` (without --in-place).
    pub kek: Option<Arc<KeyEncryptionKey>>,
    /// When keys change.
    pub policy: RotationPolicy,
    /// What new keys sign with.
    pub alg: SigningAlg,
    /// Where agents fetch the JWKS: looked at before an imported key is activated.
    pub agents_jwks_url: Option<Url>,
}

/// Runs one; what it has to say goes to `out`. An error means that nothing was changed, unless it says so.
pub async fn run(args: KeysArgs, context: &KeysContext, out: &mut impl Write) -> anyhow::Result<()> {
    match args.command {
        KeysCommand::List { all, json } => list::run(context, all, json, out).await,
        KeysCommand::Rotate { now, yes, json } => {
            let told = if now { rotate_now(context, yes).await? } else { rotate(context).await? };
            told.print(json, out)
        }
        KeysCommand::Import { pem, kid, in_place, json } => {
            import(context, pem, kid, in_place).await?.print(json, out)
        }
        KeysCommand::Activate { kid, json } => activate(context, &kid).await?.print(json, out),
        KeysCommand::Withdraw { kid, json } => withdraw(context, &kid).await?.print(json, out),
        KeysCommand::ExportJwks => export(context, out).await,
    }
}

/// What a command did, in words and in fields.
struct Told {
    kid: String,
    state: KeyState,
    text: String,
}

impl Told {
    fn new(kid: impl Into<String>, state: KeyState, text: impl Into<String>) -> Self {
        Self { kid: kid.into(), state, text: text.into() }
    }

    fn print(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            let told = serde_json::json!({ "kid": self.kid, "state": self.state, "message": self.text });
            writeln!(out, "{told}")?;
        } else {
            writeln!(out, "{}", self.text)?;
        }
        Ok(())
    }
}

const BY_HAND: &str = "Rotation is by hand while an imported key is in use: once the next key shows at the JWKS URL that \
                       agents use, run `nas-cron keys activate";

fn find<'a>(keys: &'a [KeyRecord], kid: &str) -> anyhow::Result<&'a KeyRecord> {
    keys.iter().find(|key| key.kid == kid).with_context(|| {
        let known: Vec<_> = keys.iter().filter(|key| key.is_published()).map(|key| &*key.kid).collect();
        format!("there is no key `{kid}`; there are: {}", known.join(", "))
    })
}

async fn publish(locked: &mut LockedKeys, key: &NewKey) -> anyhow::Result<()> {
    match locked.insert_next(key).await {
        Err(DbError::Conflict { constraint }) if constraint == "signing_keys_one_next" => bail!(
            "another key waits to be activated: let it (`nas-cron keys list` shows when), or take it back with \
             `nas-cron keys withdraw`"
        ),
        other => Ok(other?),
    }
}

async fn switch(mut locked: LockedKeys, kid: &str) -> anyhow::Result<()> {
    ensure!(
        locked.activate(kid).await?,
        "`{kid}` is no next key any more: look again with `nas-cron keys list`"
    );
    Ok(locked.commit().await?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Arguments {
        #[command(flatten)]
        keys: KeysArgs,
    }

    #[test]
    fn a_key_id_may_begin_with_a_hyphen() {
        for command in ["activate", "withdraw"] {
            let parsed = Arguments::try_parse_from(["keys", command, "-x", "--json"]).expect(command);
            let (KeysCommand::Activate { kid, json } | KeysCommand::Withdraw { kid, json }) =
                parsed.keys.command
            else {
                panic!("{command} is another command");
            };
            assert_eq!((kid.as_str(), json), ("-x", true), "a known flag stays one");
        }
        let imported = Arguments::try_parse_from(["keys", "import", "--pem", "f", "--kid", "--in-place"]);
        assert!(imported.is_err(), "a flag is no key id");
    }
}
