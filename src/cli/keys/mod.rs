//! `nas-cron keys`: lists, rotates, imports and exports the keys that sign fire tokens.

mod export;
mod import;
mod list;
mod rewrap;

use std::io::Write;
use std::path::PathBuf;

use anyhow::ensure;

use self::export::export;
use self::import::import;
use super::audited::Audited;
use super::operator::Place;
use crate::audit::Act;
use crate::operations::keys::{ChangedKey, KeyOperations};

/// List, rotate, import and export the keys that sign fire tokens.
///
/// The service rotates its keys automatically. The command works on the database, also while the service is down, or with
/// --server on a running service: all but `import` and `export-jwks`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Examples:
  nas-cron keys list
  nas-cron keys rotate
  nas-cron keys rotate --now --yes            After a leak of the active key
  nas-cron keys rewrap                        After a change of the key-encryption key

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
    /// Encrypt the stored secrets again, after the key-encryption key was replaced.
    ///
    /// Signing keys and secrets of webhooks that a fallback (`key_encryption_key_fallbacks`) encrypts get the key-encryption key.
    /// It may be interrupted: run again, it does the rest. docs/keys.md has the order of the steps.
    #[command(after_help = "\
Examples:
  nas-cron keys rewrap --dry-run              Count the secrets by their key
  nas-cron keys rewrap")]
    Rewrap {
        /// Only count.
        #[arg(long)]
        dry_run: bool,
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
            KeysCommand::List { .. }
            | KeysCommand::ExportJwks
            | KeysCommand::Rewrap { dry_run: true, .. } => None,
            KeysCommand::Rotate { .. } => Some(Act::new("rotate_keys")),
            KeysCommand::Import { kid: Some(kid), .. } => Some(Act::new("import_key").about("kid", kid)),
            KeysCommand::Import { kid: None, .. } => Some(Act::new("import_key")),
            KeysCommand::Activate { kid, .. } => Some(Act::new("activate_key").about("kid", kid)),
            KeysCommand::Withdraw { kid, .. } => Some(Act::new("withdraw_key").about("kid", kid)),
            KeysCommand::Rewrap { .. } => Some(Act::new("rewrap_keys")),
        }
    }
}

/// The reason why a private key is imported on the database only.
const LOCAL_IMPORT: &str = "a private key is not sent over the network";
/// The reason why the JWKS is exported from the database only.
const LOCAL_EXPORT: &str = "a server publishes the same JWKS at /api/agent-cron/jwks.json";

/// Runs the command, and writes its result to `out`. After an error nothing has changed, unless its text says otherwise.
pub async fn run(args: KeysArgs, on: &Place<KeyOperations>, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        KeysCommand::List { all, json } => list::run(on, all, json, out).await,
        KeysCommand::Rotate { now, yes, json } => {
            ensure!(yes || !now, "{UNCONFIRMED}");
            print(&on.rotate_keys(now).await?, json, out)
        }
        KeysCommand::Import { pem, kid, in_place, json } => {
            print(&import(on.database(LOCAL_IMPORT)?, pem, kid, in_place).await?, json, out)
        }
        KeysCommand::Activate { kid, json } => print(&on.activate_key(&kid).await?, json, out),
        KeysCommand::Withdraw { kid, json } => print(&on.withdraw_key(&kid).await?, json, out),
        KeysCommand::Rewrap { dry_run, json } => rewrap::run(on, dry_run, json, out).await,
        KeysCommand::ExportJwks => export(on.database(LOCAL_EXPORT)?, out).await,
    }
}

const UNCONFIRMED: &str = "\
--now activates a key that agents do not know yet; use it for a leaked key only, with --yes. Effect on fires: for up to 10 \
minutes, agents with a cached JWKS may reject fires with 401, unless they fetch the JWKS again for an unknown kid \
(hermes-agent does, but shared caches may return the old JWKS); rejected fires are retried and arrive late. Limit: agents \
still accept tokens signed with the old key while it is published or cached, for up to 15 minutes. For an ordinary rotation, \
omit --now: no fire is rejected then";

fn print(done: &ChangedKey, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
    if json {
        writeln!(out, "{}", serde_json::to_string(done)?)?;
    } else {
        writeln!(out, "{}", done.message)?;
    }
    Ok(())
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
