//! `nas-cron agents identities` and `nas-cron agents revoke`: lists and revokes what an agent calls with.

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{ArgGroup, Args};
use nas_cron_base::shell::CommandLine;
use nas_cron_base::terminal::{self, counted, or_dash, relative};
use nas_cron_protocol::{AgentRuntimeId, InstanceId, TaskId};
use serde_json::json;

use crate::audit::Act;
use crate::cli::operator::Operator;
use crate::identity::registry::{IdentityRecord, TaskRecord};

/// List the keys that an agent calls with, and its tasks.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents identities agent-1
  nas-cron agents identities agent-1 --json | jq -r '.identities[].agent_public_key'")]
pub(super) struct IdentitiesArgs {
    /// Instance id of the agent.
    instance_id: InstanceId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Revoke a key that an agent calls with, one of its tasks, all of its keys, or its login at the built-in portal.
///
/// The revocation applies at once on every replica, and is final. With --login, the agent's refresh tokens and access tokens
/// are rejected; its keys stay valid. Otherwise its portal tokens stay valid, and with one of them it can register a new key:
/// to lock the agent out, disable it as well. Its jobs stay armed.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("selection").required(true)), after_help = "\
Examples:
  nas-cron agents revoke agent-1 --identity 7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d
  nas-cron agents revoke agent-1 --all
  nas-cron agents revoke agent-1 --login")]
pub(super) struct RevokeArgs {
    /// Instance id of the agent.
    instance_id: InstanceId,
    /// Revoke this key and its tasks.
    #[arg(long, value_name = "AGENT_RUNTIME_ID", group = "selection")]
    identity: Option<AgentRuntimeId>,
    /// Revoke only this task. Its key can register a new task.
    #[arg(long, value_name = "TASK_ID", group = "selection")]
    task: Option<TaskId>,
    /// Revoke all keys and their tasks.
    #[arg(long, group = "selection")]
    all: bool,
    /// End its login at the built-in portal. `nas-cron agents enroll` creates another one.
    #[arg(long, group = "selection")]
    login: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl RevokeArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        let (action, about) = match (&self.identity, &self.task) {
            (Some(identity), _) => {
                ("revoke_agent_identity", Some(("agent_runtime_id", identity.to_string())))
            }
            (None, Some(task)) => ("revoke_agent_task", Some(("task_id", task.to_string()))),
            (None, None) if self.login => ("revoke_login", None),
            (None, None) => ("revoke_agent_identities", None),
        };
        let act = Act::new(action).about("instance_id", &self.instance_id);
        match about {
            Some((name, value)) => act.about(name, value),
            None => act,
        }
    }
}

pub(super) async fn list(args: &IdentitiesArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let agent = on.agent(&args.instance_id).await?.agent;
    let identities = on.identities(&args.instance_id).await?;
    if args.json {
        return terminal::json(out, &json!({ "identities": identities }));
    }
    if identities.is_empty() {
        writeln!(out, "Agent {} has no keys: it calls with portal tokens.", agent.instance_id)?;
        return Ok(());
    }
    let now = on.now().await?;
    out.write_all(identities_table(&identities, now).as_bytes())?;
    Ok(())
}

pub(super) async fn revoke(args: &RevokeArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    if args.login {
        return revoke_login(args, on, out).await;
    }
    let agent = on.agent(&args.instance_id).await?.agent;
    let (instance_id, name) = (&args.instance_id, &agent.instance_id);
    let list = CommandLine::new("agents identities").of([name.as_str()]);
    let hint = format!("`{list}` lists its keys and tasks");
    let (revoked, subject) = match (args.identity, args.task) {
        (Some(id), _) => {
            let Some(changed) = on.revoke_identity(instance_id, id).await? else {
                bail!("agent {name} has no key {id}; {hint}");
            };
            (i64::from(changed), format!("Key {id} of agent {name}"))
        }
        (_, Some(id)) => {
            let Some(changed) = on.revoke_task(instance_id, id).await? else {
                bail!("agent {name} has no task {id}; {hint}");
            };
            (i64::from(changed), format!("Task {id} of agent {name}"))
        }
        _ => {
            let revoked = on.revoke_identities(instance_id).await?;
            if !args.json {
                writeln!(out, "{} of agent {name} revoked.", counted(revoked, "key"))?;
            }
            (revoked, String::new())
        }
    };
    if args.json {
        return terminal::json(out, &json!({ "instance_id": name, "revoked": revoked }));
    }
    if !args.all {
        let already = if revoked == 0 { " already" } else { "" };
        writeln!(out, "{subject} is{already} revoked.")?;
    }
    Ok(())
}

