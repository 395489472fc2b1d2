//! The command line: one file per subcommand.
//!
//! A subcommand prints its result on stdout and everything else on stderr. Exit codes: 0 success, 1 failure, 2 invalid
//! command line or configuration.

pub mod admin_tokens;
pub mod agents;
pub mod audit;
mod audited;
pub mod auth_profiles;
pub mod backend;
mod completions;
mod config;
#[cfg(feature = "dev")]
mod dev;
mod directory_error;
mod doctor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod health;
pub mod hold;
mod import_file;
pub mod jobs;
pub mod keys;
mod man;
mod migrate;
pub mod operator;
mod operator_command;
pub mod orgs;
mod process;
mod quota;
mod serve;
pub mod status;
pub mod transfer;
pub mod webhooks;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nas_cron_base::output;

use self::operator_command::{
    Operate, WithBackends, WithKeys, WithOrgQuota, WithPortal, WithService, WithWebhooks,
};
use self::process::{failed, in_runtime};
use crate::domain::release;

const LONG_ABOUT: &str = "\
One-shot cron for agents that scale to zero.

A sleeping agent cannot wake itself. nas-cron stores the time of its next job in Postgres and calls it on time:

  1. The agent arms a one-shot: POST /api/agent-cron/provision, with its portal access token. The response means \
that the one-shot is durable.
  2. When the one-shot is due, a scheduler backend wakes the service: the built-in Postgres loop, or an external \
backend (NATS or QStash).
  3. The service calls the agent: POST {callback}/api/cron/fire, with a token that is valid for two minutes at most, \
and only for this call. The agent runs its job and arms the next one-shot.

Every one-shot is delivered at least once, never before its time. If all attempts fail, it is kept as a dead letter \
that you can inspect and redrive.";

#[cfg(feature = "dev")]
const DEV_EXAMPLE: &str = "
  nas-cron dev                                Run everything on this machine, as a demo";
#[cfg(not(feature = "dev"))]
const DEV_EXAMPLE: &str = "";

const EXAMPLES: &str = "
  nas-cron config example > nas-cron.toml     Write a commented configuration file
  nas-cron config show --config nas-cron.toml Show the settings in effect and their origins
  nas-cron doctor --config nas-cron.toml      Check the deployment, with fixes
  nas-cron migrate --dry-run                  Show pending schema migrations
  nas-cron cron add report --in 90s           Arm a one-shot, as an agent does
  nas-cron completions bash > /etc/bash_completion.d/nas-cron

Exit codes: 0 success; 1 failure; 2 invalid command line or configuration.
130 or 143: ended by a second SIGINT or SIGTERM. 141: the reader of the output has left, as in `| head`.";

fn after_help() -> String {
    format!("Examples:{DEV_EXAMPLE}{EXAMPLES}")
}

/// One-shot cron for agents that scale to zero.
#[derive(Debug, Parser)]
#[command(name = "nas-cron", version = release::line(), long_about = LONG_ABOUT, after_help = after_help())]
#[command(arg_required_else_help = true, max_term_width = 120)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    #[cfg(feature = "dev")]
    Dev(nas_cron_dev::dev::Dev),
    Migrate(migrate::Migrate),
    Status(Operate<status::StatusArgs, WithService>),
    Agents(Operate<agents::AgentsArgs, WithPortal>),
    Jobs(Operate<jobs::JobsArgs>),
    Orgs(Operate<orgs::OrgsArgs, WithOrgQuota>),
    Hold(Operate<hold::HoldArgs>),
    Release(Operate<hold::ReleaseArgs>),
    AuthProfiles(Operate<auth_profiles::AuthProfilesArgs>),
    Keys(Operate<keys::KeysArgs, WithKeys>),
    Backend(Operate<backend::BackendArgs, WithBackends>),
    AdminTokens(Operate<admin_tokens::AdminTokensArgs>),
    Audit(Operate<audit::AuditArgs>),
    Webhooks(Operate<webhooks::WebhooksArgs, WithWebhooks>),
    Export(Operate<transfer::export::ExportArgs>),
    Import(Operate<transfer::import::ImportArgs>),
    #[cfg(feature = "dev")]
    Bench(nas_cron_dev::bench::Bench),
    Cron(nas_cron_agent::cli::Cron),
    Mcp(nas_cron_agent::cli::Mcp),
    Doctor(doctor::Doctor),
    Config(config::Config),
    Health(health::Health),
    Completions(completions::Completions),
    Man(man::Man),
}

impl Cli {
    /// Runs the command, reports an error on stderr, and returns the exit code.
    pub fn run(self) -> ExitCode {
        let result = match self.command {
            Command::Serve(command) => in_runtime(command.run()),
            #[cfg(feature = "dev")]
            Command::Dev(command) => in_runtime(command.run(&dev::InProcess)),
            Command::Migrate(command) => in_runtime(command.run()),
            Command::Status(command) => in_runtime(command.run()),
            Command::Agents(command) => in_runtime(command.run()),
            Command::Jobs(command) => in_runtime(command.run()),
            Command::Orgs(command) => in_runtime(command.run()),
            Command::Hold(command) => in_runtime(command.run()),
            Command::Release(command) => in_runtime(command.run()),
            Command::AuthProfiles(command) => in_runtime(command.run()),
            Command::Keys(command) => in_runtime(command.run()),
            Command::Backend(command) => in_runtime(command.run()),
            Command::AdminTokens(command) => in_runtime(command.run()),
            Command::Audit(command) => in_runtime(command.run()),
            Command::Webhooks(command) => in_runtime(command.run()),
            Command::Export(command) => in_runtime(command.run()),
            Command::Import(command) => in_runtime(command.run()),
            #[cfg(feature = "dev")]
            Command::Bench(command) => in_runtime(command.run()),
            Command::Cron(command) => in_runtime(command.run()),
            Command::Mcp(command) => command.run(),
            Command::Doctor(command) => in_runtime(command.run()),
            Command::Config(command) => command.run(),
            Command::Health(command) => in_runtime(command.run()),
            Command::Completions(command) => command.run(),
            Command::Man(command) => command.run(),
        };
        output::ended(result, failed)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        Cli::command().debug_assert();
    }

