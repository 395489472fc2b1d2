//! `nas-cron agents show`.

use std::io::Write;

use chrono::{DateTime, Utc};
use nas_cron_base::terminal::{self, counted, or_dash, relative};

use super::{OneArgs, login};
use crate::cli::operator::Operator;
use crate::domain::PortalDenial;
use crate::domain::registration::{Agent, ShownAgent};

/// Prints all facts about the agent.
pub(super) async fn run(args: &OneArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let shown = on.agent(&args.instance_id).await?;
    if args.json {
        return terminal::json(out, &shown);
    }
    let now = on.now().await?;
    out.write_all(facts(&shown, now).as_bytes())?;
    Ok(())
}

/// Returns the state of the agent: `ok`, or the reason why its one-shots do not fire.
pub(super) fn condition(agent: &Agent) -> &'static str {
    match agent {
        Agent { enabled: false, .. } => "disabled",
        Agent { denied_by_portal: Some(_), .. } => "denied",
        Agent { on_hold: true, .. } => "on hold",
        Agent { unreachable_since: Some(_), .. } => "unreachable",
        Agent { busy_until: Some(_), .. } => "busy",
        _ => "ok",
    }
}

fn facts(shown: &ShownAgent, now: DateTime<Utc>) -> String {
    let ShownAgent { agent, login, quota } = shown;
    let with_time = |at: DateTime<Utc>| format!("{} ({})", relative(now, at), at.format("%F %T UTC"));
    let state = match condition(agent) {
        "disabled" => "disabled: its fires are held and its calls refused until `nas-cron agents enable`",
        "denied" => match agent.denied_by_portal {
            Some(PortalDenial::Disabled) => "denied: the portal reports it as disabled; its fires are held",
            _ => "denied: the portal reports it as unknown; its fires are held",
        },
        "on hold" => "on hold: its fires are parked until `nas-cron release`; see `nas-cron hold list`",
        "unreachable" => "unreachable: one one-shot probes it, the others are parked",
        "busy" => "busy: it asked to wait (Retry-After), and no one-shot fires before that",
        other => other,
    };
    let login = login.as_ref().map(|login| ("login", login::in_words(login, now)));
    let first = [
        ("agent", agent.instance_id.clone()),
        ("org", agent.org_id.clone()),
        ("session", or_dash(agent.bootstrap_session_id.as_deref())),
    ];
    let homes = agent.alternating_callback_url.as_ref().map(|other| {
        (
            "two homes",
            format!("its callback alternates with {other}: two homes share this identity; stop one of them"),
        )
    });
    let middle = [("state", state.to_owned()), ("callback", or_dash(agent.callback_url.as_deref()))];
    let quota = quota.map(|quota| {
        let whose = if agent.own_quota.is_some() { "its own" } else { "the default" };
        ("quota", format!("{} armed ({whose})", counted(quota, "job")))
    });
    let rest = [
        ("unreachable since", or_dash(agent.unreachable_since.map(with_time))),
        ("busy until", or_dash(agent.busy_until.map(with_time))),
        ("armed", format!("{}, of which {} parked", counted(agent.armed, "one-shot"), agent.parked)),
        ("dead", counted(agent.dead, "one-shot")),
    ];
    let last = [
        ("next attempt", or_dash(agent.next_attempt_at.map(with_time))),
        ("registered", with_time(agent.created_at)),
        ("changed", with_time(agent.updated_at)),
    ];
    terminal::text(terminal::facts(
        &first
            .into_iter()
            .chain(login)
            .chain(middle)
            .chain(homes)
            .chain(rest)
            .chain(quota)
            .chain(last)
            .collect::<Vec<_>>(),
    ))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::fixtures::agent;
    use super::*;

    #[test]
    fn facts_match_their_snapshot() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let facts = |agent: &Agent, now| {
            facts(&ShownAgent { agent: agent.clone(), login: None, quota: Some(10_000) }, now)
        };
        let denied = Agent { denied_by_portal: Some(PortalDenial::Unknown), on_hold: true, ..agent() };
        assert!(facts(&denied, now).contains("denied: the portal reports it as unknown; its fires are held"));
        let shared =
            Agent { alternating_callback_url: Some("https://agent-2.example".to_owned()), ..agent() };
        assert!(facts(&shared, now).contains(
            "two homes          its callback alternates with https://agent-2.example: two homes share this identity"
        ));
        let unreachable =
            Agent { unreachable_since: Some(now - TimeDelta::seconds(30)), parked: 1, ..agent() };
        let busy = Agent { busy_until: Some(now + TimeDelta::seconds(40)), ..agent() };
        assert!(facts(&busy, now).contains("busy: it asked to wait (Retry-After)"));
        insta::assert_snapshot!(facts(&unreachable, now), @"
        agent              agent-1
        org                acme
        session            sid-1
        state              unreachable: one one-shot probes it, the others are parked
        callback           https://agent-1.example
        unreachable since  30 s ago (2027-01-15 07:59:30 UTC)
        busy until         -
        armed              2 one-shots, of which 1 parked
        dead               1 one-shot
        quota              10000 jobs armed (the default)
        next attempt       in 3 min (2027-01-15 08:03:00 UTC)
        registered         4 d ago (2027-01-11 08:00:00 UTC)
        changed            5 h ago (2027-01-15 03:00:00 UTC)
        ");
    }
}
