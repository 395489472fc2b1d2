//! `nas-cron agents`: the registered agent instances.

mod add;
mod config;
mod enroll;
#[cfg(test)]
mod fixtures;
mod home;
mod identities;
pub(in crate::cli) mod import;
mod list;
mod login;
mod remove;
mod set_callback;
mod set_enabled;
mod show;
mod yaml;

use std::io::Write;

use clap::{Args, Subcommand};
use nas_cron_protocol::InstanceId;

use self::add::AddArgs;
use self::config::ConfigArgs;
use self::enroll::EnrollArgs;
use self::identities::{IdentitiesArgs, RevokeArgs};
use self::import::ImportAgentsArgs;
use self::list::ListArgs;
use self::login::LoginsArgs;
use self::remove::RemoveArgs;
use self::set_callback::SetCallbackArgs;
use super::audited::Audited;
use super::operator::Operator;
use super::quota::{self, QuotaArgs};
use crate::audit::Act;
use crate::config::{ConfigError, OwnPortal};
use crate::domain::quota::QuotaTarget;

/// Register, list, show, disable and remove agents.
///
/// The command works on the database, also while the service is down, or with --server on a running service: all but `enroll`
/// and `import`. A portal backend can use the admin API instead: PUT, GET and DELETE `/api/admin/agents/{instance_id}`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron agents add agent-1 --org acme --session 0192f3a1
  nas-cron agents import agents.csv --dry-run
  nas-cron agents config agent-1 >> config.yaml
  nas-cron agents list --org acme --json

Settings go before the subcommand: nas-cron agents --config nas-cron.toml list")]
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
    /// Disable an agent: hold its fires and refuse its calls.
    ///
    /// No fire is lost: `nas-cron agents enable` releases them.
    #[command(after_help = "Example:\n  nas-cron agents disable agent-1")]
    Disable(OneArgs),
    /// Enable an agent. Its due one-shots fire at once.
    #[command(after_help = "Example:\n  nas-cron agents enable agent-1")]
    Enable(OneArgs),
    Remove(RemoveArgs),
    SetCallback(SetCallbackArgs),
    Import(ImportAgentsArgs),
    /// Show or set the quota of armed jobs of an agent.
    ///
    /// A new job beyond the quota is rejected. Jobs that are armed stay armed, and are always armed again.
    #[command(after_help = "\
Examples:
  nas-cron agents quota agent-1
  nas-cron agents quota agent-1 --set 50000
  nas-cron agents quota agent-1 --default")]
    Quota {
        /// Instance id of the agent.
        instance_id: InstanceId,
        #[command(flatten)]
        args: QuotaArgs,
    },
    Config(ConfigArgs),
    Identities(IdentitiesArgs),
    Logins(LoginsArgs),
    Revoke(RevokeArgs),
}

/// Show one agent.
#[derive(Clone, Debug, Args)]
struct OneArgs {
    /// Instance id of the agent.
    instance_id: InstanceId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// URLs that agents use, from the configuration. Only `config` and `enroll` need them.
#[derive(Debug)]
pub struct Urls {
    /// Portal URL, if it is set.
    pub portal: Option<String>,
    /// JWKS URL of the agents, if it is set or can be derived.
    pub agents_jwks: Option<String>,
    /// Settings of the built-in portal, or the reason why it is off.
    pub own_portal: Result<OwnPortal, ConfigError>,
}

impl Audited for AgentsArgs {
    fn act(&self) -> Option<Act> {
        let about =
            |action, instance_id: &InstanceId| Some(Act::new(action).about("instance_id", instance_id));
        match &self.command {
            AgentsCommand::List(_)
            | AgentsCommand::Show(_)
            | AgentsCommand::Config(_)
            | AgentsCommand::Identities(_)
            | AgentsCommand::Logins(_) => None,
            AgentsCommand::Add(args) => about("put_agent", &args.instance_id),
            AgentsCommand::Enroll(args) => about("enroll_agent", &args.instance_id),
            AgentsCommand::Disable(args) => about("disable_agent", &args.instance_id),
            AgentsCommand::Enable(args) => about("enable_agent", &args.instance_id),
            AgentsCommand::Remove(args) => args.act(),
            AgentsCommand::SetCallback(args) => about("set_agent_callback", &args.instance_id),
            AgentsCommand::Quota { instance_id, args } => {
                args.act(&QuotaTarget::Instance(instance_id.clone()))
            }
            AgentsCommand::Import(args) => args.act(),
            AgentsCommand::Revoke(args) => Some(args.act()),
        }
    }
}

/// Runs the command, and writes its result to `out`.
pub async fn run(args: AgentsArgs, on: &Operator, urls: Urls, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        AgentsCommand::Add(args) => add::run(args, on, out).await,
        AgentsCommand::Enroll(args) => {
            enroll::run(args, on.database(LOCAL_ENROLL)?, &urls.own_portal?, out).await
        }
        AgentsCommand::List(args) => list::run(args, on, out).await,
        AgentsCommand::Show(args) => show::run(&args, on, out).await,
        AgentsCommand::Disable(args) => set_enabled::run(&args, false, on, out).await,
        AgentsCommand::Enable(args) => set_enabled::run(&args, true, on, out).await,
        AgentsCommand::Remove(args) => remove::run(&args, on, out).await,
        AgentsCommand::SetCallback(args) => set_callback::run(&args, on, out).await,
        AgentsCommand::Quota { instance_id, args } => {
            quota::run(&args, &QuotaTarget::Instance(instance_id), on, out).await
        }
        AgentsCommand::Import(args) => import::run(&args, on.database(LOCAL_IMPORT)?, out).await,
        AgentsCommand::Config(args) => config::run(&args, on, &urls, out).await,
        AgentsCommand::Identities(args) => identities::list(&args, on, out).await,
        AgentsCommand::Logins(args) => login::list(args, on, out).await,
        AgentsCommand::Revoke(args) => identities::revoke(&args, on, out).await,
    }
}

