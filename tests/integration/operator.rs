//! The admin API and the operator's commands, on a real Postgres.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use chrono::{TimeDelta, Utc};
use clap::Parser;
use futures::future::join_all;
use nas_cron::admin_tokens::StoredTokens;
use nas_cron::audit::AuditLog;
use nas_cron::auth_profiles::Profiles;
use nas_cron::cli::agents::{self, AgentsArgs, Urls};
use nas_cron::cli::hold::{self, HoldArgs, ReleaseArgs};
use nas_cron::cli::jobs::{self, JobsArgs};
use nas_cron::cli::operator::Operator;
use nas_cron::config::ConfigError;
use nas_cron::db::hints::Hints;
use nas_cron::db::{Db, leases, outcomes};
use nas_cron::directory::{self, Directory};
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::domain::attempt::{Attempt, Ended};
use nas_cron::domain::lease::Lease;
use nas_cron::domain::one_shot::Armed;
use nas_cron::domain::quota::DefaultQuotas;
use nas_cron::domain::registration::Verdict;
use nas_cron::domain::{FireOutcome, SigningAlg};
use nas_cron::fire::address_policy::AddressPolicy;
use nas_cron::fire::connections::{ClientConfig, Connections};
use nas_cron::http::admin::{self, AdminState, ConfigTokens};
use nas_cron::identity::registry::IdentityRegistry;
use nas_cron::keys::RotationPolicy;
use nas_cron::oneshot::{self, Provision};
use nas_cron::operations::Operations;
use nas_cron::operations::backends::BackendOperations;
use nas_cron::operations::keys::KeyOperations;
use nas_cron::operations::overview::{OverviewRules, Overviews};
use nas_cron::webhooks::Webhooks;
use nas_cron::webhooks::sender::Sender;
use nas_cron_base::clock::SystemClock;
use nas_cron_protocol::{Fields, InstanceId, OneShotState};
use nas_cron_testing::corpora;
use nas_cron_testing::database::database;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use sqlx::{Connection, Executor};
use tower::ServiceExt;

const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};
const CALLBACK: &str = "https://agent.example";
const DEFAULT_QUOTAS: DefaultQuotas = DefaultQuotas { instance: 10, org: 100 };

#[derive(Debug, Parser)]
enum Command {
    Agents(AgentsArgs),
    Jobs(JobsArgs),
    Hold(HoldArgs),
    Release(ReleaseArgs),
}

/// One database, and the operator's commands on it.
struct World {
    db: Db,
    url: String,
}

impl World {
    async fn new() -> Self {
        let (db, url) = database().await;
        Self { db, url }
    }

    /// A database with agents `a` (org `o`) and `b` (org `p`).
    async fn with_agents() -> Self {
        let world = Self::new().await;
        world.ok("agents add a --org o").await;
        world.ok("agents add b --org p").await;
        world
    }

    async fn sql(&self, statement: &str) -> u64 {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let done = connection.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.expect(statement);
        done.rows_affected()
    }

    async fn one<T>(&self, query: &str) -> T
    where
        T: Send + Unpin + for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
    {
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned()))
            .fetch_one(&mut connection)
            .await
            .expect(query)
    }

    /// Runs a command whose words are separated by spaces.
    async fn cli(&self, line: &str) -> (anyhow::Result<()>, String) {
        let words = std::iter::once("nas-cron").chain(line.split_whitespace());
        let command = Command::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut out = Vec::new();
        let db = &self.db;
        let on = Operator::on(db.clone(), DEFAULT_QUOTAS);
        let urls = Urls {
            portal: Some("https://portal.example".to_owned()),
            agents_jwks: Some("https://cron.example/api/agent-cron/jwks.json".to_owned()),
            own_portal: Err(ConfigError { problems: Vec::new() }),
        };
        let result = match command {
            Command::Agents(args) => agents::run(args, &on, urls, &mut out).await,
            Command::Jobs(args) => jobs::run(args, &on, &mut out).await,
            Command::Hold(args) => hold::run(args, &on, &mut out).await,
            Command::Release(args) => hold::release(args, &on, &mut out).await,
        };
        (result, String::from_utf8(out).unwrap())
    }

    async fn ok(&self, line: &str) -> String {
        let (result, out) = self.cli(line).await;
        result.unwrap_or_else(|error| panic!("{line}: {error:#}\n{out}"));
        out
    }

    async fn json(&self, line: &str) -> Value {
        serde_json::from_str(&self.ok(&format!("{line} --json")).await).unwrap()
    }

    async fn fails(&self, line: &str) -> String {
        let (result, out) = self.cli(line).await;
        let error = result.expect_err(&format!("{line}: {out}"));
        format!("{error:#}")
    }

    /// Imports a file with this content. Returns the report, and true if all lines were valid.
    async fn import(&self, what: &str, name: &str, content: impl AsRef<[u8]>) -> (Value, bool) {
        let file = std::env::temp_dir().join(format!("{}-{name}", uuid::Uuid::new_v4()));
        std::fs::write(&file, content).unwrap();
        let (result, out) = self.cli(&format!("{what} import {} --json", file.display())).await;
        std::fs::remove_file(&file).unwrap();
        (
            serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out} {result:?}")),
            result.is_ok(),
        )
    }

    async fn provision(&self, agent: &str, job: &str, at: &str, callback: &str) -> Armed {
        let instance = InstanceId::new(agent).unwrap();
        let wanted = Provision::new(job, at, callback, &format!("{job}:{at}")).unwrap();
        let previous: Option<String> =
            self.one(&format!("SELECT callback_url FROM instances WHERE instance_id = '{agent}'")).await;
        oneshot::provision(&self.db, &instance, previous.as_deref(), &wanted, &RULES).await.unwrap()
    }

    async fn claim(&self) -> Vec<Lease> {
        leases::claim_due(&self.db, Duration::from_secs(2), Duration::from_secs(3), 5_000, &[])
            .await
            .unwrap()
            .leases
    }

    async fn start(&self) -> Vec<Attempt> {
        let leases = self.claim().await;
        leases::confirm(&self.db, &leases, Duration::from_secs(40), 1).await.unwrap().attempts
    }

    async fn end(&self, attempt: &Attempt, outcome: FireOutcome) -> Option<OneShotState> {
        let ended = Ended {
            attempt: attempt.started(),
            outcome,
            http_status: Some(503),
            error: Some("the agent answered 503".to_owned()),
            answer: None,
            ambiguous: false,
            retry_in: None,
            retry_after: None,
        };
        outcomes::finish_fires(&self.db, &[ended], &RULES).await.unwrap()[0].state
    }

    /// Fires all due one-shots, and ends each attempt with this outcome. Returns the number of attempts.
    async fn end_all(&self, outcome: FireOutcome) -> usize {
        let attempts = self.start().await;
        for attempt in &attempts {
            self.end(attempt, outcome).await;
        }
        attempts.len()
    }

    async fn registers(&self, json: Value) -> Result<directory::Change, directory::DirectoryError> {
        let fields = Fields::parse(json.to_string().as_bytes()).unwrap();
        let wanted = directory::registration(fields, None).unwrap();
        directory::register(&self.db, wanted, false).await.map(|(change, _)| change)
    }
}