async fn revoke_login(args: &RevokeArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let done = on.revoke_login(&args.instance_id).await?;
    if args.json {
        let revoked = i64::from(done.revoked);
        return terminal::json(out, &json!({ "instance_id": done.instance_id, "revoked": revoked }));
    }
    let did = if done.revoked { "is revoked" } else { "had already ended" };
    let name = &done.instance_id;
    writeln!(out, "The login of agent {name} {did}; `nas-cron agents enroll` creates another one.")?;
    Ok(())
}

/// Returns the state of a key: `ok`, or the reason for its rejection.
fn standing(identity: &IdentityRecord) -> &'static str {
    match identity {
        IdentityRecord { revoked_at: Some(_), .. } => "revoked",
        IdentityRecord { of_org: Some(_), .. } => "of another org",
        _ => "ok",
    }
}

fn is_valid(task: &TaskRecord, now: DateTime<Utc>) -> bool {
    task.revoked_at.is_none() && task.expires_at > now
}

fn identities_table(identities: &[IdentityRecord], now: DateTime<Utc>) -> String {
    let mut table = terminal::table(&["KEY / TASK", "STATE", "REGISTERED", "LAST USED", "EXPIRES"]);
    for identity in identities {
        table.add_row([
            identity.agent_runtime_id.to_string(),
            standing(identity).to_owned(),
            relative(now, identity.created_at),
            or_dash(identity.last_used_at.map(|at| relative(now, at))),
            "-".to_owned(),
        ]);
        // Expired and revoked tasks are shown in JSON only.
        for task in identity.tasks.iter().filter(|task| is_valid(task, now)) {
            table.add_row([
                format!("  {}", task.task_id),
                "ok".to_owned(),
                relative(now, task.created_at),
                or_dash(task.last_used_at.map(|at| relative(now, at))),
                relative(now, task.expires_at),
            ]);
        }
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn table_shows_valid_tasks_only() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let task = |id: &str, hours: i64| TaskRecord {
            task_id: TaskId::parse(id).unwrap(),
            created_at: now - TimeDelta::hours(20),
            expires_at: now + TimeDelta::hours(hours),
            last_used_at: Some(now - TimeDelta::minutes(4)),
            revoked_at: None,
        };
        let identity = IdentityRecord {
            agent_runtime_id: AgentRuntimeId::parse("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d").unwrap(),
            agent_public_key: "ssh-ed25519 AAAA".to_owned(),
            created_at: now - TimeDelta::days(3),
            last_used_at: Some(now - TimeDelta::minutes(4)),
            revoked_at: None,
            of_org: None,
            tasks: vec![
                task("0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d", 23),
                task("0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4e", -1),
            ],
        };
        let revoked = IdentityRecord {
            agent_runtime_id: AgentRuntimeId::parse("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e").unwrap(),
            revoked_at: Some(now),
            last_used_at: None,
            tasks: Vec::new(),
            ..identity.clone()
        };
        let moved = IdentityRecord { revoked_at: None, of_org: Some("acme".to_owned()), ..revoked.clone() };
        insta::assert_snapshot!(identities_table(&[identity, moved, revoked], now), @"
        KEY / TASK                              STATE           REGISTERED  LAST USED  EXPIRES
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d    ok              3 d ago     4 min ago  -
          0b8e1b0e-6f3a-4c55-8e0c-2f6f1a2b3c4d  ok              20 h ago    4 min ago  in 23 h
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e    of another org  3 d ago     -          -
        7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0e    revoked         3 d ago     -          -
        ");
    }
}
