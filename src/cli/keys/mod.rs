//! `nas-cron keys`: lists, rotates, imports and exports the keys that sign fire tokens.

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
use super::audited::Audited;
use crate::audit::Act;
use crate::db::keys::LockedKeys;
use crate::db::{Db, DbError};
use crate::domain::NewKey;
use crate::domain::{KeyRecord, KeyState, SigningAlg};
use crate::keys::{KeyEncryptionKey, RotationPolicy};

/// List, rotate, import and export the keys that sign fire tokens.
///
/// The service rotates its keys automatically. The command works on the database, also while the service is down.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nas-cron keys list
  nas-cron keys rotate
  nas-cron keys rotate --now --yes            After a leak of the active key

Settings go before the subcommand: nas-cron keys --config nas-cron.toml list")]
pub struct KeysArgs {
    /// The subcommand.
    #[command(subcommand)]
    pub command: KeysCommand,
}

/// Subcommands of `keys`.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum KeysCommand {
    /// List the keys with their age, state and next step.
    List {
        /// Include removed keys.
        #[arg(long)]
        all: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Begin a rotation: publish a next key, which starts to sign about 15 minutes later.
    ///
    /// The running service activates the next key 910 s after its publication, when all caches of the JWKS contain it;
    /// until then the old key signs. If a key has leaked, do not wait: use --now. It activates a new key at once, and
    /// agents may reject fires for some minutes, which are then retried.
    #[command(after_help = "\
Examples:
  nas-cron keys rotate
  nas-cron keys rotate --now --yes            After a leak of the active key")]
    Rotate {
        /// Activate the next key at once, even if agents do not know it yet. For a leaked key only; needs --yes.
        #[arg(long)]
        now: bool,
        /// With --now: accept that agents may reject fires for some minutes.
        #[arg(long, requires = "now")]
        yes: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Import a private key of the portal from a PEM file, and publish it as the next key.
    ///
    /// The key must be RSA with at least 2048 bits, or EC P-256. While an imported key is in use, rotation is by hand:
    /// nothing is activated before `nas-cron keys activate`.
    #[command(
        after_help = "Example:\n  nas-cron keys import --pem /run/secrets/portal.pem --kid portal-1 --in-place"
    )]
    Import {
        /// PEM file in PKCS#8, PKCS#1 or SEC1 form, without a passphrase.
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
        /// Key id under which the portal publishes the key [default: its RFC 7638 thumbprint].
        #[arg(long)]
        kid: Option<String>,
        /// Keep the private key in this file instead of the database. Every replica must be able to read the file
        /// under this path.
        #[arg(long)]
        in_place: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Activate the next key: it signs fire tokens from then on.
    ///
    /// Needed only while an imported key is in use. The key must be in the JWKS that agents fetch: run this command once to
    /// record that it is there, and again 910 s later to activate it.
    #[command(after_help = "Example:\n  nas-cron keys activate portal-1")]
    Activate {
        /// Key id.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove a next key that never signed.
    #[command(after_help = "Example:\n  nas-cron keys withdraw portal-1")]
    Withdraw {
        /// Key id.
        #[arg(allow_hyphen_values = true)]
        kid: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the published JWKS.
    ExportJwks,
}

impl Audited for KeysArgs {
    fn act(&self) -> Option<Act> {
        match &self.command {
            KeysCommand::List { .. } | KeysCommand::ExportJwks => None,
            KeysCommand::Rotate { .. } => Some(Act::new("rotate_keys")),
            KeysCommand::Import { kid: Some(kid), .. } => Some(Act::new("import_key").about("kid", kid)),
            KeysCommand::Import { kid: None, .. } => Some(Act::new("import_key")),
            KeysCommand::Activate { kid, .. } => Some(Act::new("activate_key").about("kid", kid)),
            KeysCommand::Withdraw { kid, .. } => Some(Act::new("withdraw_key").about("kid", kid)),
        }
    }
}

/// Context of the commands.
#[derive(Debug)]
pub struct KeysContext {
    /// The database.
    pub db: Db,
    /// Encrypts private keys; needed by `rotate`, and by `import` without --in-place.
    pub kek: Option<Arc<KeyEncryptionKey>>,
    /// Times of the rotation.
    pub policy: RotationPolicy,
    /// Algorithm of new keys.
    pub alg: SigningAlg,
    /// JWKS URL of the agents, checked before an imported key is activated.
    pub agents_jwks_url: Option<Url>,
}

/// Runs the command, and writes its result to `out`. After an error nothing has changed, unless its text says otherwise.
pub async fn run(args: KeysArgs, context: &KeysContext, out: &mut impl Write) -> anyhow::Result<()> {
    match args.command {
        KeysCommand::List { all, json } => list::run(context, all, json, out).await,
        KeysCommand::Rotate { now, yes, json } => {
            let done = if now { rotate_now(context, yes).await? } else { rotate(context).await? };
            done.print(json, out)
        }
        KeysCommand::Import { pem, kid, in_place, json } => {
            import(context, pem, kid, in_place).await?.print(json, out)
        }
        KeysCommand::Activate { kid, json } => activate(context, &kid).await?.print(json, out),
        KeysCommand::Withdraw { kid, json } => withdraw(context, &kid).await?.print(json, out),
        KeysCommand::ExportJwks => export(context, out).await,
    }
}

/// Result of a command.
struct Done {
    kid: String,
    state: KeyState,
    text: String,
}

impl Done {
    fn new(kid: impl Into<String>, state: KeyState, text: impl Into<String>) -> Self {
        Self { kid: kid.into(), state, text: text.into() }
    }

    fn print(&self, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
        if json {
            let result = serde_json::json!({ "kid": self.kid, "state": self.state, "message": self.text });
            writeln!(out, "{result}")?;
        } else {
            writeln!(out, "{}", self.text)?;
        }
        Ok(())
    }
}

const BY_HAND: &str = "Rotation is by hand while an imported key is in use: when the next key is in the JWKS that agents \
                       fetch, run `nas-cron keys activate";

fn find<'a>(keys: &'a [KeyRecord], kid: &str) -> anyhow::Result<&'a KeyRecord> {
    keys.iter().find(|key| key.kid == kid).with_context(|| {
        let known: Vec<_> = keys.iter().filter(|key| key.is_published()).map(|key| &*key.kid).collect();
        format!("unknown key `{kid}`; known keys: {}", known.join(", "))
    })
}

