//! `nas-cron admin-tokens`: the bearer tokens of the admin API.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::duration;
use nas_cron_base::terminal::{self, or_dash, relative};
use nas_cron_protocol::OrgId;
use serde_json::json;

use super::audited::Audited;
use super::operator::Operator;
use crate::admin_tokens::{AdminToken, TokenName, Wanted};
use crate::audit::Act;
use crate::domain::actor::Role;

/// Create, list and revoke the bearer tokens of the admin API.
///
/// The service stores only the SHA-256 of a token. Any number of tokens can be valid at once, beside those of the setting
/// `admin_token_sha256`. The command works on the database, also while the service is down, or with --server on a running
/// service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron admin-tokens create portal-2027 --role admin --expires-in 365d
  nas-cron admin-tokens create acme-desk --role operator --org acme
  nas-cron admin-tokens revoke portal-2026

Settings go before the subcommand: nas-cron admin-tokens --config nas-cron.toml list")]
pub struct AdminTokensArgs {
    #[command(subcommand)]
    command: AdminTokensCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AdminTokensCommand {
    Create(CreateArgs),
    /// List the tokens, ordered by name; also expired and revoked ones.
    List {
        /// Print JSON: {"tokens": […]}.
        #[arg(long)]
        json: bool,
    },
    /// Revoke a token: every replica rejects it once the command has returned.
    ///
    /// Tokens that it created stay valid; `nas-cron admin-tokens list` shows who created each.
    #[command(after_help = "Example:\n  nas-cron admin-tokens revoke portal-2026")]
    Revoke {
        /// Name of the token.
        name: TokenName,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Create a token, and print it. It is shown only once.
///
/// Roles: viewer reads; operator also holds, releases, cancels and redrives; admin also registers and deletes agents, and
/// manages tokens, keys, backends and auth profiles.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron admin-tokens create portal-2027 --role admin --expires-in 365d
  NAS_CRON_ADMIN_TOKEN=$(nas-cron admin-tokens create ci --role viewer)")]
struct CreateArgs {
    /// Name of the token, and of its caller in the audit log. A name is given only once.
    name: TokenName,
    /// Role of the token: viewer, operator or admin.
    #[arg(long)]
    role: Role,
    /// Limit the token to the agents of this org [default: all orgs, and the service itself].
    #[arg(long)]
    org: Option<OrgId>,
    /// Time after which the token is rejected, such as 90d [default: none].
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    expires_in: Option<Duration>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audited for AdminTokensArgs {
    fn act(&self) -> Option<Act> {
        match &self.command {
            AdminTokensCommand::List { .. } => None,
            AdminTokensCommand::Create(args) => {
                let act = Act::new("create_admin_token").about("token", &args.name).about("role", args.role);
                Some(match &args.org {
                    Some(org_id) => act.about("org_id", org_id),
                    None => act,
                })
            }
            AdminTokensCommand::Revoke { name, .. } => {
                Some(Act::new("revoke_admin_token").about("token", name))
            }
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: AdminTokensArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        AdminTokensCommand::Create(args) => create(args, on, out).await,
        AdminTokensCommand::List { json } => list(json, on, out).await,
        AdminTokensCommand::Revoke { name, json } => revoke(&name, json, on, out).await,
    }
}

async fn create(args: CreateArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = Wanted { name: args.name, role: args.role, org_id: args.org, expires_at: None };
    let ends = |now| args.expires_in.map(|length| ends_at(now, length)).transpose();
    let created = on.create_token(wanted, ends).await?;
    if args.json {
        return terminal::json(out, &created);
    }
    // Only the token, so that a script can take it from here.
    writeln!(out, "{}", created.token)?;
    Ok(())
}

fn ends_at(now: DateTime<Utc>, length: Duration) -> anyhow::Result<DateTime<Utc>> {
    let end = TimeDelta::from_std(length).ok().and_then(|length| now.checked_add_signed(length));
    end.context("--expires-in: must be shorter; leave it out for a token that does not expire")
}

async fn list(json: bool, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let tokens = on.tokens().await?;
    if json {
        return terminal::json(out, &json!({ "tokens": tokens }));
    }
    let now = on.now().await?;
    out.write_all(tokens_table(&tokens, now).as_bytes())?;
    Ok(())
}

fn tokens_table(tokens: &[AdminToken], now: DateTime<Utc>) -> String {
    if tokens.is_empty() {
        return "No admin tokens. `nas-cron admin-tokens create` creates one.\n".to_owned();
    }
    let mut table = terminal::table(&["NAME", "ROLE", "ORG", "STATE", "LAST USED", "CREATED", "CREATED BY"]);
    for token in tokens {
        table.add_row([
            token.name.clone(),
            token.role.to_string(),
            or_dash(token.org_id.as_deref()),
            state(token, now),
            or_dash(token.last_used_at.map(|at| relative(now, at))),
            relative(now, token.created_at),
            token.created_by.clone(),
        ]);
    }
    terminal::text(table)
}

fn state(token: &AdminToken, now: DateTime<Utc>) -> String {
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) => format!("revoked {}", relative(now, at)),
        (None, Some(at)) if at <= now => format!("expired {}", relative(now, at)),
        (None, Some(at)) => format!("expires {}", relative(now, at)),
        (None, None) => "valid".to_owned(),
    }
}

async fn revoke(name: &TokenName, json: bool, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let revoked = on.revoke_token(name).await?;
    if json {
        return terminal::json(out, &json!({ "name": name.as_str(), "revoked": revoked }));
    }
    let did = if revoked { "is revoked" } else { "was already revoked" };
    writeln!(out, "Admin token {name} {did}.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_matches_its_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let token = AdminToken {
            name: "portal-2027".to_owned(),
            role: Role::Admin,
            org_id: None,
            created_at: now - TimeDelta::days(3),
            created_by: "cli:root@cron-1".to_owned(),
            expires_at: None,
            last_used_at: Some(now - TimeDelta::minutes(4)),
            revoked_at: None,
            revoked_by: None,
        };
        let desk = AdminToken {
            name: "acme-desk".to_owned(),
            role: Role::Operator,
            org_id: Some("acme".to_owned()),
            expires_at: Some(now + TimeDelta::days(90)),
            last_used_at: None,
            ..token.clone()
        };
        let old = AdminToken {
            name: "old".to_owned(),
            revoked_at: Some(now - TimeDelta::hours(2)),
            ..token.clone()
        };
        let gone = AdminToken { name: "gone".to_owned(), expires_at: Some(now), ..token.clone() };
        insta::assert_snapshot!(tokens_table(&[desk, gone, old, token], now), @"
        NAME         ROLE      ORG   STATE            LAST USED  CREATED  CREATED BY
        acme-desk    operator  acme  expires in 90 d  -          3 d ago  cli:root@cron-1
        gone         admin     -     expired now      4 min ago  3 d ago  cli:root@cron-1
        old          admin     -     revoked 2 h ago  4 min ago  3 d ago  cli:root@cron-1
        portal-2027  admin     -     valid            4 min ago  3 d ago  cli:root@cron-1
        ");
        insta::assert_snapshot!(tokens_table(&[], now), @"No admin tokens. `nas-cron admin-tokens create` creates one.");
    }

    #[test]
    fn end_beyond_the_calendar_is_rejected() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        assert!(ends_at(now, Duration::from_hours(24)).is_ok());
        assert!(ends_at(now, Duration::MAX).is_err());
    }
}