fn at(seconds: i64) -> String {
    #[expect(clippy::disallowed_methods, reason = "the database's clock is the machine's here")]
    let now = Utc::now();
    (now + TimeDelta::seconds(seconds)).format("%Y-%m-%dT%H:%M:%S+00:00").to_string()
}

fn one_shot(agent: &str, job: &str, at: &str) -> String {
    format!(
        "{}\n",
        json!({"instance_id": agent, "job_id": job, "fire_at": at, "agent_callback_url": CALLBACK})
    )
}

mod directory_rules {
    use super::*;

    #[tokio::test]
    async fn registering_twice_changes_nothing_and_omitted_fields_are_kept() {
        let world = World::new().await;
        let full = json!({"instance_id": "a", "org_id": "o", "bootstrap_session_id": "s", "callback_url": CALLBACK, "enabled": false});
        assert_eq!(world.registers(full.clone()).await.unwrap(), directory::Change::Added);
        assert_eq!(world.registers(full).await.unwrap(), directory::Change::Unchanged);
        let bare = json!({"instance_id": "a", "org_id": "o"});
        assert_eq!(world.registers(bare.clone()).await.unwrap(), directory::Change::Unchanged);
        let agent = world.json("agents show a").await;
        assert_eq!((&agent["bootstrap_session_id"], &agent["enabled"]), (&json!("s"), &json!(false)));
        assert_eq!(agent["callback_url"], CALLBACK);
        let cleared =
            json!({"instance_id": "a", "org_id": "o", "bootstrap_session_id": null, "enabled": true});
        assert_eq!(world.registers(cleared).await.unwrap(), directory::Change::Updated);
        assert_eq!(world.registers(bare).await.unwrap(), directory::Change::Unchanged);
        let agent = world.json("agents show a").await;
        assert_eq!((&agent["bootstrap_session_id"], &agent["enabled"]), (&Value::Null, &json!(true)));
    }

    #[tokio::test]
    async fn an_agent_changes_its_org_only_on_explicit_request() {
        let world = World::with_agents().await;
        let error = world.fails("agents add a --org p").await;
        assert!(error.contains("belongs to org `o`") && error.contains("--move-org"), "{error}");
        world.ok("agents add a --org p --move-org").await;
        assert_eq!(world.json("agents show a").await["org_id"], "p");
    }

    #[tokio::test]
    async fn a_session_belongs_to_one_agent_within_an_org() {
        let world = World::with_agents().await;
        world.ok("agents add a --org o --session s").await;
        world.ok("agents add b --org p --session s").await;
        let error = world.fails("agents add c --org o --session s").await;
        assert!(error.contains("agent `a`"), "{error}");
        let error = world.fails("agents add b --org o --move-org").await;
        assert!(error.contains("agent `a`"), "the present session counts as well: {error}");
    }

    #[tokio::test]
    async fn concurrent_registrations_never_fail_and_agree() {
        let world = World::new().await;
        let same =
            join_all((0..16).map(|_| world.registers(json!({"instance_id": "a", "org_id": "o"})))).await;
        let added = |results: &[Result<directory::Change, _>]| {
            results.iter().filter(|result| matches!(result, Ok(directory::Change::Added))).count()
        };
        assert!(same.iter().all(Result::is_ok), "{same:?}");
        assert_eq!(added(&same), 1);
        let rivals = join_all((0..16).map(|n| {
            world.registers(
                json!({"instance_id": format!("r{n}"), "org_id": "o", "bootstrap_session_id": "s"}),
            )
        }))
        .await;
        assert_eq!(added(&rivals), 1, "{rivals:?}");
        let refused =
            |result: &Result<_, _>| matches!(result, Err(directory::DirectoryError::SessionTaken(_)));
        assert_eq!(rivals.iter().filter(|result| refused(result)).count(), 15, "{rivals:?}");
    }

    #[tokio::test]
    async fn a_batch_is_validated_row_by_row() {
        let world = World::with_agents().await;
        world.ok("agents add a --org o --session taken").await;
        let row = |json: Value| {
            directory::registration(Fields::parse(json.to_string().as_bytes()).unwrap(), None).unwrap()
        };
        let batch = [
            row(json!({"instance_id": "n1", "org_id": "o", "bootstrap_session_id": "s"})),
            row(json!({"instance_id": "n2", "org_id": "o", "bootstrap_session_id": "s"})),
            row(json!({"instance_id": "n3", "org_id": "o", "bootstrap_session_id": "taken"})),
            row(json!({"instance_id": "n1", "org_id": "o"})),
            row(json!({"instance_id": "b", "org_id": "o", "bootstrap_session_id": "b's"})),
            row(json!({"instance_id": "b2", "org_id": "p", "bootstrap_session_id": "s"})),
            row(json!({"instance_id": "a", "org_id": "o"})),
            row(json!({"instance_id": "n4", "org_id": "o", "bootstrap_session_id": "b's"})),
        ];
        let expected = [
            Verdict::Added,
            Verdict::SessionTaken("n1".to_owned()),
            Verdict::SessionTaken("a".to_owned()),
            Verdict::Repeated,
            Verdict::OtherOrg("p".to_owned()),
            Verdict::Added,
            Verdict::Unchanged,
            Verdict::Added,
        ];
        for dry_run in [true, false] {
            let verdicts = directory::register_all(&world.db, &batch, false, dry_run).await.unwrap();
            assert_eq!(verdicts, expected, "dry run: {dry_run}");
        }
        assert_eq!(world.one::<i64>("SELECT count(*) FROM instances").await, 5);
    }

