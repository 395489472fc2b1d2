//! `nas-cron auth-profiles`: the known auth profiles, and the defaults for jobs that name none.

use std::io::Write;

use anyhow::ensure;
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, capital, printable};
use nas_cron_protocol::agent_api::AuthProfiles;
use nas_cron_protocol::{AuthChoice, AuthPlace, AuthProfile, AuthScope, Given, InstanceId, OrgId};

use super::audited::Audited;
use super::operator::Operator;
use crate::audit::Act;
use crate::domain::job_auth::{AuthEntry, AuthEntryPage};

/// Show and set the known auth profiles and the default profiles.
///
/// An auth profile (PROVIDER:NAME, such as claude:work) selects credentials that the agent holds; nas-cron never sees the
/// credentials. A fire carries the profile of its job or else the default of its agent, of its org or of the service, in
/// this order. The command works on the database, also while the service is down, or with --server on a running service.
/// Changes apply from the next fire on.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron auth-profiles list
  nas-cron auth-profiles set --org acme claude:work claude:budget --default claude:budget
  nas-cron auth-profiles set --service --no-default
  nas-cron auth-profiles clear --instance agent-1 claude:work

Settings go before the subcommand: nas-cron auth-profiles --config nas-cron.toml list")]
pub struct AuthProfilesArgs {
    #[command(subcommand)]
    command: AuthProfilesCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum AuthProfilesCommand {
    List(ListArgs),
    Set(SetArgs),
    Clear(ClearArgs),
}

/// Show the known profiles and defaults of an agent, an org or the service, or all entries.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron auth-profiles list --instance agent-1")]
#[command(mut_group("PlaceArgs", |group| group.required(false)))]
struct ListArgs {
    #[command(flatten)]
    place: Option<PlaceArgs>,
    /// Print JSON: {"profiles": […], "defaults": {…}}; of everything: {"entries": […]}.
    #[arg(long)]
    json: bool,
}

/// Set the known profiles or the default of an agent, an org or the service.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron auth-profiles set --org acme claude:work claude:budget
  nas-cron auth-profiles set --service --default claude:budget")]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["profiles", "default", "no_default"]))]
struct SetArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Known profiles. They replace the previous ones; without any, the previous ones stay.
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Default profile of jobs that name none; repeated for several in order of preference, `none` for no profile even if
    /// a wider scope has a default.
    #[arg(long, value_name = "PROFILE")]
    default: Vec<String>,
    /// Remove the default.
    #[arg(long, conflicts_with = "default")]
    no_default: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Remove known profiles of an agent, an org or the service. The default stays.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron auth-profiles clear --org acme claude:budget")]
struct ClearArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Profiles to remove; without any, all are removed.
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Owner of the profiles.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
struct PlaceArgs {
    /// Profiles of the service, for all agents.
    #[arg(long)]
    service: bool,
    /// Profiles of this org, for its agents.
    #[arg(long)]
    org: Option<OrgId>,
    /// Profiles of this agent.
    #[arg(long, value_name = "INSTANCE_ID")]
    instance: Option<InstanceId>,
}

impl PlaceArgs {
    fn place(&self) -> AuthPlace {
        match (&self.org, &self.instance) {
            (Some(org_id), _) => AuthPlace::Org(org_id.clone()),
            (_, Some(instance_id)) => AuthPlace::Instance(instance_id.clone()),
            _ => AuthPlace::Service,
        }
    }
}

impl Audited for AuthProfilesArgs {
    fn act(&self) -> Option<Act> {
        let act = |actions: [&'static str; 3], place: &PlaceArgs| {
            let [of_service, of_org, of_instance] = actions;
            Some(match place.place() {
                AuthPlace::Service => Act::new(of_service),
                AuthPlace::Org(org_id) => Act::new(of_org).about("org_id", org_id),
                AuthPlace::Instance(instance_id) => Act::new(of_instance).about("instance_id", instance_id),
            })
        };
        match &self.command {
            AuthProfilesCommand::List(_) => None,
            AuthProfilesCommand::Set(args) => act(
                ["put_service_auth_profiles", "put_org_auth_profiles", "put_instance_auth_profiles"],
                &args.place,
            ),
            AuthProfilesCommand::Clear(args) => act(
                ["delete_service_auth_profiles", "delete_org_auth_profiles", "delete_instance_auth_profiles"],
                &args.place,
            ),
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: AuthProfilesArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        AuthProfilesCommand::List(args) => match &args.place {
            Some(place) => show(&place.place(), args.json, on, out).await,
            None => list_all(args.json, on, out).await,
        },
        AuthProfilesCommand::Set(args) => set(args, on, out).await,
        AuthProfilesCommand::Clear(args) => clear(args, on, out).await,
    }
}

/// Parses the profile at this position. Clap does not: its errors repeat the value, which may be a secret.
fn profile(text: &str, number: usize) -> anyhow::Result<AuthProfile> {
    AuthProfile::new(text).map_err(|error| anyhow::anyhow!("profile {number} {}", error.problem))
}

fn profiles(texts: &[String]) -> anyhow::Result<Vec<AuthProfile>> {
    texts.iter().enumerate().map(|(index, text)| profile(text, index + 1)).collect()
}

async fn set(args: SetArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let place = args.place.place();
    let known = Some(profiles(&args.profiles)?).filter(|profiles| !profiles.is_empty());
    let default = match args.default.as_slice() {
        [] if args.no_default => Given::Clear,
        [] => Given::Keep,
        words => Given::Set(AuthChoice::from_words("--default", words).map_err(anyhow::Error::msg)?),
    };
    on.put_auth_profiles(&place, known, default).await?;
    show(&place, args.json, on, out).await
}

async fn clear(args: ClearArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let place = args.place.place();
    let named = profiles(&args.profiles)?;
    let forgotten = on.forget_auth_profiles(&place, &named).await?;
    show(&place, args.json, on, out).await?;
    ensure!(
        forgotten >= named.len() as u64,
        "removed {forgotten} of {}: the others were not known there; `nas-cron auth-profiles list` shows all entries",
        terminal::counted(i64::try_from(named.len())?, "profile")
    );
    Ok(())
}

/// Shows the current profiles and defaults of a place.
async fn show(place: &AuthPlace, json: bool, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let found = on.auth_profiles(place).await?;
    if json {
        return terminal::json(out, &found);
    }
    out.write_all(profiles_text(place, &found).as_bytes())?;
    Ok(())
}

fn named(scope: AuthScope, id: &str) -> String {
    match scope {
        AuthScope::Service => "the service".to_owned(),
        AuthScope::Org => format!("org {}", printable(id)),
        AuthScope::Instance => format!("agent {}", printable(id)),
    }
}

fn profiles_text(place: &AuthPlace, found: &AuthProfiles) -> String {
    let mut table = terminal::table(&["PROFILE", "KNOWN TO"]);
    for one in &found.profiles {
        table.add_row([one.auth.to_string(), one.scope.to_string()]);
    }
    let known =
        if found.profiles.is_empty() { "No known profiles.\n".to_owned() } else { terminal::text(table) };
    let defaults = [
        (AuthScope::Instance, &found.defaults.instance),
        (AuthScope::Org, &found.defaults.org),
        (AuthScope::Service, &found.defaults.service),
    ];
    let first = defaults.into_iter().find_map(|(scope, auth)| Some((scope, auth.as_ref()?)));
    let jobs = match first {
        Some((scope, AuthChoice::NoProfile)) => format!("get none, by the default of the {scope}"),
        Some((scope, auth)) => format!("get {auth}, the default of the {scope}"),
        None => "get none, because no default is set".to_owned(),
    };
    let place = capital(&named(place.scope(), place.id()));
    let warnings = found.warnings.iter().map(|warning| format!("Warning: {}.\n", warning.message));
    let warnings = warnings.collect::<Vec<_>>().concat();
    format!("{known}{place}: jobs that name no profile {jobs}.\n{warnings}")
}

/// Maximum number of entries in the list of all places.
const ENTRIES_MAX: usize = 10_000;

async fn list_all(json: bool, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let mut all = AuthEntryPage { entries: Vec::new(), next: None };
    loop {
        let room = u32::try_from(ENTRIES_MAX - all.entries.len())?;
        let page = on.auth_entries(None, room, all.next.as_deref()).await?;
        all.entries.extend(page.entries);
        all.next = page.next;
        if all.next.is_none() || all.entries.len() >= ENTRIES_MAX {
            break;
        }
    }
    let (entries, more) = (all.entries, all.next.is_some());
    if json {
        return terminal::json(out, &serde_json::json!({ "entries": entries, "more": more }));
    }
    out.write_all(entries_table(&entries).as_bytes())?;
    if more {
        writeln!(out, "There are more than {ENTRIES_MAX} entries: use --org or --instance.")?;
    }
    Ok(())
}

fn entries_table(entries: &[AuthEntry]) -> String {
    if entries.is_empty() {
        return "No known profiles and no defaults.\n".to_owned();
    }
    let mut table = terminal::table(&["PLACE", "PROFILE", "KIND"]);
    for one in entries {
        let kind = if one.default { "default" } else { "known" };
        table.add_row([named(one.scope, &one.scope_id), one.auth.to_string(), kind.to_owned()]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, FromArgMatches};

    use super::*;
    use nas_cron_protocol::agent_api::{AuthDefaults, KnownProfile};

    use crate::auth_profiles::unknown;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron auth-profiles")]
    struct Cli {
        #[command(flatten)]
        args: AuthProfilesArgs,
    }

    fn parse(line: &str) -> Result<AuthProfilesArgs, String> {
        let words = std::iter::once("auth-profiles").chain(line.split_whitespace());
        let matches = Cli::command().try_get_matches_from(words);
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_place_and_one_change_are_required() {
        for good in [
            "list",
            "list --json",
            "list --org o",
            "set --service p:a",
            "set --org o p:a p:b --default p:a",
            "set --instance i --no-default",
            "set --instance i --default none",
            "set --instance i --default p:a --default p:b",
            "clear --service",
            "clear --instance i p:a",
        ] {
            assert!(parse(good).is_ok(), "{good}: {:?}", parse(good));
        }
        for bad in [
            "",
            "list --org o --service",
            "set p:a",
            "set --service",
            "set --service --default p:a --no-default",
            "clear",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let AuthProfilesCommand::Set(args) = parse("set --org o p:a").unwrap().command else { panic!() };
        assert_eq!(args.place.place(), AuthPlace::Org(OrgId::new("o").unwrap()));
    }

    #[test]
    fn tables_match_their_snapshots() {
        let auth = |text: &str| AuthProfile::new(text).unwrap();
        let place = AuthPlace::Instance(InstanceId::new("agent-1").unwrap());
        let found = AuthProfiles {
            profiles: vec![
                KnownProfile { auth: auth("claude:budget"), scope: AuthScope::Org },
                KnownProfile { auth: auth("claude:work"), scope: AuthScope::Instance },
            ],
            defaults: AuthDefaults {
                org: Some(AuthChoice::Profile(auth("claude:lost"))),
                ..AuthDefaults::default()
            },
            warnings: vec![unknown(&auth("claude:lost"))],
        };
        insta::assert_snapshot!(profiles_text(&place, &found), @"
        PROFILE        KNOWN TO
        claude:budget  org
        claude:work    instance
        Agent agent-1: jobs that name no profile get claude:lost, the default of the org.
        Warning: unknown auth profile `claude:lost`: not registered for the instance, its org or the service; fires carry it anyway, and it can be registered later.
        ");
        insta::assert_snapshot!(profiles_text(&AuthPlace::Service, &AuthProfiles::default()), @"
        No known profiles.
        The service: jobs that name no profile get none, because no default is set.
        ");
        let entry = |scope, scope_id: &str, auth: AuthChoice, default| AuthEntry {
            scope,
            scope_id: scope_id.to_owned(),
            auth,
            default,
        };
        let both = AuthChoice::Rotation(vec![auth("claude:work"), auth("claude:budget")]);
        let entries = [
            entry(AuthScope::Service, "", both, true),
            entry(AuthScope::Org, "ac\u{1b}me", AuthChoice::Profile(auth("claude:work")), false),
            entry(AuthScope::Org, "b", AuthChoice::NoProfile, true),
        ];
        insta::assert_snapshot!(entries_table(&entries), @"
        PLACE        PROFILE                     KIND
        the service  claude:work, claude:budget  default
        org ac me    claude:work                 known
        org b        none                        default
        ");
        insta::assert_snapshot!(entries_table(&[]), @"No known profiles and no defaults.");
    }
}
