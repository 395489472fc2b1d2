//! `nas-cron agents enroll`: an agent whose portal we are, and the files that it needs.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{CallbackUrl, HOSTED_CLIENT, InstanceId, OrgId};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::home::{self, Home, Written};
use super::yaml::Chronos;
use crate::config::OwnPortal;
use crate::db::Db;
use crate::directory::{self, DirectoryError};
use crate::keys::access_token::SCOPE;
use crate::keys::{KeyEncryptionKey, custody};
use crate::own_portal::{self, EnrollError, Enrolled, Enrollment, LoginChange, RefreshKey};

/// Register an agent whose portal this service is, and give it a login.
///
/// Prints the auth.json and config.yaml that hermes-agent needs, or writes them into its home. Needs `own_portal`. Repeating
/// it ends nothing: it gives the same login again. One home is one login: of two copies, the second to refresh ends both.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --home ~/.hermes
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --json
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --new-login   Its old tokens are lost or stolen")]
pub(super) struct EnrollArgs {
    /// Its name.
    instance_id: InstanceId,
    /// The org that owns it.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// Where it will be reached: fires go to {URL}/api/cron/fire.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: CallbackUrl,
    /// Write the files into this folder, the agent's `HERMES_HOME`. It must be yours: run this as the agent's user.
    #[arg(long, value_name = "HERMES_HOME")]
    home: Option<PathBuf>,
    /// Yes, the login that is in the home already may be replaced. Its other logins are kept.
    #[arg(long, requires = "home")]
    force: bool,
    /// End the login that the agent has, and make another one.
    #[arg(long)]
    new_login: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Without it the agent takes its refresh token to another portal.
const PORTAL_VARIABLE: &str = "HERMES_PORTAL_BASE_URL";

pub(super) async fn run(
    args: EnrollArgs,
    db: &Db,
    portal: &OwnPortal,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    // Everything that may be refused is refused before a login is made or ended.
    let home = args.home.as_deref().map(|folder| Home::open(folder, args.force)).transpose()?;
    let key = &portal.key_encryption_key;
    custody::check(&db.signing_keys().await?, Some(&KeyEncryptionKey::from_bytes(key.expose_secret())?))
        .await?;
    let wanted = Enrollment {
        instance_id: args.instance_id,
        org_id: args.org,
        callback_url: args.callback_url,
        new_login: args.new_login,
    };
    let enrolled = own_portal::enroll(db, &RefreshKey::derive(key), wanted).await.map_err(explained)?;
    let (login, chronos) = (login(&enrolled, portal), chronos(&enrolled, portal));
    let written = home.map(|home| home.write(&login, &chronos.yaml())).transpose()?;
    if args.json {
        let mut shown = json!({
            "agent": enrolled.agent,
            "login": enrolled.login,
            "config": { "cron": { "provider": "chronos", "chronos": chronos } },
            "environment": { PORTAL_VARIABLE: chronos.portal_url },
        });
        match written {
            Some(written) => shown["files"] = json!(written.files),
            None => shown["auth"] = home::auth_store(&login),
        }
        return terminal::json(out, &shown);
    }
    print(&enrolled, &login, &chronos, written, out)?;
    Ok(())
}

fn explained(error: EnrollError) -> anyhow::Error {
    match error {
        // Enrolling does not move: a move is a decision of its own.
        EnrollError::Directory(error @ DirectoryError::OtherOrg(_)) => {
            anyhow::anyhow!("{error}: `nas-cron agents add --move-org` moves it")
        }
        EnrollError::Directory(error) => crate::cli::directory_error::explained(error),
        error @ EnrollError::OtherKey(_) => error.into(),
    }
}

/// As hermes-agent keeps it.
fn login(enrolled: &Enrolled, portal: &OwnPortal) -> Value {
    json!({
        "portal_base_url": portal.url.as_str(),
        "client_id": HOSTED_CLIENT,
        "token_type": "Bearer",
        "scope": SCOPE,
        // Long over: the agent gets a good one by itself at its first call.
        "access_token": "none-yet",
        "expires_at": "1970-01-01T00:00:00+00:00",
        "refresh_token": enrolled.refresh_token.expose_secret(),
    })
}

fn chronos(enrolled: &Enrolled, portal: &OwnPortal) -> Chronos {
    Chronos {
        portal_url: portal.url.as_str().to_owned(),
        callback_url: enrolled.agent.callback_url.clone().unwrap_or_default(),
        expected_audience: format!("agent:{}", enrolled.agent.instance_id),
        nas_jwks_url: portal.agents_jwks_url.to_string(),
    }
}

fn print(
    enrolled: &Enrolled,
    login: &Value,
    chronos: &Chronos,
    written: Option<Written>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Enrolled { agent, login: change, .. } = enrolled;
    let did = match change {
        LoginChange::Begun => "is enrolled, with a new login",
        LoginChange::Kept => "is enrolled already, and has its login still",
        LoginChange::Replaced => "has a new login; the old one has ended",
    };
    writeln!(out, "Agent {} of org {} {did}.", agent.instance_id, agent.org_id)?;
    let yaml = chronos.yaml();
    match written {
        None => {
            writeln!(out, "\n# auth.json in its HERMES_HOME, for its owner's eyes only (mode 600):")?;
            writeln!(out, "{:#}", home::auth_store(login))?;
            write!(out, "\n# config.yaml in its HERMES_HOME:\n{yaml}")?;
        }
        Some(Written { files, config_is_there }) => {
            for file in files {
                writeln!(out, "Written: {}", file.display())?;
            }
            if let Some(config) = config_is_there {
                write!(out, "\n# {} is there already, and needs this part:\n{yaml}", config.display())?;
            }
        }
    }
    writeln!(out, "\n# In its environment, or it takes its login to another portal:")?;
    writeln!(out, "export {PORTAL_VARIABLE}={}", quoted(&chronos.portal_url))?;
    if !agent.enabled {
        writeln!(out, "\nIt is disabled: `nas-cron agents enable` lets it work.")?;
    }
    Ok(())
}

/// A word of a shell.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