    #[tokio::test]
    async fn disabling_an_agent_holds_its_fires_and_enabling_releases_them_at_once() {
        let world = World::with_agents().await;
        world.provision("a", "j", &at(-10), CALLBACK).await;
        let output = world.ok("agents disable a").await;
        assert!(output.contains("It has 1 one-shot; none fires until `nas-cron agents enable`"), "{output}");
        assert!(world.claim().await.is_empty());
        assert_eq!(world.json("agents show a").await["parked"], 1);
        let mut hints = Hints::listen(&world.db).await.unwrap();
        let output = world.ok("agents enable a").await;
        assert!(output.contains("is enabled; 1 one-shot released"), "{output}");
        hints.next().await.unwrap();
        assert_eq!(world.start().await.len(), 1);
        assert!(world.ok("agents enable a").await.contains("is already enabled"));
    }

    #[tokio::test]
    async fn registering_an_agent_as_enabled_releases_its_fires() {
        let world = World::with_agents().await;
        world.provision("a", "j", &at(-10), CALLBACK).await;
        world.ok("agents add a --org o --disabled").await;
        assert!(world.claim().await.is_empty());
        world.registers(json!({"instance_id": "a", "org_id": "o", "enabled": true})).await.unwrap();
        assert_eq!(world.start().await.len(), 1);
    }

    #[tokio::test]
    async fn a_new_callback_applies_to_all_armed_one_shots() {
        let world = World::with_agents().await;
        world.provision("a", "1", &at(60), "https://old.example").await;
        world.provision("a", "2", &at(60), "https://older.example").await;
        world.sql("UPDATE one_shots SET callback_url = 'https://stray.example' WHERE job_id = '1'").await;
        world.provision("b", "1", &at(60), "https://b.example").await;
        let at_callback = |url: &str| {
            format!("SELECT count(*) FROM one_shots WHERE instance_id = 'a' AND callback_url = '{url}'")
        };
        let output = world.json("agents set-callback a https://new.example").await;
        assert_eq!(output["moved"], 2);
        assert_eq!(world.one::<i64>(&at_callback("https://new.example")).await, 2);
        world.ok("agents add a --org o --callback-url https://newer.example").await;
        assert_eq!(world.one::<i64>(&at_callback("https://newer.example")).await, 2);
        // A callback from the agent itself wins, and moves all its one-shots.
        world.provision("a", "3", &at(60), "https://own.example").await;
        assert_eq!(world.one::<i64>(&at_callback("https://own.example")).await, 3);
        let b: String = world.one("SELECT callback_url FROM one_shots WHERE instance_id = 'b'").await;
        assert_eq!(b, "https://b.example");
        assert!(world.fails("agents set-callback x https://new.example").await.contains("agents add"));
    }

    #[tokio::test]
    async fn removing_an_agent_deletes_its_one_shots_and_no_attempt_starts() {
        let world = World::with_agents().await;
        world.provision("a", "j", &at(-10), CALLBACK).await;
        let leases = world.claim().await;
        assert!(world.fails("agents remove a").await.contains("--yes"));
        assert!(world.ok("agents remove a --yes").await.contains("and 1 one-shot with it"));
        let confirmed = leases::confirm(&world.db, &leases, Duration::from_secs(40), 1).await.unwrap();
        assert!(confirmed.attempts.is_empty());
        assert!(world.fails("agents remove a").await.contains("no agent `a` is registered"));
        assert!(world.ok("agents remove b").await.contains("0 one-shots"));
        assert_eq!(world.one::<i64>("SELECT count(*) FROM one_shots").await, 0);
    }

