//! `nas-cron keys`: see, rotate, import and export the keys that sign fire tokens.

pub(super) mod agents_jwks;
mod list;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use url::Url;

use crate::db::keys::LockedKeys;
use crate::db::{Db, DbError};
use crate::domain::{KeyRecord, KeyState, NewKey, SigningAlg};
use crate::keys::rotation::{self, NotYet, Reason};
use crate::keys::signer::{PrivateKey, same_public_key};
use crate::keys::sweep::records;
use crate::keys::{Jwks, KeyEncryptionKey, RotationPolicy, custody};

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
        kid: String,
        /// Print JSON instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Take a next key back that never signed.
    Withdraw {
        /// The key.
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

/// Makes a key unless one waits already: before the lock is taken, as RSA takes longer than others should wait.
async fn generate(context: &KeysContext) -> anyhow::Result<Option<NewKey>> {
    let keys = context.db.signing_keys().await?;
    if keys.iter().any(|key| key.record.state == KeyState::Next) {
        return Ok(None);
    }
    let kek = context.kek.as_deref();
    custody::check(&keys, kek).await?;
    Ok(Some(custody::generate(context.alg, kek).await?))
}

const CHANGED: &str =
    "somebody else changed the keys at the same moment: look again with `nas-cron keys list`";

async fn rotate(context: &KeysContext) -> anyhow::Result<Told> {
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let by_hand = rotation::is_by_hand(&keys);
    if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
        ensure!(
            !by_hand,
            "`{kid}` waits to be activated already. {BY_HAND} {kid}`, or take it back with `nas-cron keys withdraw {kid}`",
            kid = next.kid
        );
        return match rotation::may_activate(locked.now(), next, &keys, &context.policy) {
            Ok(()) => {
                let kid = next.kid.clone();
                switch(locked, &kid).await?;
                Ok(Told::new(&kid, KeyState::Active, format!("`{kid}` signs from now on.")))
            }
            Err(reason) => {
                let text = format!("A rotation is under way: `{}` is published, {reason}.", next.kid);
                Ok(Told::new(&next.kid, KeyState::Next, text))
            }
        };
    }
    let fresh = fresh.context(CHANGED)?;
    let first = keys.is_empty();
    let at = locked.now() + context.policy.lead();
    publish(&mut locked, &fresh).await?;
    if first {
        switch(locked, &fresh.kid).await?;
        let text = format!("`{}` ({}) signs from now on: {}.", fresh.kid, fresh.alg, Reason::FirstKey);
        return Ok(Told::new(&fresh.kid, KeyState::Active, text));
    }
    locked.commit().await?;
    let follows = if by_hand {
        format!("{BY_HAND} {}`.", fresh.kid)
    } else {
        format!(
            "Caches know it from {} on; the running service then activates it.",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        )
    };
    let text = format!("`{}` ({}) is published as the next key. {follows}", fresh.kid, fresh.alg);
    Ok(Told::new(&fresh.kid, KeyState::Next, text))
}

/// The emergency exit.
async fn rotate_now(context: &KeysContext, yes: bool) -> anyhow::Result<Told> {
    ensure!(
        yes,
        "--now lets a key sign that agents cannot know yet. What breaks: agents that hold our key set refuse \
         the fires of up to 10 minutes with 401, unless they fetch the set again for an unknown kid (hermes-agent \
         does, but shared caches may answer it with the old set); these fires are tried again and come late. What \
         it does not do: agents accept tokens of the old key as long as it is published or cached, for up to \
         15 minutes. For a leaked key add --yes; otherwise leave --now away, and nothing breaks"
    );
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    ensure!(
        !rotation::is_by_hand(&keys),
        "--now is refused while an imported key is in use: agents look at the portal's JWKS, and a key that is not \
         there is never accepted. Import the portal's new key, and activate it when it shows there"
    );
    let kid = if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
        next.kid.clone()
    } else {
        let fresh = fresh.context(CHANGED)?;
        publish(&mut locked, &fresh).await?;
        fresh.kid
    };
    switch(locked, &kid).await?;
    let text = format!(
        "`{kid}` signs from now on. Fires may be refused with 401 for up to 10 minutes, and are tried again."
    );
    Ok(Told::new(kid, KeyState::Active, text))
}