/// The reason why a login is created on the database only.
const LOCAL_ENROLL: &str = "it creates a refresh token, which acts as the agent";
/// The reason why a file is imported on the database only.
const LOCAL_IMPORT: &str = "it registers a thousand agents per statement";

#[cfg(test)]
mod tests {
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

    #[test]
    fn help_matches_its_snapshot() {
        let mut command: Command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @"
        Register, list, show, disable and remove agents.

        The command works on the database, also while the service is down, or with --server on a running service: all
        but `enroll` and `import`. A portal backend can use the admin API instead: PUT, GET and DELETE
        `/api/admin/agents/{instance_id}`.

        Usage: nas-cron agents <COMMAND>

        Commands:
          add           Register an agent, or change its registration
          enroll        Register an agent at the built-in portal, and create its login
          list          List agents, ordered by instance id
          show          Show one agent
          disable       Disable an agent: hold its fires and refuse its calls
          enable        Enable an agent. Its due one-shots fire at once
          remove        Remove an agent and its one-shots
          set-callback  Change the callback URL of an agent and of all its one-shots
          import        Register agents from a file in JSON Lines or CSV
          quota         Show or set the quota of armed jobs of an agent
          config        Print the YAML configuration that an agent needs to use this service
          identities    List the keys that an agent calls with, and its tasks
          logins        List the last login of each agent at the built-in portal, ordered by instance id
          revoke        Revoke a key that an agent calls with, one of its tasks, all of its keys, or its login at the
                        built-in portal
          help          Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron agents add agent-1 --org acme --session 0192f3a1
          nas-cron agents import agents.csv --dry-run
          nas-cron agents config agent-1 >> config.yaml
          nas-cron agents list --org acme --json

        Settings go before the subcommand: nas-cron agents --config nas-cron.toml list
        ");
        let import = command.find_subcommand_mut("import").unwrap();
        insta::assert_snapshot!(import.render_long_help(), @r#"
        Register agents from a file in JSON Lines or CSV.

        Fields: `instance_id`, `org_id`, and optionally `bootstrap_session_id`, `callback_url` and `enabled`. The
        first line of a CSV names its columns. Fields that are left out keep their present values. Valid lines are
        imported and invalid lines are reported, with exit code 1. Importing a file again changes nothing.

        Usage: import [OPTIONS] <FILE>

        Arguments:
          <FILE>
                  File to import; `-` reads stdin

        Options:
              --format <FORMAT>
                  Format of the file [default: recognised by its name or content]

                  Possible values:
                  - jsonl: JSON Lines: one object per line
                  - csv:   CSV: the first line names the columns

              --dry-run
                  Check all lines, also against the database, without changing anything

              --json
                  Print JSON: the counts, and each invalid line as {"line", "problem"}

              --move-org
                  Allow moving agents to other orgs. Tokens of the old orgs then stop working

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron agents import agents.csv --dry-run
          jq -c '.[] | {instance_id, org_id}' export.json | nas-cron agents import -
        "#);
    }

    #[test]
    fn invalid_arguments_are_named() {
        assert!(
            parse(&["add", "a", "--org", "o", "--session", "s", "--callback-url", "https://a.example/x"])
                .is_ok()
        );
        assert!(parse(&["list", "--enabled", "--disabled"]).is_err());
        insta::assert_snapshot!(parse(&["list", "--search", ""]).unwrap_err(), @r"
        error: invalid value '' for '--search <TEXT>': search: must have 1 to 255 bytes, and no control characters

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(parse(&["add", "a", "--org", ""]).unwrap_err(), @r#"
        error: invalid value '' for '--org <ORG>': org_id: must not be empty

        For more information, try '--help'.
        "#);
        assert!(parse(&["add", "a", "--org", "o", "--callback-url", "https://0x7f.1"]).is_err());
        assert!(parse(&["set-callback", "a", "https://0x7f.1"]).is_err());
        insta::assert_snapshot!(parse(&["set-callback", "a", "ftp://x"]).unwrap_err(), @r#"
        error: invalid value 'ftp://x' for '<URL>': callback_url: must be an http or https URL

        For more information, try '--help'.
        "#);
    }
}
