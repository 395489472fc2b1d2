//! `nas-cron agents enroll`: registers an agent at the built-in portal, and writes the files that it needs.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{CallbackUrl, HOSTED_CLIENT, InstanceId, OrgId};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::home::{self, Home, Written};
use super::yaml::Chronos;
use crate::app;
use crate::config::OwnPortal;
use crate::db::Db;
use crate::directory::{self, DirectoryError};
use crate::keys::access_token::SCOPE;
use crate::keys::custody;
use crate::own_portal::{self, EnrollError, Enrolled, Enrollment, LoginChange};

/// Register an agent at the built-in portal, and create its login.
///
/// Prints the auth.json and config.yaml that hermes-agent needs or, with --home, writes them into its home. Needs the
/// setting `own_portal`.
///
/// Enrolling an agent again gives it the same login, or a new one if the login has ended. With --home, add --force if the
/// home already holds a login. If the tokens are lost or stolen, add --new-login: it ends the present login. A login
/// belongs to one home: it ends when two copies of a home use it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --home ~/.hermes
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --json
  nas-cron agents enroll agent-1 --org acme --callback-url https://agent-1.example --home ~/.hermes --force --new-login")]
pub(super) struct EnrollArgs {
    /// Instance id of the agent.
    pub(super) instance_id: InstanceId,
    /// Org that owns the agent.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// Callback URL of the agent: fires go to {URL}/api/cron/fire.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: CallbackUrl,
    /// Write the files into this folder, the agent's `HERMES_HOME`. Run the command as the user who owns the folder.
    #[arg(long, value_name = "HERMES_HOME")]
    home: Option<PathBuf>,
    /// Replace the portal's login that the home already holds. Logins at other providers are kept.
    #[arg(long, requires = "home")]
    force: bool,
    /// End the present login of the agent, and create a new one.
    #[arg(long)]
    new_login: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Variable that points the agent to this portal. Without it, the agent sends its refresh token to another portal.
const PORTAL_VARIABLE: &str = "HERMES_PORTAL_BASE_URL";

pub(super) async fn run(
    args: EnrollArgs,
    db: &Db,
    portal: &OwnPortal,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    // All checks come first: nothing may fail after a login was created or ended.
    let home = args.home.as_deref().map(|folder| Home::open(folder, args.force)).transpose()?;
    let encryption = &portal.encryption;
    custody::check(&db.signing_keys().await?, app::key_encryption_keys(Some(encryption)).as_ref()).await?;
    let wanted = Enrollment {
        instance_id: args.instance_id,
        org_id: args.org,
        callback_url: args.callback_url,
        new_login: args.new_login,
    };
    let enrolled = own_portal::enroll(db, &app::refresh_keys(encryption), wanted).await.map_err(explained)?;
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
        // Enrolling never moves an agent to another org.
        EnrollError::Directory(error @ DirectoryError::OtherOrg(_)) => {
            anyhow::anyhow!("{error}; `nas-cron agents add --move-org` moves it")
        }
        EnrollError::Directory(error) => crate::cli::directory_error::explained(error),
        error @ EnrollError::OtherKey(_) => error.into(),
    }
}

/// Returns the login in the format of hermes-agent.
fn login(enrolled: &Enrolled, portal: &OwnPortal) -> Value {
    json!({
        "portal_base_url": portal.url.as_str(),
        "client_id": HOSTED_CLIENT,
        "token_type": "Bearer",
        "scope": SCOPE,
        // Expired, so that the agent refreshes it before its first call.
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
        LoginChange::Kept => "was already enrolled, and keeps its login",
        LoginChange::Replaced => "has a new login; the old one has ended",
    };
    writeln!(out, "Agent {} of org {} {did}.", agent.instance_id, agent.org_id)?;
    let yaml = chronos.yaml();
    match written {
        None => {
            writeln!(out, "\n# auth.json in HERMES_HOME, readable by its owner only (mode 600):")?;
            writeln!(out, "{:#}", home::auth_store(login))?;
            write!(out, "\n# config.yaml in HERMES_HOME:\n{yaml}")?;
        }
        Some(Written { files, config_is_there }) => {
            for file in files {
                writeln!(out, "Written: {}", file.display())?;
            }
            if let Some(config) = config_is_there {
                write!(out, "\n# {} already exists; add this part to it:\n{yaml}", config.display())?;
            }
        }
    }
    writeln!(
        out,
        "\n# In the environment of the agent; without it, the agent sends its login to another portal:"
    )?;
    writeln!(out, "export {PORTAL_VARIABLE}={}", quoted(&chronos.portal_url))?;
    if !agent.enabled {
        writeln!(out, "\nThe agent is disabled; `nas-cron agents enable` enables it.")?;
    }
    Ok(())
}

/// Quotes a value for a shell, if needed.
fn quoted(value: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:".contains(c);
    if value.chars().all(plain) { value.to_owned() } else { format!("'{}'", value.replace('\'', r"'\''")) }
}
