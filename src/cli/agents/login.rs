//! `nas-cron agents logins`, and the login of an agent at the built-in portal as `agents show` prints it.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, relative};
use nas_cron_protocol::{InstanceId, OrgId};

use crate::cli::operator::Operator;
use crate::domain::LoginEnd;
use crate::domain::login::{ListedLogin, Login, LoginPage};

/// List the last login of each agent at the built-in portal, ordered by instance id.
///
/// `nas-cron agents enroll` creates logins, and `nas-cron agents revoke --login` ends one.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents logins --org acme
  nas-cron agents logins --json | jq -r '.logins[] | select(.ended_by == \"reused\") | .instance_id'")]
pub(super) struct LoginsArgs {
    /// Only agents of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Maximum number of logins.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Resume after this agent: the last line of the previous page.
    #[arg(long, value_name = "INSTANCE_ID")]
    after: Option<InstanceId>,
    /// Print JSON: {"logins": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// Prints a page of the list.
pub(super) async fn list(args: LoginsArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut all = LoginPage { logins: Vec::new(), next: args.after.map(|after| after.to_string()) };
    loop {
        let room = args.limit - u32::try_from(all.logins.len()).unwrap_or(args.limit);
        let page = on.logins(args.org.as_ref(), room, all.next.as_deref()).await?;
        all.logins.extend(page.logins);
        all.next = page.next;
        if all.next.is_none() || all.logins.len() >= args.limit as usize {
            break;
        }
    }
    if args.json {
        return terminal::json(out, &all);
    }
    let now = on.now().await?;
    out.write_all(table(&all.logins, now).as_bytes())?;
    if let Some(next) = all.next {
        writeln!(out, "More logins follow: --after {next}")?;
    }
    Ok(())
}

fn table(logins: &[ListedLogin], now: DateTime<Utc>) -> String {
    if logins.is_empty() {
        return "No logins. `nas-cron agents enroll` creates one.\n".to_owned();
    }
    let mut table = terminal::table(&["AGENT", "ORG", "CREATED", "LOGIN"]);
    for ListedLogin { instance_id, org_id, login } in logins {
        table.add_row([
            instance_id.clone(),
            org_id.clone(),
            relative(now, login.created_at),
            in_words(login, now),
        ]);
    }
    terminal::text(table)
}

/// Describes the state of a login, and the fix if it has ended.
pub(super) fn in_words(login: &Login, now: DateTime<Utc>) -> String {
    let ago = |at: Option<DateTime<Utc>>| at.map_or_else(|| "-".to_owned(), |at| relative(now, at));
    match login.ended_by {
        Some(LoginEnd::Reused) => format!(
            "ended {}: a spent refresh token was presented, because two homes share the login or an old copy was restored; \
             `nas-cron agents enroll` creates a new login",
            ago(login.ended_at)
        ),
        Some(LoginEnd::Replaced) => format!("ended {}: replaced", ago(login.ended_at)),
        Some(LoginEnd::Revoked) => format!(
            "ended {}: revoked by an operator; `nas-cron agents enroll` creates a new login",
            ago(login.ended_at)
        ),
        None if login.refreshed_at.is_none() => {
            format!("created {}, not used yet", relative(now, login.created_at))
        }
        None => format!("last refreshed {}", ago(login.refreshed_at)),
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn ended_login_shows_the_fix() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut login = Login {
            login_id: Uuid::nil(),
            key_id: Vec::new(),
            number: 3,
            created_at: now - TimeDelta::hours(2),
            refreshed_at: None,
            ended_at: None,
            ended_by: None,
        };
        assert_eq!(in_words(&login, now), "created 2 h ago, not used yet");
        login.refreshed_at = Some(now - TimeDelta::minutes(5));
        assert_eq!(in_words(&login, now), "last refreshed 5 min ago");
        login.ended_at = Some(now - TimeDelta::minutes(4));
        login.ended_by = Some(LoginEnd::Reused);
        let told = in_words(&login, now);
        assert!(told.starts_with("ended 4 min ago: a spent") && told.contains("agents enroll"), "{told}");
        login.ended_by = Some(LoginEnd::Revoked);
        let listed = ListedLogin { instance_id: "agent-1".to_owned(), org_id: "acme".to_owned(), login };
        insta::assert_snapshot!(table(&[listed], now), @"
        AGENT    ORG   CREATED  LOGIN
        agent-1  acme  2 h ago  ended 4 min ago: revoked by an operator; `nas-cron agents enroll` creates a new login
        ");
        insta::assert_snapshot!(table(&[], now), @"No logins. `nas-cron agents enroll` creates one.");
    }
}