async fn import(
    context: &KeysContext,
    pem: PathBuf,
    kid: Option<String>,
    in_place: bool,
) -> anyhow::Result<Told> {
    if let Some(kid) = &kid {
        let printable = !kid.chars().any(char::is_control);
        ensure!((1..=255).contains(&kid.len()) && printable, "--kid must be 1 to 255 printable bytes");
    }
    let private = custody::read_pem_file(&pem).await?;
    let key = if in_place {
        // Absolute: the service runs in another folder. Links are kept, since secrets are often mounted as such.
        let path = std::path::absolute(&pem).with_context(|| pem.display().to_string())?;
        ensure!(path.to_str().is_some(), "{}: the path must be valid UTF-8", path.display());
        custody::refer(&private, kid, path)?
    } else {
        custody::check(&context.db.signing_keys().await?, context.kek.as_deref()).await?;
        seal(context, &private, kid)?
    };
    let mut locked = context.db.lock_signing_keys().await?;
    let known = locked.keys().iter().find(|one| {
        let published = one.record.is_published();
        one.record.kid == key.kid || published && same_public_key(&one.record.public_jwk, &key.public_jwk)
    });
    if let Some(one) = known {
        bail!("this key is here already: `{}`, {}", one.record.kid, one.record.state);
    }
    publish(&mut locked, &key).await?;
    locked.commit().await?;
    let place = if in_place { "stays in its file" } else { "is stored encrypted" };
    let text = format!(
        "`{kid}` ({alg}) is published as the next key; its private half {place}. {BY_HAND} {kid}`.",
        kid = key.kid,
        alg = key.alg
    );
    Ok(Told::new(&key.kid, KeyState::Next, text))
}

fn seal(context: &KeysContext, private: &PrivateKey, kid: Option<String>) -> anyhow::Result<NewKey> {
    custody::seal(private, kid, true, context.kek.as_deref())
        .context("or keep the private key outside of the database with --in-place")
}

async fn activate(context: &KeysContext, kid: &str) -> anyhow::Result<Told> {
    let keys = records(&context.db.signing_keys().await?);
    let key = find(&keys, kid)?;
    ensure!(key.state == KeyState::Next, "`{kid}` {}", NotYet::WrongState(key.state));
    // Looked up before the lock is taken: nobody waits for somebody else's server.
    let seen = if rotation::is_by_hand(&keys) { Some(see(context, key).await?) } else { None };
    let mut locked = context.db.lock_signing_keys().await?;
    if let Some(seen) = seen {
        locked.record_sighting(kid, seen).await?;
        locked.reread().await?;
    }
    let keys = records(locked.keys());
    let verdict = rotation::may_activate(locked.now(), find(&keys, kid)?, &keys, &context.policy);
    let Err(reason) = verdict else {
        switch(locked, kid).await?;
        return Ok(Told::new(kid, KeyState::Active, format!("`{kid}` signs from now on.")));
    };
    locked.commit().await?;
    match (&reason, &context.agents_jwks_url) {
        (NotYet::NotSeen, Some(url)) => {
            bail!("`{kid}` is not in the JWKS at {url}: publish it there first, or agents refuse every fire")
        }
        (NotYet::TooYoung { .. }, Some(url)) if seen.is_some() => {
            bail!("`{kid}` shows at {url}; {reason}: run this again then")
        }
        _ => bail!("`{kid}`: {reason}"),
    }
}

/// Whether `key` shows where agents look.
async fn see(context: &KeysContext, key: &KeyRecord) -> anyhow::Result<bool> {
    let url = context.agents_jwks_url.as_ref().context(
        "it is not known where agents fetch their JWKS (their `cron.chronos.nas_jwks_url`), so nobody can tell \
         whether they would accept this key",
    )?;
    match agents_jwks::find(url, &key.kid).await.with_context(|| format!("looking at {url}"))? {
        None => Ok(false),
        Some(jwk) => {
            ensure!(
                same_public_key(&jwk, &key.public_jwk),
                "{url} has a key with the kid `{}`, but it is another key: agents would refuse every fire",
                key.kid
            );
            Ok(true)
        }
    }
}

async fn withdraw(context: &KeysContext, kid: &str) -> anyhow::Result<Told> {
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let key = find(&keys, kid)?;
    ensure!(
        key.state == KeyState::Next,
        "`{kid}` is {}: only a next key can be taken back; a retired one leaves by itself",
        key.state
    );
    locked.remove(kid).await?;
    locked.commit().await?;
    Ok(Told::new(kid, KeyState::Gone, format!("`{kid}` is no longer published; its private half is erased.")))
}

async fn export(context: &KeysContext, out: &mut impl Write) -> anyhow::Result<()> {
    let keys = records(&context.db.signing_keys().await?);
    let jwks = Jwks::of(&keys).context("there are no keys yet: `nas-cron serve` makes the first one")?;
    let document: serde_json::Value = serde_json::from_slice(&jwks.body)?;
    writeln!(out, "{document:#}")?;
    Ok(())
}

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
