//! The lines that commands write into the audit log.

use std::process::ExitCode;

use anyhow::Context;
use nas_cron_base::output;
use nas_cron_base::terminal::error_in_one_line;

use super::process::warn;
use crate::audit::{self, Act, AuditOutcome};
use crate::db::{Db, DbError};
use crate::domain::actor::{Actor, Role};

/// The arguments of a command that may change the state of the service.
pub(super) trait Audited {
    /// Returns the line that the command writes; `None` if it only reads.
    fn act(&self) -> Option<Act>;
}

/// Returns the user who runs the command. Whoever reaches the database may do everything.
pub(super) fn operator() -> Actor {
    let user = whoami::username().unwrap_or_else(|_| "unknown".to_owned());
    let host = whoami::hostname().unwrap_or_else(|_| "unknown".to_owned());
    Actor { name: format!("cli:{user}@{host}"), role: Role::Admin, org: None, expires_at: None, origin: host }
}

/// Runs a command that prints its result, between the two halves of its line in the audit log. If the line cannot be
/// written, the command does not run.
pub(super) async fn recorded(
    db: &Db,
    act: Option<Act>,
    command: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<ExitCode> {
    let Some(act) = act else { return command.await.map(|()| ExitCode::SUCCESS) };
    let id = audit::begin(db, &operator(), &act).await;
    let id = id.context("writing the audit log failed, so nothing was changed")?;
    let result = command.await;
    match &result {
        Err(error) if !output::reader_left().is_cancelled() => {
            audit::end(db, id, outcome(error), &[], Some(&error_in_one_line(error))).await;
        }
        // The command printed its result after the change.
        _ => audit::end(db, id, AuditOutcome::Done, &[], None).await,
    }
    result.map(|()| ExitCode::SUCCESS)
}

/// Writes the line of a change that could not be announced, because it created the audit log.
pub(super) async fn noted(db: &Db, act: &Act) {
    match audit::begin(db, &operator(), act).await {
        Ok(id) => audit::end(db, id, AuditOutcome::Done, &[], None).await,
        Err(error) => warn(&format!("the change was made, but writing the audit log failed: {error}")),
    }
}

fn outcome(error: &anyhow::Error) -> AuditOutcome {
    if error.chain().any(<dyn std::error::Error>::is::<DbError>) {
        AuditOutcome::Failed
    } else {
        AuditOutcome::Refused
    }
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::cli::admin_tokens::AdminTokensArgs;
    use crate::cli::agents::AgentsArgs;
    use crate::cli::auth_profiles::AuthProfilesArgs;
    use crate::cli::backend::BackendArgs;
    use crate::cli::hold::{HoldArgs, ReleaseArgs};
    use crate::cli::jobs::JobsArgs;
    use crate::cli::keys::KeysArgs;
    use crate::cli::orgs::OrgsArgs;
    use crate::cli::transfer::export::ExportArgs;
    use crate::cli::transfer::import::ImportArgs;
    use crate::cli::webhooks::WebhooksArgs;

    /// Actions of commands that the admin API does not have. Any other action is the ID of an operation, so that the audit
    /// log has one name for what is done, however it is done.
    const LOCAL_ACTIONS: [&str; 8] = [
        "enroll_agent",
        "export_state",
        "import_agents",
        "import_jobs",
        "import_key",
        "import_state",
        "migrate_schema",
        "revoke_agent_identities",
    ];

    /// True for the ID of an operation, and for a local action.
    fn is_known(action: &str) -> bool {
        // Another test compares its table with the operations.
        let page = include_str!("../../docs/admin-api.md");
        page.contains(&format!("\n| `{action}` | `")) || LOCAL_ACTIONS.contains(&action)
    }

    /// Returns the line of a command.
    fn act<A: Args + Audited>(line: &str) -> Act {
        let command = A::augment_args(clap::Command::new("test").no_binary_name(true));
        let matches = command.try_get_matches_from(line.split_whitespace());
        let matches = matches.unwrap_or_else(|error| panic!("{line}: {error}"));
        A::from_arg_matches(&matches).unwrap().act().unwrap_or_else(|| panic!("{line} has no line"))
    }

    #[test]
    fn commands_have_the_names_of_the_admin_api_in_the_audit_log() {
        const ID: &str = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
        type Line = fn(&str) -> Act;
        let lines: &[(Line, &str, &str)] = &[
            (act::<AgentsArgs>, "add a --org o", "put_agent"),
            (act::<AgentsArgs>, "enroll a --org o --callback-url https://a.example", "enroll_agent"),
            (act::<AgentsArgs>, "disable a", "disable_agent"),
            (act::<AgentsArgs>, "enable a", "enable_agent"),
            (act::<AgentsArgs>, "remove a", "delete_agent"),
            (act::<AgentsArgs>, "remove a --everything --confirm x", "delete_everything"),
            (act::<AgentsArgs>, "set-callback a https://a.example", "set_agent_callback"),
            (act::<AgentsArgs>, "quota a --set 5", "put_instance_quota"),
            (act::<AgentsArgs>, "quota a --default", "delete_instance_quota"),
            (act::<AgentsArgs>, "import a.csv", "import_agents"),
            (act::<AgentsArgs>, "revoke a --identity ID", "revoke_agent_identity"),
            (act::<AgentsArgs>, "revoke a --task ID", "revoke_agent_task"),
            (act::<AgentsArgs>, "revoke a --login", "revoke_login"),
            (act::<AgentsArgs>, "revoke a --all", "revoke_agent_identities"),
            (act::<JobsArgs>, "cancel a j", "cancel_job"),
            (act::<JobsArgs>, "fire a j", "fire_job"),
            (act::<JobsArgs>, "nudge a j", "nudge_job"),
            (act::<JobsArgs>, "dismiss a j", "dismiss_job"),
            (act::<JobsArgs>, "redrive a j", "redrive_job"),
            (act::<JobsArgs>, "redrive a", "redrive_jobs"),
            (act::<JobsArgs>, "import a.jsonl", "import_jobs"),
            (act::<OrgsArgs>, "delete o --confirm x", "delete_everything"),
            (act::<OrgsArgs>, "quota o --set 5", "put_org_quota"),
            (act::<OrgsArgs>, "quota o --default", "delete_org_quota"),
            (act::<HoldArgs>, "--all", "hold_service"),
            (act::<HoldArgs>, "--org o", "hold_org"),
            (act::<HoldArgs>, "--instance a", "hold_instance"),
            (act::<HoldArgs>, "--instance a --job j", "hold_job"),
            (act::<ReleaseArgs>, "--all", "release_service"),
            (act::<ReleaseArgs>, "--org o", "release_org"),
            (act::<ReleaseArgs>, "--instance a", "release_instance"),
            (act::<ReleaseArgs>, "--instance a --job j", "release_job"),
            (act::<AuthProfilesArgs>, "set --service p:a", "put_service_auth_profiles"),
            (act::<AuthProfilesArgs>, "set --org o p:a", "put_org_auth_profiles"),
            (act::<AuthProfilesArgs>, "set --instance a p:a", "put_instance_auth_profiles"),
            (act::<AuthProfilesArgs>, "clear --service", "delete_service_auth_profiles"),
            (act::<AuthProfilesArgs>, "clear --org o", "delete_org_auth_profiles"),
            (act::<AuthProfilesArgs>, "clear --instance a", "delete_instance_auth_profiles"),
            (act::<KeysArgs>, "rotate", "rotate_keys"),
            (act::<KeysArgs>, "import --pem x", "import_key"),
            (act::<KeysArgs>, "activate k", "activate_key"),
            (act::<KeysArgs>, "withdraw k", "withdraw_key"),
            (act::<KeysArgs>, "rewrap", "rewrap_keys"),
            (act::<BackendArgs>, "switch postgres", "switch_backend"),
            (act::<AdminTokensArgs>, "create t --role viewer", "create_admin_token"),
            (act::<AdminTokensArgs>, "revoke t", "revoke_admin_token"),
            (act::<WebhooksArgs>, "add https://a.example", "create_webhook"),
            (act::<WebhooksArgs>, "set ID --description x", "update_webhook"),
            (act::<WebhooksArgs>, "disable ID", "update_webhook"),
            (act::<WebhooksArgs>, "enable ID", "update_webhook"),
            (act::<WebhooksArgs>, "rotate-secret ID", "rotate_webhook_secret"),
            (act::<WebhooksArgs>, "remove ID", "delete_webhook"),
            (act::<WebhooksArgs>, "test ID", "test_webhook"),
            (act::<WebhooksArgs>, "redeliver ID ID", "redeliver_event"),
            (act::<ExportArgs>, "-", "export_state"),
            (act::<ImportArgs>, "-", "import_state"),
        ];
        for (act, line, action) in lines {
            assert_eq!(act(&line.replace("ID", ID)).action, *action, "{line}");
            assert!(is_known(action), "`{action}` is an unknown operation");
        }
        let is_needed =
            |local: &&&str| **local == "migrate_schema" || lines.iter().any(|(.., action)| action == *local);
        assert_eq!(LOCAL_ACTIONS.iter().filter(is_needed).count(), LOCAL_ACTIONS.len());
    }

    #[test]
    fn line_of_a_redrive_has_everything_that_selects_its_one_shots() {
        let line = act::<JobsArgs>("redrive --org o --include-stuck --error busy --per-second 9");
        let entries: Vec<_> = line.subject.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(entries.join(" "), "org_id=o state=dead,stuck error=busy per_second=9");
    }
}