async fn publish(locked: &mut LockedKeys, key: &NewKey) -> anyhow::Result<()> {
    match locked.insert_next(key).await {
        Err(DbError::Conflict { constraint }) if constraint == "signing_keys_one_next" => bail!(
            "there is already a next key: wait until it is activated (`nas-cron keys list` shows when), or remove it with \
             `nas-cron keys withdraw`"
        ),
        other => Ok(other?),
    }
}

async fn switch(mut locked: LockedKeys, kid: &str) -> anyhow::Result<()> {
    ensure!(
        locked.activate(kid).await?,
        "key `{kid}` is no longer the next key: another process changed the keys; see `nas-cron keys list`"
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
    fn key_id_may_begin_with_a_hyphen() {
        for command in ["activate", "withdraw"] {
            let parsed = Arguments::try_parse_from(["keys", command, "-x", "--json"]).expect(command);
            let (KeysCommand::Activate { kid, json } | KeysCommand::Withdraw { kid, json }) =
                parsed.keys.command
            else {
                panic!("{command} was parsed as another command");
            };
            assert_eq!((kid.as_str(), json), ("-x", true), "a known flag is not a key id");
        }
        let imported = Arguments::try_parse_from(["keys", "import", "--pem", "f", "--kid", "--in-place"]);
        assert!(imported.is_err(), "a known flag is not a key id");
    }
}
