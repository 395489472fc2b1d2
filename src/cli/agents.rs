//! `nas-cron agents`: which instances there are.

mod config;
mod enroll;
mod home;
mod identities;
mod import;
mod login;
mod yaml;

use std::io::Write;

use anyhow::bail;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, counted, or_dash, printable, relative};
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};
use serde_json::json;

use self::config::ConfigArgs;
use self::enroll::EnrollArgs;
use self::identities::{IdentitiesArgs, RevokeArgs};
use super::directory_error::explained;
use super::lines::ImportArgs;
use crate::config::{ConfigError, OwnPortal};
use crate::db::Db;
use crate::db::{directory as statements, logins};
use crate::directory::{self, Change, DirectoryError};
use crate::domain::PortalDenial;
use crate::domain::login::Login;
use crate::domain::registration::{Agent, AgentFilter, Registration};

/// Register agents, and see how they are.
///
/// Works on the database, also while the service is down. The portal's backend does the same over the admin API:
/// PUT, GET and DELETE `/api/admin/agents/{instance_id}`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents add agent-1 --org acme --session 0192f3a1
  nas-cron agents import agents.csv --dry-run
  nas-cron agents config agent-1 >> config.yaml
  nas-cron agents list --org acme --json")]
pub struct AgentsArgs {
    #[command(subcommand)]
    command: AgentsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AgentsCommand {
    Add(AddArgs),
    Enroll(EnrollArgs),
    List(ListArgs),
    Show(OneArgs),
    /// Hold an agent's fires and refuse its calls. None is lost: `enable` releases them.
    #[command(after_help = "Example:\n  nas-cron agents disable agent-1")]
    Disable(OneArgs),
    /// Let an agent provision and be fired again, at once for what is due.
    #[command(after_help = "Example:\n  nas-cron agents enable agent-1")]
    Enable(OneArgs),
    Remove(RemoveArgs),
    SetCallback(SetCallbackArgs),
    Import(ImportAgentsArgs),
    Config(ConfigArgs),
    Identities(IdentitiesArgs),
    Revoke(RevokeArgs),
}

/// Register an agent, or change its registration.
///
/// What is left out keeps what an earlier registration, or the agent itself, said. Repeating it changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents add agent-1 --org acme --session 0192f3a1
  nas-cron agents add agent-2 --org acme                 Known by its tokens' client agent:agent-2 only")]
struct AddArgs {
    /// Its name in the portal.
    instance_id: InstanceId,
    /// The org that owns it.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// The bootstrap session planted in it: its tokens' `sid`.
    #[arg(long, value_name = "SID")]
    session: Option<SessionId>,
    /// Where it is reached. It brings this along with its first provision.
    #[arg(long, value_name = "URL", value_parser = directory::callback_url)]
    callback_url: Option<CallbackUrl>,
    /// Register it, but hold its fires and refuse its calls until it is enabled.
    #[arg(long)]
    disabled: bool,
    /// Yes, it may leave its org for this one; the old org's tokens stop working.
    #[arg(long)]
    move_org: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// List agents, in the order of their names.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents list --org acme
  nas-cron agents list --limit 1000 --after agent-0999 --json")]
struct ListArgs {
    /// Of this org only.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only those that are enabled.
    #[arg(long, conflicts_with = "disabled")]
    enabled: bool,
    /// Only those that are disabled.
    #[arg(long)]
    disabled: bool,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// From here on: what the list before ended with.
    #[arg(long, value_name = "INSTANCE_ID")]
    after: Option<InstanceId>,
    /// Print JSON: {"agents": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// Show one agent.
#[derive(Clone, Debug, Args)]
struct OneArgs {
    /// Its name.
    instance_id: InstanceId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Remove an agent, and its one-shots with it.
///
/// None of them fires any more; their history stays. To stop an agent for a while, disable it instead.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents remove agent-1 --yes")]
struct RemoveArgs {
    /// Its name.
    instance_id: InstanceId,
    /// Yes, also if it has one-shots.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Tell where an agent is reached now: all its one-shots go there.
///
/// Agents do this themselves when they come with another callback; this is for one that cannot.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron agents set-callback agent-1 https://agent-1.agents.example")]
struct SetCallbackArgs {
    /// Its name.
    instance_id: InstanceId,
    /// The base URL: fires go to {URL}/api/cron/fire.
    #[arg(value_name = "URL", value_parser = directory::callback_url)]
    callback_url: CallbackUrl,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Register many agents, from JSON Lines or CSV.
///
/// Fields: `instance_id`, `org_id`, and if known `bootstrap_session_id`, `callback_url`, `enabled`; a CSV names
/// them in its first line. What is left out keeps what is there. Good lines are taken, every bad one is named, and the exit
/// code is 1 if there was one. Repeating it changes nothing.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents import agents.csv --dry-run
  jq -c '.[] | {instance_id, org_id}' export.json | nas-cron agents import -")]
struct ImportAgentsArgs {
    #[command(flatten)]
    import: ImportArgs,
    /// Yes, agents may leave their orgs for those in the file.
    #[arg(long)]
    move_org: bool,
}

/// What the configuration says of where agents turn to. Only `config` and `enroll` need it.
#[derive(Debug)]
pub struct Urls {
    /// The portal's, if it is set.
    pub portal: Option<String>,
    /// Where agents fetch the keys of fire tokens, if it or what it follows from is set.
    pub agents_jwks: Option<String>,
    /// This service as the portal, or why it is none.
    pub own_portal: Result<OwnPortal, ConfigError>,
}

/// Does what was asked for, and says so on `out`.
pub async fn run(args: AgentsArgs, db: &Db, urls: Urls, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        AgentsCommand::Add(args) => add(args, db, out).await,
        AgentsCommand::Enroll(args) => enroll::run(args, db, &urls.own_portal?, out).await,
        AgentsCommand::List(args) => list(args, db, out).await,
        AgentsCommand::Show(args) => show_one(&args, db, out).await,
        AgentsCommand::Disable(args) => set_enabled(&args, false, db, out).await,
        AgentsCommand::Enable(args) => set_enabled(&args, true, db, out).await,
        AgentsCommand::Remove(args) => remove(&args, db, out).await,
        AgentsCommand::SetCallback(args) => set_callback(&args, db, out).await,
        AgentsCommand::Import(args) => import::run(&args.import, args.move_org, db, out).await,
        AgentsCommand::Config(args) => config::run(&args, db, &urls, out).await,
        AgentsCommand::Identities(args) => identities::list(&args, db, out).await,
        AgentsCommand::Revoke(args) => identities::revoke(&args, db, out).await,
    }
}

async fn find(db: &Db, instance_id: &InstanceId) -> anyhow::Result<Agent> {
    directory::find(db, instance_id).await.map_err(explained)
}

async fn add(args: AddArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let wanted = Registration {
        instance_id: args.instance_id,
        org_id: args.org,
        bootstrap_session_id: args.session.map_or(Given::Keep, Given::Set),
        callback_url: args.callback_url,
        enabled: args.disabled.then_some(false),
    };
    let (change, agent) = directory::register(db, wanted, args.move_org).await.map_err(explained)?;
    if args.json {
        return terminal::json(out, &json!({ "change": change, "agent": agent }));
    }
    let did = match change {
        Change::Added => "added",
        Change::Updated => "updated",
        Change::Unchanged => "is registered like this already",
    };
    let disabled = if agent.enabled { "" } else { " It is disabled: `nas-cron agents enable` lets it work." };
    writeln!(out, "Agent {} of org {} {did}.{disabled}", agent.instance_id, agent.org_id)?;
    Ok(())
}

async fn list(args: ListArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let enabled = match (args.enabled, args.disabled) {
        (true, _) => Some(true),
        (_, true) => Some(false),
        _ => None,
    };
    let filter = AgentFilter { org_id: args.org, enabled, instance_id: None };
    let page = directory::list(db, &filter, args.after.as_ref().map(InstanceId::as_str), args.limit).await?;
    if args.json {
        return terminal::json(out, &json!({ "agents": page.items, "next": page.next }));
    }
    let now = statements::now(db).await?;
    out.write_all(agents_table(&page.items, now).as_bytes())?;
    if let Some(next) = page.next {
        writeln!(out, "There are more: --after {next}")?;
    }
    Ok(())
}

/// Enabled or not, and what else keeps it from being fired.
fn condition(agent: &Agent) -> &'static str {
    match agent {
        Agent { enabled: false, .. } => "disabled",
        Agent { denied_by_portal: Some(_), .. } => "denied",
        Agent { on_hold: true, .. } => "on hold",
        Agent { unreachable_since: Some(_), .. } => "unreachable",
        _ => "ok",
    }
}

fn agents_table(agents: &[Agent], now: DateTime<Utc>) -> String {
    if agents.is_empty() {
        return "No agents. `nas-cron agents add` registers one.\n".to_owned();
    }
    let mut table =
        terminal::table(&["AGENT", "ORG", "STATE", "ARMED", "PARKED", "DEAD", "NEXT", "CALLBACK"]);
    for agent in agents {
        table.add_row([
            agent.instance_id.clone(),
            agent.org_id.clone(),
            condition(agent).to_owned(),
            agent.armed.to_string(),
            agent.parked.to_string(),
            agent.dead.to_string(),
            or_dash(agent.next_attempt_at.map(|at| relative(now, at))),
            or_dash(agent.callback_url.as_deref().map(printable)),
        ]);
    }
    terminal::text(table)
}

async fn show_one(args: &OneArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let agent = find(db, &args.instance_id).await?;
    let login = logins::last(db, &args.instance_id).await?;
    if args.json {
        return terminal::json(out, &login::Shown { agent: &agent, login: login.as_ref() });
    }
    let now = statements::now(db).await?;
    out.write_all(facts(&agent, login.as_ref(), now).as_bytes())?;
    Ok(())
}

fn facts(agent: &Agent, login: Option<&Login>, now: DateTime<Utc>) -> String {
    let with_time = |at: DateTime<Utc>| format!("{} ({})", relative(now, at), at.format("%F %T UTC"));
    let why = match condition(agent) {
        "disabled" => "disabled: its fires are held and its calls refused until `nas-cron agents enable`",
        "denied" => match agent.denied_by_portal {
            Some(PortalDenial::Disabled) => "denied: disabled at the portal, so its fires are held",
            _ => "denied: the portal does not know it, so its fires are held",
        },
        "on hold" => "on hold: its fires wait for `nas-cron release`; see `nas-cron hold list`",
        "unreachable" => "unreachable: one one-shot probes it, the others wait for that",
        other => other,
    };
    let login = login.map(|login| ("login", login::in_words(login, now)));
    let first = [
        ("agent", agent.instance_id.clone()),
        ("org", agent.org_id.clone()),
        ("session", or_dash(agent.bootstrap_session_id.as_deref())),
    ];
    let rest = [
        ("state", why.to_owned()),
        ("callback", or_dash(agent.callback_url.as_deref())),
        ("unreachable", or_dash(agent.unreachable_since.map(with_time))),
        ("armed", format!("{}, of which {} parked", counted(agent.armed, "one-shot"), agent.parked)),
        ("dead", counted(agent.dead, "one-shot")),
        ("next attempt", or_dash(agent.next_attempt_at.map(with_time))),
        ("registered", with_time(agent.created_at)),
        ("changed", with_time(agent.updated_at)),
    ];
    terminal::text(terminal::facts(&first.into_iter().chain(login).chain(rest).collect::<Vec<_>>()))
}

async fn set_enabled(args: &OneArgs, enabled: bool, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let before = find(db, &args.instance_id).await?;
    let changed = directory::set_enabled(db, &args.instance_id, enabled).await.map_err(explained)?;
    let agent = find(db, &args.instance_id).await?;
    let released = if agent.on_hold { 0 } else { (before.parked - agent.parked).max(0) };
    if args.json {
        return terminal::json(out, &json!({ "changed": changed, "released": released, "agent": agent }));
    }
    let already = if changed { "" } else { " already" };
    let name = &agent.instance_id;
    match (enabled, agent.on_hold) {
        (false, _) => {
            let waiting = counted(agent.armed, "one-shot");
            writeln!(
                out,
                "Agent {name} is disabled{already}. It has {waiting}; none fires until it is enabled."
            )?;
        }
        (true, true) => writeln!(
            out,
            "Agent {name} is enabled{already}, but still on hold, with {} parked: see `nas-cron hold list`.",
            counted(agent.parked, "one-shot")
        )?,
        (true, false) => {
            writeln!(out, "Agent {name} is enabled{already}; {} released.", counted(released, "one-shot"))?;
        }
    }
    Ok(())
}

async fn remove(args: &RemoveArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let agent = find(db, &args.instance_id).await?;
    let held = agent.armed + agent.dead;
    if held > 0 && !args.yes {
        bail!(
            "agent {} has {} that would be forgotten; say --yes if that is meant, or disable it instead",
            agent.instance_id,
            counted(held, "one-shot")
        );
    }
    let one_shots = match directory::remove(db, &args.instance_id).await {
        // Somebody else was faster: it is gone all the same.
        Err(DirectoryError::Unknown(_)) => 0,
        other => other.map_err(explained)?,
    };
    if args.json {
        return terminal::json(out, &json!({ "instance_id": agent.instance_id, "one_shots": one_shots }));
    }
    writeln!(out, "Agent {} is removed, and {} with it.", agent.instance_id, counted(one_shots, "one-shot"))?;
    Ok(())
}

async fn set_callback(args: &SetCallbackArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let moved =
        directory::set_callback(db, &args.instance_id, &args.callback_url).await.map_err(explained)?;
    if args.json {
        let callback_url = args.callback_url.as_str();
        return terminal::json(
            out,
            &json!({ "instance_id": args.instance_id, "callback_url": callback_url, "moved": moved }),
        );
    }
    let (name, url, moved) = (&args.instance_id, args.callback_url.as_str(), counted(moved, "one-shot"));
    writeln!(out, "Agent {name} is reached at {url} from now on; {moved} moved there.")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use clap::{Command, CommandFactory, FromArgMatches};

    use super::*;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron agents")]
    struct Cli {
        #[command(flatten)]
        args: AgentsArgs,
    }

    fn parse(args: &[&str]) -> Result<AgentsArgs, String> {
        let matches = Cli::command().try_get_matches_from([&["agents"], args].concat());
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    fn agent() -> Agent {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        Agent {
            instance_id: "agent-1".to_owned(),
            org_id: "acme".to_owned(),
            bootstrap_session_id: Some("sid-1".to_owned()),
            enabled: true,
            on_hold: false,
            denied_by_portal: None,
            looked_up_at: None,
            callback_url: Some("https://agent-1.example".to_owned()),
            unreachable_since: None,
            armed: 2,
            parked: 0,
            dead: 1,
            next_attempt_at: Some(now + TimeDelta::minutes(3)),
            created_at: now - TimeDelta::days(4),
            updated_at: now - TimeDelta::hours(5),
        }
    }

    #[test]
    fn the_table_and_the_facts() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let disabled = Agent {
            instance_id: "agent-2".to_owned(),
            enabled: false,
            on_hold: true,
            callback_url: None,
            next_attempt_at: None,
            ..agent()
        };
        insta::assert_snapshot!(agents_table(&[agent(), disabled], now), @r#"
        AGENT    ORG   STATE     ARMED  PARKED  DEAD  NEXT      CALLBACK
        agent-1  acme  ok        2      0       1     in 3 min  https://agent-1.example
        agent-2  acme  disabled  2      0       1     -         -
        "#);
        insta::assert_snapshot!(agents_table(&[], now), @"No agents. `nas-cron agents add` registers one.");
        let denied = Agent { denied_by_portal: Some(PortalDenial::Unknown), on_hold: true, ..agent() };
        assert!(
            facts(&denied, None, now).contains("denied: the portal does not know it, so its fires are held")
        );
        let away = Agent { unreachable_since: Some(now - TimeDelta::seconds(30)), parked: 1, ..agent() };
        insta::assert_snapshot!(facts(&away, None, now), @r#"
        agent         agent-1
        org           acme
        session       sid-1
        state         unreachable: one one-shot probes it, the others wait for that
        callback      https://agent-1.example
        unreachable   30 s ago (2027-01-15 07:59:30 UTC)
        armed         2 one-shots, of which 1 parked
        dead          1 one-shot
        next attempt  in 3 min (2027-01-15 08:03:00 UTC)
        registered    4 d ago (2027-01-11 08:00:00 UTC)
        changed       5 h ago (2027-01-15 03:00:00 UTC)
        "#);
    }

    #[test]
    fn the_help_teaches() {
        let mut command: Command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @r#"
        Register agents, and see how they are.

        Works on the database, also while the service is down. The portal's backend does the same over the admin API:
        PUT, GET and DELETE `/api/admin/agents/{instance_id}`.

        Usage: nas-cron agents <COMMAND>

        Commands:
          add           Register an agent, or change its registration
          enroll        Register an agent whose portal this service is, and give it a login
          list          List agents, in the order of their names
          show          Show one agent
          disable       Hold an agent's fires and refuse its calls. None is lost: `enable` releases them
          enable        Let an agent provision and be fired again, at once for what is due
          remove        Remove an agent, and its one-shots with it
          set-callback  Tell where an agent is reached now: all its one-shots go there
          import        Register many agents, from JSON Lines or CSV
          config        Print the YAML that points an agent here
          identities    Show the keys that an agent calls with, and the tasks that it calls under
          revoke        Revoke a key that an agent calls with, one of its tasks, or all of its keys
          help          Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron agents add agent-1 --org acme --session 0192f3a1
          nas-cron agents import agents.csv --dry-run
          nas-cron agents config agent-1 >> config.yaml
          nas-cron agents list --org acme --json
        "#);
        let import = command.find_subcommand_mut("import").unwrap();
        insta::assert_snapshot!(import.render_long_help(), @r#"
        Register many agents, from JSON Lines or CSV.

        Fields: `instance_id`, `org_id`, and if known `bootstrap_session_id`, `callback_url`, `enabled`; a CSV names
        them in its first line. What is left out keeps what is there. Good lines are taken, every bad one is named,
        and the exit code is 1 if there was one. Repeating it changes nothing.

        Usage: import [OPTIONS] <FILE>

        Arguments:
          <FILE>
                  The file; `-` is stdin

        Options:
              --format <FORMAT>
                  How it is written, if neither its name nor its beginning tell

                  Possible values:
                  - jsonl: JSON Lines: one object a line
                  - csv:   CSV, with a header that names the columns

              --dry-run
                  Judge every line, also against the database, and change nothing

              --json
                  Print JSON: the counts, and each bad line as {"line","problem"}

              --move-org
                  Yes, agents may leave their orgs for those in the file

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron agents import agents.csv --dry-run
          jq -c '.[] | {instance_id, org_id}' export.json | nas-cron agents import -
        "#);
    }

    #[test]
    fn arguments_are_checked_and_named() {
        assert!(
            parse(&["add", "a", "--org", "o", "--session", "s", "--callback-url", "https://a.example/x"])
                .is_ok()
        );
        assert!(parse(&["list", "--enabled", "--disabled"]).is_err());
        insta::assert_snapshot!(parse(&["add", "a", "--org", ""]).unwrap_err(), @r#"
        error: invalid value '' for '--org <ORG>': org_id: must not be empty

        For more information, try '--help'.
        "#);
        insta::assert_snapshot!(parse(&["set-callback", "a", "ftp://x"]).unwrap_err(), @r#"
        error: invalid value 'ftp://x' for '<URL>': callback_url: must be an http or https URL

        For more information, try '--help'.
        "#);
    }
}