    #[cfg(feature = "dev")]
    #[test]
    fn help_matches_its_snapshot() {
        let mut command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @"
        One-shot cron for agents that scale to zero.

        A sleeping agent cannot wake itself. nas-cron stores the time of its next job in Postgres and calls it on
        time:

          1. The agent arms a one-shot: POST /api/agent-cron/provision, with its portal access token. The response
          means that the one-shot is durable.
          2. When the one-shot is due, a scheduler backend wakes the service: the built-in Postgres loop, or an
          external backend (NATS or QStash).
          3. The service calls the agent: POST {callback}/api/cron/fire, with a token that is valid for two minutes at
          most, and only for this call. The agent runs its job and arms the next one-shot.

        Every one-shot is delivered at least once, never before its time. If all attempts fail, it is kept as a dead
        letter that you can inspect and redrive.

        Usage: nas-cron <COMMAND>

        Commands:
          serve          Run the service: agent API, scheduler, fires, JWKS, health checks, metrics
          dev            Run a complete deployment on this machine: a private Postgres, a portal, the service and demo
                         agents
          migrate        Migrate the database schema to the version of this binary
          status         Show what fires, what does not, and what needs attention
          agents         Register, list, show, disable and remove agents
          jobs           List, show, cancel, fire, redrive, nudge and import one-shots
          orgs           List and show orgs, and delete everything of an org
          hold           Hold the fires of all agents, of an org, of one agent or of one job
          release        End a hold. Its parked one-shots fire at once, unless another hold covers them
          auth-profiles  Show and set the known auth profiles and the default profiles
          keys           List, rotate, import and export the keys that sign fire tokens
          backend        Show or switch the scheduler backend
          admin-tokens   Create, list and revoke the bearer tokens of the admin API
          audit          Read the audit log: who changed what, from where, with which outcome
          webhooks       Add, list, change and test the webhooks that receive events
          export         Export agents, logins, auth profiles and one-shots as JSON Lines
          import         Import agents, logins, auth profiles and one-shots that `nas-cron export` has written
          bench          Measure the lateness and throughput of a running service
          cron           Arm, update, list and cancel one-shots on any nas-cron server, as their agent
          mcp            Serve one-shots as MCP tools for a model, on stdin and stdout
          doctor         Diagnose a deployment and suggest fixes
          config         Show the configuration, the table of settings, or an example file
          health         Check whether the service on this machine is alive or ready
          completions    Print a completion script for a shell
          man            Write the manual pages: one for each command
          help           Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

          -V, --version
                  Print version

        Examples:
          nas-cron dev                                Run everything on this machine, as a demo
          nas-cron config example > nas-cron.toml     Write a commented configuration file
          nas-cron config show --config nas-cron.toml Show the settings in effect and their origins
          nas-cron doctor --config nas-cron.toml      Check the deployment, with fixes
          nas-cron migrate --dry-run                  Show pending schema migrations
          nas-cron cron add report --in 90s           Arm a one-shot, as an agent does
          nas-cron completions bash > /etc/bash_completion.d/nas-cron

        Exit codes: 0 success; 1 failure; 2 invalid command line or configuration.
        130 or 143: ended by a second SIGINT or SIGTERM. 141: the reader of the output has left, as in `| head`.
        ");
    }

    #[test]
    fn every_example_in_the_help_names_a_subcommand() {
        let command = Cli::command();
        let help = after_help();
        let lines = help.lines().filter_map(|line| line.trim().strip_prefix("nas-cron "));
        for example in lines {
            let name = example.split_whitespace().next().unwrap();
            assert!(command.find_subcommand(name).is_some(), "{example}");
        }
    }

    /// Calls `look` with every argument of every command, and the path of the command.
    fn arguments(command: &clap::Command, path: &str, look: &mut impl FnMut(&str, &clap::Arg)) {
        command.get_arguments().for_each(|argument| look(path, argument));
        for below in command.get_subcommands() {
            arguments(below, &format!("{path} {}", below.get_name()), look);
        }
    }

    #[test]
    fn every_identifier_on_the_command_line_is_checked() {
        use std::any::TypeId;

        use nas_cron_protocol::{DedupKey, InstanceId, JobId, OrgId, SessionId};

        let names = ["instance", "agent", "org", "session", "sid", "job", "dedup_key"];
        let types = [
            TypeId::of::<InstanceId>(),
            TypeId::of::<OrgId>(),
            TypeId::of::<SessionId>(),
            TypeId::of::<JobId>(),
            TypeId::of::<DedupKey>(),
        ];
        let (mut unchecked, mut checked) = (Vec::new(), 0);
        arguments(&Cli::command(), "nas-cron", &mut |path, argument| {
            let id = argument.get_id().as_str();
            if !names.contains(&id.trim_end_matches("_id")) && !names.contains(&id) {
                return;
            }
            let parsed_as = argument.get_value_parser().type_id();
            if types.iter().any(|one| parsed_as == *one) {
                checked += 1;
            } else {
                unchecked.push(format!("{path} {id}"));
            }
        });
        assert!(unchecked.is_empty(), "{unchecked:?}");
        assert!(checked >= 20, "{checked}");
    }

    #[test]
    fn every_subcommand_has_a_description() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
        }
    }
}