    #[tokio::test]
    async fn lists_are_paged_and_filtered() {
        let world = World::new().await;
        for n in 0..7 {
            world.ok(&format!("agents add a{n} --org o{}", n % 2)).await;
        }
        world.ok("agents disable a2").await;
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let page = world.json(&format!("agents list --limit 3{after}")).await;
            names.extend(page["agents"].as_array().unwrap().iter().map(|agent| agent["instance_id"].clone()));
            let Some(next) = page["next"].as_str() else { break };
            after = format!(" --after {next}");
        }
        assert_eq!(names, ["a0", "a1", "a2", "a3", "a4", "a5", "a6"]);
        let names = async |line: &str| -> Vec<String> {
            let page = world.json(line).await;
            let agents = page["agents"].as_array().unwrap();
            agents.iter().map(|agent| agent["instance_id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("agents list --org o1").await, ["a1", "a3", "a5"]);
        assert_eq!(names("agents list --disabled").await, ["a2"]);
        assert_eq!(names("agents list --org o0 --enabled").await, ["a0", "a4", "a6"]);
        assert!(world.ok("agents list --limit 3").await.contains("More agents follow: --after a2"));
    }

    #[tokio::test]
    async fn config_prints_the_yaml_of_one_agent() {
        let world = World::with_agents().await;
        assert!(world.fails("agents config a").await.contains("--callback-url"));
        world.provision("a", "j", &at(60), "https://a.example/p/").await;
        insta::assert_snapshot!(world.ok("agents config a").await, @r#"
        cron:
          provider: chronos
          chronos:
            portal_url: "https://portal.example"
            callback_url: "https://a.example/p/"
            expected_audience: "agent:a"
            nas_jwks_url: "https://cron.example/api/agent-cron/jwks.json"
        "#);
        let output = world.json("agents config b --callback-url https://b.example").await;
        assert_eq!(output["cron"]["chronos"]["expected_audience"], "agent:b");
        assert!(world.fails("agents config x").await.contains("no agent `x` is registered"));
    }
}

mod agents_import {
    use super::*;

    #[tokio::test]
    async fn every_bad_line_is_named_and_the_good_ones_are_taken() {
        let world = World::with_agents().await;
        let csv = "instance_id,org_id,bootstrap_session_id,enabled,callback_url\n\
                   n1,o,s1,,\n\
                   n2,o,s1,,\n\
                   n3,,,,\n\
                   n4,o,,maybe,\n\
                   n5,o,,false,ftp://x\n\
                   n6,o,,no,https://n6.example\n\
                   n1,o,,,\n\
                   b,o,,,\n\
                   a,o,,,\n\
                   n7,o\n";
        let (report, good) = world.import("agents", "agents.csv", csv).await;
        assert!(!good);
        insta::assert_json_snapshot!(report, @r#"
        {
          "added": 2,
          "bad": [
            {
              "line": 3,
              "problem": "bootstrap_session_id: belongs to agent `n1` of the same org"
            },
            {
              "line": 4,
              "problem": "org_id: is missing"
            },
            {
              "line": 5,
              "problem": "enabled: must be true or false"
            },
            {
              "line": 6,
              "problem": "callback_url: must be an http or https URL"
            },
            {
              "line": 8,
              "problem": "instance_id: already on line 2"
            },
            {
              "line": 9,
              "problem": "org_id: the agent belongs to org `p`; --move-org moves it"
            },
            {
              "line": 11,
              "problem": "the header has 5 columns, this line has 2"
            }
          ],
          "dry_run": false,
          "lines": 10,
          "unchanged": 1,
          "updated": 0
        }
        "#);
        assert_eq!(world.json("agents show n6").await["enabled"], false);
        assert!(world.fails("agents show n3").await.contains("no agent"));
    }

    #[tokio::test]
    async fn thousands_are_imported_in_few_statements_and_a_repeat_changes_nothing() {
        let world = World::new().await;
        let mut lines = String::new();
        for n in 0..2_500 {
            let line = json!({"instance_id": format!("n{n}"), "org_id": "o", "bootstrap_session_id": format!("s{n}")});
            writeln!(lines, "{line}").unwrap();
        }
        let (report, good) = world.import("agents", "agents.jsonl", &lines).await;
        assert!(good);
        assert_eq!((&report["lines"], &report["added"]), (&json!(2500), &json!(2500)));
        let changed = lines.replace("\"s7\"", "\"seven\"");
        let (report, _) = world.import("agents", "agents", &changed).await;
        assert_eq!((&report["updated"], &report["unchanged"]), (&json!(1), &json!(2499)));
    }

    #[tokio::test]
    async fn a_dry_run_reports_the_same_and_changes_nothing() {
        let world = World::with_agents().await;
        let file = std::env::temp_dir().join(format!("{}.csv", uuid::Uuid::new_v4()));
        std::fs::write(&file, "instance_id,org_id\nnew,o\na,o\nb,o\n").unwrap();
        let (result, out) = world.cli(&format!("agents import --dry-run {}", file.display())).await;
        std::fs::remove_file(&file).unwrap();
        insta::assert_snapshot!(out, @r#"
        line 4: org_id: the agent belongs to org `p`; --move-org moves it
        3 lines: 1 added, 1 unchanged, 0 updated, 1 invalid (dry run: nothing was changed).
        "#);
        insta::assert_snapshot!(result.unwrap_err(), @"1 of 3 lines are invalid; correct them and import the file again: lines that are already imported stay unchanged");
        assert!(world.fails("agents show new").await.contains("no agent"));
    }

    #[tokio::test]
    async fn missing_import_file_is_named() {
        let world = World::new().await;
        let error = world.fails("agents import /no/such/file.csv").await;
        assert!(error.starts_with("opening /no/such/file.csv failed: "), "{error}");
    }
}

mod jobs_rules {
    use super::*;

    #[tokio::test]
    async fn lists_are_filtered_and_paged() {
        let world = World::with_agents().await;
        for n in 0..3 {
            world.provision("a", &format!("later{n}"), &at(600), CALLBACK).await;
        }
        world.provision("b", "dead", &at(-10), CALLBACK).await;
        world.end_all(FireOutcome::Failed).await;
        world.provision("b", "parked", &at(-10), CALLBACK).await;
        world.ok("hold --instance b").await;
        assert!(world.claim().await.is_empty());
        world.provision("a", "overdue", &at(-10), CALLBACK).await;
        let names = async |line: &str| -> Vec<String> {
            let page = world.json(line).await;
            page["jobs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|job| job["job_id"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(names("jobs list").await, ["later0", "later1", "later2", "overdue", "dead", "parked"]);
        assert_eq!(names("jobs list --state dead,stuck").await, ["dead"]);
        assert_eq!(names("jobs list --org p --state armed").await, ["parked"]);
        assert_eq!(names("jobs list --parked").await, ["parked"]);
        assert_eq!(names("jobs list --overdue").await, ["overdue"]);
        assert_eq!(names("jobs list --instance b").await, ["dead", "parked"]);
        let first = world.json("jobs list --limit 4").await;
        let rest = names(&format!("jobs list --after {}", first["next"].as_str().unwrap())).await;
        assert_eq!(rest, ["dead", "parked"]);
        world.sql("UPDATE one_shots SET awaits = 'nats' WHERE job_id IN ('later0', 'overdue')").await;
        assert_eq!(names("jobs list --overdue").await, ["overdue"], "also if its wake-up is awaited");
    }

    #[tokio::test]
    async fn show_prints_the_job_and_its_attempts() {
        let world = World::with_agents().await;
        let armed = world.provision("a", "j", &at(-10), CALLBACK).await;
        world.end_all(FireOutcome::Failed).await;
        let shown = world.json("jobs show a j").await;
        assert_eq!(shown["job"]["schedule_id"], armed.schedule_id.to_string());
        assert_eq!((&shown["job"]["state"], &shown["job"]["last_status"]), (&json!("dead"), &json!(503)));
        assert_eq!(
            (&shown["attempts"][0]["outcome"], &shown["cancelled_at"]),
            (&json!("failed"), &json!(null))
        );
        assert!(world.ok("jobs show a j").await.contains("`nas-cron jobs redrive a j` fires it again"));
        assert!(world.ok("jobs cancel a j").await.contains("is cancelled"));
        assert!(world.ok("jobs cancel a j").await.contains("nothing to cancel"));
        assert!(world.ok("jobs show a j").await.contains("No current one-shot: it was cancelled now"));
        assert!(world.json("jobs show a j").await["cancelled_at"].is_string());
        world.provision("a", "untried", &at(60), CALLBACK).await;
        world.ok("jobs cancel a untried").await;
        let untried = world.ok("jobs show a untried").await;
        assert!(untried.contains("it was cancelled") && untried.contains("No attempts."), "{untried}");
        assert!(world.fails("jobs show a x").await.contains("unknown job x of agent a"));
    }

    #[tokio::test]
    async fn a_redriven_dead_letter_is_due_now_with_a_fresh_budget_and_its_schedule() {
        let world = World::with_agents().await;
        let armed = world.provision("a", "j", &at(-10), CALLBACK).await;
        world.end_all(FireOutcome::Failed).await;
        world.sql("UPDATE one_shots SET last_started_at = now() - interval '1 min'").await;
        let mut hints = Hints::listen(&world.db).await.unwrap();
        assert_eq!(
            world.ok("jobs redrive a j").await,
            "1 one-shot redriven: due now, with a fresh retry budget.\n"
        );
        hints.next().await.unwrap();
        let attempts = world.start().await;
        assert_eq!(attempts.len(), 1);
        assert_eq!((attempts[0].schedule_id, attempts[0].attempt), (armed.schedule_id, 1));
        assert_eq!(world.end(&attempts[0], FireOutcome::Delivered).await, Some(OneShotState::Delivered));
        assert!(world.fails("jobs redrive a j").await.contains("neither dead nor stuck"));
    }

    #[tokio::test]
    async fn a_redriven_stuck_one_shot_gets_its_second_fires_again() {
        let world = World::with_agents().await;
        let when = at(-10);
        world.provision("a", "j", &when, CALLBACK).await;
        for _ in 0..4 {
            assert_eq!(world.end_all(FireOutcome::Delivered).await, 1);
            world.provision("a", "j", &when, CALLBACK).await;
            world
                .sql("UPDATE one_shots SET next_attempt_at = now() - interval '1 s' WHERE next_attempt_at IS NOT NULL")
                .await;
        }
        assert_eq!(world.json("jobs show a j").await["job"]["state"], "stuck");
        assert_eq!(
            world.json("jobs redrive a").await["redriven"],
            0,
            "without --include-stuck, only dead letters are redriven"
        );
        assert_eq!(world.json("jobs redrive a --include-stuck").await["redriven"], 1);
        world.sql("UPDATE one_shots SET next_attempt_at = now() - interval '1 s'").await;
        assert_eq!(world.end_all(FireOutcome::Delivered).await, 1);
        world.provision("a", "j", &when, CALLBACK).await;
        assert_eq!(world.json("jobs show a j").await["job"]["state"], "waiting", "for a second fire");
    }

    #[tokio::test]
    async fn a_redrive_of_many_is_paced_per_agent_and_continues_after_an_earlier_one() {
        let world = World::with_agents().await;
        for (agent, count) in [("a", 30), ("b", 3)] {
            for number in 0..count {
                world.provision(agent, &format!("j{number:02}"), &at(-10), CALLBACK).await;
            }
        }
        world.end_all(FireOutcome::Failed).await;
        world.sql("UPDATE one_shots SET last_started_at = now() - interval '1 min'").await;
        let first = world.json("jobs redrive a j00").await;
        assert_eq!((&first["redriven"], first["last_starts_at"].is_string()), (&json!(1), true));
        let out = world.ok("jobs redrive --all --per-second 2").await;
        assert!(out.starts_with("32 one-shots redriven: due now, the last one in "), "{out}");
        assert!(out.ends_with("(at most 2 per second and agent), with a fresh retry budget.\n"), "{out}");

        let gap = "SELECT min(gap)::float8 FROM (
                       SELECT extract(epoch FROM next_attempt_at - lag(next_attempt_at) OVER
                                  (PARTITION BY instance_id ORDER BY next_attempt_at)) AS gap
                       FROM one_shots) g";
        let gap: f64 = world.one(gap).await;
        assert!(gap >= 0.249, "{gap} s between two of one agent, those of the earlier redrive included");
        let length = async |agent: &str| -> f64 {
            let length = "SELECT extract(epoch FROM max(next_attempt_at) - min(next_attempt_at))::float8
                          FROM one_shots WHERE instance_id = ";
            world.one(&format!("{length}'{agent}'")).await
        };
        assert!(length("a").await >= 14.2);
        assert!((length("b").await - 1.0).abs() < 0.01, "each agent has its own pace");
        let begun: bool =
            world.one("SELECT min(next_attempt_at) <= now() FROM one_shots WHERE instance_id = 'b'").await;
        assert!(begun, "the first ones are due at once");
    }

    #[tokio::test]
    async fn dead_letters_are_redriven_by_org_and_dry_runs_only_count() {
        let world = World::with_agents().await;
        for n in 0..5 {
            world.provision("a", &format!("j{n}"), &at(-10), CALLBACK).await;
            world.provision("b", &format!("j{n}"), &at(-10), CALLBACK).await;
        }
        assert_eq!(world.end_all(FireOutcome::Failed).await, 10);
        assert_eq!(world.json("jobs redrive --all --dry-run").await["redrivable"], 10);
        assert_eq!(world.json("jobs redrive --org o").await["redriven"], 5);
        assert_eq!(world.one::<i64>("SELECT count(*) FROM one_shots WHERE state = 'dead'").await, 5);
        // Two operators at once: each dead letter is redriven once.
        let both = futures::join!(world.json("jobs redrive --all"), world.json("jobs redrive b"));
        assert_eq!(both.0["redriven"].as_i64().unwrap() + both.1["redriven"].as_i64().unwrap(), 5);
    }
}

mod jobs_import {
    use super::*;

    #[tokio::test]
    async fn an_import_arms_missing_jobs_and_keeps_those_an_agent_has_provisioned() {
        let world = World::with_agents().await;
        let kept = world.provision("a", "mine", &at(600), CALLBACK).await;
        let past = at(-3600);
        let mut lines = one_shot("a", "past", &past);
        lines += &one_shot("a", "mine", &at(300));
        lines += &one_shot("x", "j", &past);
        lines += &one_shot("a", "naive", "2026-06-18T12:34:56");
        lines += "\n{\"instance_id\":\"a\"}\n";
        lines += &one_shot("a", "past", &at(900));
        let (report, good) = world.import("jobs", "jobs.jsonl", &lines).await;
        assert!(!good);
        insta::assert_json_snapshot!(report, @r#"
        {
          "armed": 1,
          "bad": [
            {
              "line": 3,
              "problem": "instance_id: agent `x` is not registered; import the agents first"
            },
            {
              "line": 4,
              "problem": "fire_at: must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00"
            },
            {
              "line": 6,
              "problem": "job_id: is missing"
            }
          ],
          "dry_run": false,
          "kept": 2,
          "lines": 6,
          "skipped": [
            {
              "line": 2,
              "problem": "job mine of agent a has a one-shot with another dedup_key, which is kept"
            },
            {
              "line": 7,
              "problem": "job past of agent a has a one-shot with another dedup_key, which is kept"
            }
          ],
          "unchanged": 0
        }
        "#);
        let shown = world.json("jobs show a mine").await;
        assert_eq!(shown["job"]["schedule_id"], kept.schedule_id.to_string());
        let attempts = world.start().await;
        assert_eq!(attempts.len(), 1, "an overdue one-shot fires at once");
        assert_eq!(attempts[0].fire_at.as_str(), past);
    }

    /// Imports these lines, and returns the problem of each.
    async fn problems(lines: &[Vec<u8>]) -> Vec<Option<String>> {
        let world = World::with_agents().await;
        let (report, _) = world.import("jobs", "jobs.jsonl", lines.join(&b'\n')).await;
        assert_eq!(report["lines"], lines.len());
        let mut problems = vec![None; lines.len()];
        for bad in report["bad"].as_array().unwrap() {
            let line = usize::try_from(bad["line"].as_u64().unwrap()).unwrap();
            problems[line - 1] = Some(bad["problem"].as_str().unwrap().to_owned());
        }
        problems
    }

    #[tokio::test]
    async fn times_outside_the_grammar_are_refused_and_all_others_are_imported() {
        let times = corpora::times();
        let lines: Vec<_> = (0..)
            .zip(&times)
            .map(|(number, time)| {
                one_shot("a", &format!("j{number}"), &time.text).trim_end().as_bytes().to_vec()
            })
            .collect();
        for (problem, time) in problems(&lines).await.into_iter().zip(&times) {
            // A NUL character is refused anywhere in the line.
            let is_named = problem.as_ref().is_some_and(|problem| {
                problem.starts_with("fire_at: ") || time.text.contains('\0') && problem.contains("NUL")
            });
            assert!(
                if time.micros.is_none() { is_named } else { problem.is_none() },
                "{time:?}: {problem:?}"
            );
        }
    }

    #[tokio::test]
    async fn lines_that_readers_could_read_differently_are_refused() {
        let good = one_shot("a", "j", &at(600));
        let (lines, oddities): (Vec<_>, Vec<_>) = corpora::json_oddities()
            .into_iter()
            .map(|oddity| (oddity.put_into(good.trim_end()), oddity))
            .filter(|(line, _)| !line.contains(&b'\n'))
            .unzip();
        for (problem, oddity) in problems(&lines).await.into_iter().zip(&oddities) {
            // Sound lines have an unknown field, which an import refuses, too.
            let is_sound = problem.as_ref().is_none_or(|problem| problem.contains("unknown field"));
            assert_eq!(is_sound, !oddity.refused, "{}: {problem:?}", oddity.why);
        }
    }

    #[tokio::test]
    async fn the_agents_next_provision_finds_the_imported_job_armed() {
        let world = World::with_agents().await;
        let when = at(600);
        world.import("jobs", "jobs.jsonl", &one_shot("a", "j", &when)).await;
        let id = world.json("jobs show a j").await["job"]["schedule_id"].clone();
        let armed = world.provision("a", "j", &when, CALLBACK).await;
        assert_eq!(id, armed.schedule_id.to_string());
        // An agent that has moved since then also moves its imported one-shots.
        world.import("jobs", "jobs.jsonl", &one_shot("b", "j", &when)).await;
        world.provision("b", "other", &when, "https://moved.example").await;
        assert_eq!(world.json("jobs show b j").await["job"]["callback_url"], "https://moved.example");
    }

    #[tokio::test]
    async fn repeating_an_import_changes_nothing_even_after_the_fire() {
        let world = World::with_agents().await;
        let mut lines = String::new();
        for n in 0..2_500 {
            lines += &one_shot("a", &format!("j{n}"), &at(-5));
        }
        let (report, good) = world.import("jobs", "jobs.jsonl", &lines).await;
        assert_eq!((good, &report["armed"]), (true, &json!(2500)));
        let (report, _) = world.import("jobs", "jobs.jsonl", &lines).await;
        assert_eq!((&report["armed"], &report["unchanged"]), (&json!(0), &json!(2500)));
        let first = lines.lines().next().unwrap();
        let attempts = world.start().await;
        let j0 = attempts.iter().find(|attempt| attempt.job_id.as_str() == "j0").unwrap();
        world.end(j0, FireOutcome::Delivered).await;
        let (report, _) = world.import("jobs", "jobs.jsonl", first).await;
        assert_eq!(report["unchanged"], 1, "it was delivered here");
    }

    #[tokio::test]
    async fn a_concurrent_provision_of_the_agent_wins_over_an_import() {
        let world = World::with_agents().await;
        let (imported, own) = (at(300), at(600));
        let lines: String = (0..300).map(|n| one_shot("a", &format!("j{n}"), &imported)).collect();
        let provisions = async {
            for chunk in 0..10 {
                let jobs = (0..30).map(|n| format!("j{}", chunk + 10 * n));
                join_all(jobs.map(|job| {
                    let (world, own) = (&world, &own);
                    async move { world.provision("a", &job, own, CALLBACK).await }
                }))
                .await;
            }
        };
        let ((report, good), ()) = futures::join!(world.import("jobs", "jobs.jsonl", &lines), provisions);
        assert!(good, "{report}");
        let own_keys = format!("SELECT count(*) FROM one_shots WHERE fire_at_text = '{own}'");
        assert_eq!(world.one::<i64>(&own_keys).await, 300);
    }

    #[tokio::test]
    async fn a_dry_run_changes_nothing() {
        let world = World::with_agents().await;
        let file = std::env::temp_dir().join(format!("{}.jsonl", uuid::Uuid::new_v4()));
        std::fs::write(&file, one_shot("a", "j", &at(60))).unwrap();
        let out = world.ok(&format!("jobs import {} --dry-run", file.display())).await;
        std::fs::remove_file(&file).unwrap();
        insta::assert_snapshot!(out, @"1 line: 1 armed, 0 kept, 0 unchanged, 0 invalid (dry run: nothing was changed).");
        assert_eq!(world.one::<i64>("SELECT count(*) FROM one_shots").await, 0);
    }
}

mod holds {
    use super::*;

    #[tokio::test]
    async fn hold_stops_fires_and_release_loses_none() {
        let world = World::with_agents().await;
        world.provision("a", "j", &at(-10), CALLBACK).await;
        world.provision("b", "j", &at(-10), CALLBACK).await;
        insta::assert_snapshot!(world.ok("hold --all --reason maintenance").await, @"The whole service is on hold: 2 agents with 2 one-shots. None fires until `nas-cron release`.");
        insta::assert_snapshot!(world.ok("hold --org o").await, @"Org o is on hold: 1 agent with 1 one-shot. None fires until `nas-cron release`.");
        assert!(world.claim().await.is_empty());
        let holds = world.json("hold list").await;
        assert_eq!(
            (&holds["holds"][0]["parked"], &holds["holds"][0]["reason"]),
            (&json!(2), &json!("maintenance"))
        );
        assert_eq!((&holds["holds"][1]["scope_id"], &holds["holds"][1]["parked"]), (&json!("o"), &json!(1)));
        let mut hints = Hints::listen(&world.db).await.unwrap();
        insta::assert_snapshot!(world.ok("release --all").await, @r#"
        The whole service is released: 1 one-shot no longer parked.
        Still parked: 1 one-shot, because of another hold or a disabled agent; see `nas-cron hold list`.
        "#);
        hints.next().await.unwrap();
        assert_eq!(world.start().await.len(), 1);
        insta::assert_snapshot!(world.ok("release --all").await, @r#"
        The whole service was not on hold. `nas-cron hold list` shows the holds.
        Still parked: 1 one-shot, because of another hold or a disabled agent; see `nas-cron hold list`.
        "#);
        insta::assert_snapshot!(world.ok("release --org o").await, @"Org o is released: 1 one-shot no longer parked.");
        assert_eq!(world.start().await.len(), 1);
        assert_eq!(world.ok("hold list").await, "Nothing is on hold.\n");
    }

    #[tokio::test]
    async fn one_shots_leased_before_a_hold_do_not_start() {
        let world = World::with_agents().await;
        world.provision("a", "j", &at(-10), CALLBACK).await;
        let leases = world.claim().await;
        world.ok("hold --instance a").await;
        let confirmed = leases::confirm(&world.db, &leases, Duration::from_secs(40), 1).await.unwrap();
        assert!(confirmed.attempts.is_empty());
    }

    #[tokio::test]
    async fn a_hold_of_an_unknown_instance_or_org_is_refused() {
        let world = World::with_agents().await;
        assert!(world.fails("hold --instance typo").await.contains("no agent `typo` is registered"));
        assert!(world.fails("hold --org typo").await.contains("no agent of org typo"));
        assert_eq!(world.ok("hold list").await, "Nothing is on hold.\n");
        assert!(world.ok("release --org typo").await.contains("was not on hold"));
    }
}

mod admin_api {
    use super::*;

    const TOKEN: &str = "an-admin-token";

    fn hash(token: &str) -> [u8; 32] {
        digest(&SHA256, token.as_bytes()).as_ref().try_into().unwrap()
    }

    struct Api {
        world: World,
        router: Router,
    }

    struct Answer {
        status: StatusCode,
        headers: axum::http::HeaderMap,
        body: Value,
    }

    fn webhooks(db: &Db) -> Webhooks {
        let connections = Connections::new(AddressPolicy::default(), &ClientConfig::default()).unwrap();
        Webhooks::new(db.clone(), Sender::new(connections, Arc::new(SystemClock)), None)
    }

    fn state(db: &Db, config_tokens: Arc<ConfigTokens>) -> AdminState {
        AdminState {
            directory: Directory::new(db.clone()),
            overviews: Overviews::new(db.clone(), OverviewRules::default()),
            operations: Operations::new(db.clone(), DEFAULT_QUOTAS),
            profiles: Profiles::new(db.clone()),
            identities: IdentityRegistry::new(db.clone()),
            tokens: StoredTokens::new(db.clone()),
            config_tokens,
            audit: AuditLog::new(db.clone()),
            keys: KeyOperations {
                db: db.clone(),
                kek: None,
                refresh_keys: None,
                policy: RotationPolicy::default(),
                alg: SigningAlg::Es256,
                agents_jwks_url: None,
            },
            backends: BackendOperations::new(db.clone(), Vec::new(), Vec::new(), Arc::default()),
            webhooks: webhooks(db),
        }
    }

    fn api_of(db: &Db, tokens: &[&str]) -> Router {
        let tokens = Arc::new(ConfigTokens::new(tokens.iter().map(|token| hash(token))));
        admin::router(state(db, tokens)).split_for_parts().0
    }

    async fn call(router: &Router, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let response =
            router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.as_u16() >= 400 {
            assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json", "{method} {path}");
            assert_eq!(body["status"], status.as_u16(), "{body}");
        }
        assert_eq!(headers[header::CACHE_CONTROL], "no-store");
        Answer { status, headers, body }
    }

    impl Api {
        async fn new() -> Self {
            let world = World::with_agents().await;
            let router = api_of(&world.db, &[TOKEN]);
            Self { world, router }
        }

        async fn put(&self, path: &str, body: Value) -> Answer {
            call(&self.router, "PUT", &format!("/api/admin/agents/{path}"), Some(TOKEN), &body.to_string())
                .await
        }

        async fn get(&self, path: &str) -> Answer {
            call(&self.router, "GET", &format!("/api/admin/agents{path}"), Some(TOKEN), "").await
        }

        async fn delete(&self, path: &str) -> Answer {
            call(&self.router, "DELETE", &format!("/api/admin/agents/{path}"), Some(TOKEN), "").await
        }
    }

    #[tokio::test]
    async fn admin_api_requires_a_known_token() {
        let world = World::new().await;
        let router = api_of(&world.db, &["old", "new"]);
        for token in ["old", "new"] {
            assert_eq!(call(&router, "GET", "/api/admin/agents", Some(token), "").await.status, 200);
        }
        for token in [None, Some("wrong"), Some(""), Some(hex::encode(hash("old")).as_str())] {
            for (method, path) in [
                ("GET", "/api/admin/agents"),
                ("PUT", "/api/admin/agents/a"),
                ("DELETE", "/api/admin/agents/a"),
            ] {
                let answer = call(&router, method, path, token, "{}").await;
                assert_eq!(answer.status, 401, "{token:?}");
                assert!(answer.headers[header::WWW_AUTHENTICATE].to_str().unwrap().starts_with("Bearer"));
            }
        }
        let off = call(&api_of(&world.db, &[]), "GET", "/api/admin/agents", Some("old"), "").await;
        assert_eq!((off.status.as_u16(), &off.body["error"]), (403, &json!("admin_api_off")));
        assert!(off.body["detail"].as_str().unwrap().contains("NAS_CRON_ADMIN_TOKEN_SHA256"));
    }

    #[tokio::test]
    async fn agents_are_created_read_and_deleted() {
        let api = Api::new().await;
        let body = json!({"org_id": "o", "bootstrap_session_id": "s"});
        let created = api.put("n%2F1%20%C3%BC", body.clone()).await;
        assert_eq!(created.status, 201);
        assert_eq!(created.body["instance_id"], "n/1 ü");
        assert_eq!(created.body["enabled"], true);
        assert_eq!(created.headers[header::LOCATION], "/api/admin/agents/n%2F1%20%C3%BC");
        let again = api.put("n%2F1%20%C3%BC", body).await;
        assert_eq!((again.status.as_u16(), again.body), (200, created.body.clone()));
        let read = api.get("/n%2F1%20%C3%BC").await;
        let mut shown = created.body;
        shown["quota"] = json!(DEFAULT_QUOTAS.instance);
        assert_eq!((read.status.as_u16(), read.body), (200, shown));
        let disabled = api.put("n%2F1%20%C3%BC", json!({"org_id": "o", "enabled": false})).await;
        assert_eq!(
            (&disabled.body["enabled"], &disabled.body["bootstrap_session_id"]),
            (&json!(false), &json!("s"))
        );
        assert_eq!(api.delete("n%2F1%20%C3%BC").await.status, 204);
        assert_eq!(api.delete("n%2F1%20%C3%BC").await.status, 404);
        let gone = api.get("/n%2F1%20%C3%BC").await;
        assert_eq!((gone.status.as_u16(), &gone.body["error"]), (404, &json!("not_found")));
    }

    #[tokio::test]
    async fn every_rejected_field_is_named_and_nothing_is_stored() {
        let api = Api::new().await;
        let raw =
            async |body: String| call(&api.router, "PUT", "/api/admin/agents/n", Some(TOKEN), &body).await;
        for (body, begins) in [
            (json!({}), "org_id: is missing"),
            (json!({"org_id": 7}), "org_id: must be a string"),
            (json!({"org_id": ""}), "org_id: must not be empty"),
            (json!({"org_id": "x".repeat(256)}), "org_id: must be at most 255"),
            (json!({"org_id": "o", "org": "o"}), "org: unknown field"),
            (json!({"org_id": "o", "instance_id": "n"}), "instance_id: unknown field"),
            (json!({"org_id": "o", "bootstrap_session_id": ""}), "bootstrap_session_id: must not be empty"),
            (json!({"org_id": "o", "enabled": "yes"}), "enabled: must be true or false"),
            (
                json!({"org_id": "o", "callback_url": "https://u:p@x.example"}),
                "callback_url: must not carry credentials",
            ),
            (
                json!({"org_id": "o", "callback_url": "https://127.1"}),
                "callback_url: must write an IPv4 address in decimal",
            ),
        ] {
            let answer = raw(body.to_string()).await;
            let detail = answer.body["detail"].as_str().unwrap();
            assert!(answer.status == 400 && detail.starts_with(begins), "{body}: {detail}");
        }
        for body in ["", "[]", "{", "null", r#"{"org_id":"o","org_id":"p"}"#, r#"{"org_id":"\u0000"}"#] {
            assert_eq!(raw(body.to_owned()).await.status, 400, "{body}");
        }
        assert_eq!(raw(format!("{{\"org_id\":\"{}\"}}", "x".repeat(1 << 20))).await.status, 413);
        assert_eq!(api.put("%ff", json!({"org_id": "o"})).await.status, 400);
        assert_eq!(api.put("%00", json!({"org_id": "o"})).await.status, 400);
        assert_eq!(api.put(&"x".repeat(256), json!({"org_id": "o"})).await.status, 400);
        assert_eq!(api.get("/n").await.status, 404);
    }

    #[tokio::test]
    async fn conflicts_are_409_and_name_the_other_instance() {
        let api = Api::new().await;
        let moved = api.put("a", json!({"org_id": "p"})).await;
        assert_eq!(moved.status, 409);
        assert!(moved.body["detail"].as_str().unwrap().contains("org `o`"), "{}", moved.body);
        assert_eq!(api.put("a?move_org=true", json!({"org_id": "p"})).await.status, 200);
        api.put("a", json!({"org_id": "p", "bootstrap_session_id": "s"})).await;
        let taken = api.put("c", json!({"org_id": "p", "bootstrap_session_id": "s"})).await;
        assert_eq!(taken.status, 409);
        assert!(taken.body["detail"].as_str().unwrap().contains("agent `a`"), "{}", taken.body);
    }

    #[tokio::test]
    async fn the_list_is_paged_and_refuses_unknown_parameters() {
        let api = Api::new().await;
        for n in 0..5 {
            api.put(&format!("n{n}"), json!({"org_id": "o", "enabled": n != 3})).await;
        }
        let page = api.get("?limit=4").await.body;
        assert_eq!((page["agents"].as_array().unwrap().len(), &page["next"]), (4, &json!("n1")));
        let rest = api.get("?limit=4&after=n1").await.body;
        assert_eq!((rest["agents"].as_array().unwrap().len(), &rest["next"]), (3, &Value::Null));
        assert_eq!(api.get("?org_id=p").await.body["agents"].as_array().unwrap().len(), 1);
        assert_eq!(api.get("?org_id=o&enabled=false").await.body["agents"][0]["instance_id"], "n3");
        for wrong in [
            "?org=o",
            "?limit=0",
            "?limit=1001",
            "?limit=x",
            "?enabled=1",
            "?limit=1&limit=2",
            "?after=",
            "?org_id=",
        ] {
            let answer = api.get(wrong).await;
            let name = &wrong[1..wrong.find('=').unwrap()];
            assert!(answer.status == 400, "{wrong}");
            assert!(answer.body["detail"].as_str().unwrap().starts_with(name), "{wrong}: {}", answer.body);
        }
    }

    #[tokio::test]
    async fn an_unavailable_database_is_503_and_reveals_nothing_internal() {
        let api = Api::new().await;
        api.world.db.close();
        let answer = api.put("n", json!({"org_id": "o"})).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        assert!(!answer.body.to_string().contains("pool"), "{}", answer.body);
    }
}
