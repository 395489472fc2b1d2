//! Dead letters by their error, and actions on many jobs.

use uuid::Uuid;

use super::fixture::{Ops, Page, with};

/// Stores dead letters of `inst-1`: their names and errors.
async fn dead(ops: &Ops, letters: &[(&str, &str)]) {
    for (job, error) in letters {
        ops.armed(job).await;
        sqlx::query(
            "UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, attempts = 8, last_outcome = 'failed',
                                  last_status = 503, last_error = $2 WHERE job_id = $1",
        )
        .bind(job)
        .bind(error)
        .execute(&ops.world.pool)
        .await
        .unwrap();
    }
}

/// Returns the fields of the form that acts on jobs of a list, without the boxes.
fn selection(page: &Page) -> Vec<(String, String)> {
    let form =
        page.html.split("action=\"/ops/batch\"").nth(1).expect("a form").split("<table").next().unwrap();
    super::fixture::fields(form)
}

/// Returns the boxes of a list.
fn boxes(page: &Page) -> Vec<(String, String)> {
    let values = page.html.split("name=\"job\" value=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    values.map(|value| ("job".to_owned(), super::fixture::unescaped(value))).collect()
}

#[tokio::test]
async fn dead_letters_are_grouped_by_error_and_redriven_after_a_count() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    assert!(operator.get("/ops/dead-letters").await.html.contains("There are no dead letters"));
    dead(
        &ops,
        &[
            ("a", "connection refused"),
            ("b", "connection refused"),
            ("c", "the agent answered 500: <b>x</b>"),
        ],
    )
    .await;
    let page = operator.get("/ops/dead-letters").await;
    assert_eq!(page.html.matches("<q class=\"theirs\"").count(), 2, "{}", page.html);
    let redrive =
        page.html.split("href=\"").map(|rest| super::fixture::unescaped(rest.split('"').next().unwrap()));
    let redrive = redrive
        .filter(|href| href.contains("connection"))
        .find(|href| href.starts_with("/ops/batch"))
        .unwrap();
    let confirm = operator.get(&redrive).await;
    assert!(
        confirm.html.contains("2 jobs, of which") && confirm.html.contains("Nothing has been changed yet"),
        "{}",
        confirm.html
    );
    let done =
        operator.done("redrive_jobs", &with(&confirm.form("redrive_jobs"), "per_second", "1000")).await;
    assert!(
        done.html.contains("2 one-shots redriven.") && done.html.contains("all are done"),
        "{}",
        done.html
    );
    assert_eq!(ops.count("one_shots WHERE state = 'dead'").await, 1);
    let lines = ops.audit("action=redrive_jobs").await;
    assert_eq!(
        (lines.len(), &lines[0]["subject"]["error_group"]),
        (1, &"connection refused".into()),
        "{lines:?}"
    );
    for pace in ["0", "1001", "x"] {
        let fresh = with(&confirm.form("redrive_jobs"), "submission_id", &Uuid::new_v4().to_string());
        let form = with(&fresh, "per_second", pace);
        assert_eq!(operator.act("redrive_jobs", &form).await.status, 400, "{pace}");
    }
}

#[tokio::test]
async fn selected_jobs_are_changed_after_a_second_look_each_with_its_line() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for job in ["a", "b", "c"] {
        ops.armed(job).await;
    }
    let list = operator.get("/ops/jobs").await;
    let chosen: Vec<_> = boxes(&list).into_iter().take(2).collect();
    let form = [with(&selection(&list), "operation", "cancel_job"), chosen].concat();
    let confirm = operator.post("/ops/batch", &form).await;
    assert_eq!(confirm.status, 200, "{}", confirm.html);
    assert!(confirm.html.contains("Nothing has been changed yet."), "{}", confirm.html);
    assert_eq!(ops.count("one_shots").await, 3);
    // One of them is armed again meanwhile.
    ops.world.arm("b", 7_200_000).await;
    let done = operator.done("cancel_job", &confirm.form("cancel_job")).await;
    assert!(done.html.contains("1 job changed. 1 job left alone; the first because"), "{}", done.html);
    assert_eq!(ops.count("one_shots").await, 2);
    let lines = ops.audit("action=cancel_job").await;
    let outcomes: Vec<_> = lines
        .iter()
        .map(|line| (line["subject"]["job_id"].as_str().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, [("b", "refused"), ("a", "done")]);

    for (name, value, status) in
        [("operation", "nonsense", 400), ("job", "[]", 400), ("job", "[\"a\",\"b\",\"c\"]", 400)]
    {
        let page = operator.post("/ops/batch", &with(&form, name, value)).await;
        assert_eq!(page.status, status, "{name} {value}: {}", page.html);
    }
    let none = operator.post("/ops/batch", &with(&selection(&list), "operation", "cancel_job")).await;
    assert!(none.status == 400 && none.html.contains("select 1 to 200 jobs"), "{}", none.html);

    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    assert!(boxes(&viewer.get("/ops/jobs").await).is_empty());
}

#[tokio::test]
async fn action_on_all_matching_jobs_goes_on_part_by_part() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    ops.armed("template").await;
    ops.world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, dead_since)
             SELECT instance_id, 'job-' || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, 'dead', now()
             FROM one_shots, generate_series(1, 4500) n",
        )
        .await;
    let path = "/ops/batch?operation=redrive_jobs&instance_id=inst-1";
    let mut page = operator.get(path).await;
    assert!(page.html.contains("4500 jobs"), "{}", page.html);
    let mut changed = Vec::new();
    // The operator enters the pace once.
    let mut form = with(&page.form("redrive_jobs"), "per_second", "900");
    loop {
        page = operator.done("redrive_jobs", &form).await;
        let progress = page.html.split("role=\"status\"><strong>").nth(1).unwrap();
        changed.push(progress.split(" changed").next().unwrap().replace("</strong>", ""));
        assert!(page.html.contains("nas-cron jobs redrive --per-second 900 inst-1"), "{}", page.html);
        // The script sends this form by itself.
        if !page.html.contains("data-send-at-once") {
            break;
        }
        form = page.form("redrive_jobs");
    }
    assert_eq!(changed, ["2,000 of 4,500", "4,000 of 4,500", "4,500 of 4,500"]);
    let paces: Vec<_> = ops
        .audit("action=redrive_jobs")
        .await
        .iter()
        .map(|line| line["subject"]["per_second"].clone())
        .collect();
    assert_eq!(paces, ["900", "900", "900"]);
    assert_eq!(ops.count("one_shots WHERE state = 'dead'").await, 0);

    let confirm = operator.get("/ops/batch?operation=hold_job&job_id=template").await;
    assert!(confirm.html.contains("1 job."), "{}", confirm.html);
    let done = operator.done("hold_job", &confirm.form("hold_job")).await;
    assert!(done.html.contains("1 job changed."), "{}", done.html);
    assert_eq!(ops.count("job_holds").await, 1);
    let pipeline = "nas-cron jobs list --job template --limit 1000 --json | jq -r &#39;.jobs[] | @sh &quot;nas-cron hold ";
    assert!(confirm.html.contains(&format!("data-copy=\"{pipeline}")), "{}", confirm.html);
    let nothing = operator.get("/ops/batch?operation=fire_job&job_id=unknown").await;
    assert!(
        nothing.html.contains("There is nothing to do.") && nothing.forms("fire_job").is_empty(),
        "{}",
        nothing.html
    );
    assert_eq!(operator.get("/ops/batch?operation=put_agent").await.status, 400);
}

#[tokio::test]
async fn every_group_of_dead_letters_leads_to_exactly_its_own_jobs() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    let error = "connection refused";
    for (job, error) in [
        ("a", error),
        ("b", error),
        ("expired", error),
        ("other-status", error),
        ("longer", "connection refused twice"),
    ] {
        dead(&ops, &[(job, error)]).await;
    }
    for job in ["silent", "never-tried"] {
        dead(&ops, &[(job, "x")]).await;
    }
    ops.world
        .sql(
            "UPDATE one_shots SET expired = true WHERE job_id IN ('expired', 'never-tried');
             UPDATE one_shots SET last_status = 500 WHERE job_id = 'other-status';
             UPDATE one_shots SET last_error = NULL, last_status = NULL WHERE job_id IN ('silent', 'never-tried')",
        )
        .await;
    let page = operator.get("/ops/dead-letters").await;
    let links = |start: &str| -> Vec<String> {
        let hrefs = page
            .html
            .split("href=\"")
            .skip(1)
            .map(|rest| super::fixture::unescaped(rest.split('"').next().unwrap()));
        hrefs.filter(|href| href.starts_with(start) && href.contains("expired=")).collect()
    };
    let lists = links("/ops/jobs?");
    assert_eq!(page.html.matches("data-label=\"Agents\"><a href=").count(), 6, "{}", page.html);
    let mut groups = Vec::new();
    // The number of a group and that of its agents lead to one list.
    for lists in lists.chunks(2) {
        assert_eq!(lists.first(), lists.last(), "{}", page.html);
        let list = operator.get(&lists[0]).await;
        let names = list
            .html
            .split("aria-label=\"Select job ")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().to_owned());
        groups.push(names.collect::<Vec<_>>().join(" "));
    }
    groups.sort();
    assert_eq!(
        groups,
        ["a b", "expired", "longer", "never-tried", "other-status", "silent"],
        "{}",
        page.html
    );
    let redrives = links("/ops/batch?");
    let group = redrives
        .iter()
        .find(|href| href.contains("no_error=true") && href.contains("expired=false"))
        .unwrap();
    let confirm = operator.get(group).await;
    assert!(confirm.html.contains("1 job, of which"), "{}", confirm.html);
    operator.done("redrive_jobs", &confirm.form("redrive_jobs")).await;
    assert_eq!(ops.count("one_shots WHERE state = 'dead'").await, 6, "only the silent one is redriven");
}

#[tokio::test]
async fn selected_dead_letters_are_redriven_if_they_are_still_those_seen_each_with_its_line() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    dead(&ops, &[("a", "x"), ("b", "x"), ("c", "x")]).await;
    let list = operator.get("/ops/jobs").await;
    let form = [with(&selection(&list), "operation", "redrive_jobs"), boxes(&list)].concat();
    let confirm = operator.post("/ops/batch", &form).await;
    assert!(
        confirm.html.contains("data-copy=\"nas-cron jobs redrive --per-second 4 inst-1 a b c\""),
        "{}",
        confirm.html
    );
    // Its agent arms it again meanwhile, and it ends once more.
    ops.world.sql("UPDATE one_shots SET schedule_id = gen_random_uuid() WHERE job_id = 'b'").await;
    let done = operator.done("redrive_jobs", &confirm.form("redrive_jobs")).await;
    assert!(done.html.contains("2 jobs changed. 1 job left alone; the first because"), "{}", done.html);
    assert_eq!(ops.count("one_shots WHERE state = 'dead'").await, 1);
    let lines = ops.audit("action=redrive_job").await;
    let outcomes: Vec<_> = lines
        .iter()
        .map(|line| (line["subject"]["job_id"].as_str().unwrap(), line["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, [("c", "done"), ("b", "refused"), ("a", "done")]);
    assert!(ops.audit("action=redrive_jobs").await.is_empty());
}

#[tokio::test]
async fn reason_of_a_hold_is_kept_for_all_parts() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    ops.armed("one").await;
    let confirm = operator.get("/ops/batch?operation=hold_job&instance_id=inst-1").await;
    let form = with(&confirm.form("hold_job"), "reason", "network & co");
    let answer = operator.act("hold_job", &form).await;
    let next = answer.header("location");
    assert!(next.contains("reason=network+%26+co") && next.contains("total=1&"), "{next}");
    // A part that follows has it in its form.
    ops.world.sql("UPDATE operator_submissions SET next = 'cursor'").await;
    let page = operator.get(next).await;
    assert!(
        page.form("hold_job").contains(&("reason".to_owned(), "network & co".to_owned())),
        "{}",
        page.html
    );
    assert!(page.html.contains("<strong>1</strong> of 1 changed so far"), "{}", page.html);
}

#[tokio::test]
async fn selected_job_that_was_armed_again_is_neither_held_nor_dismissed() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for job in ["a", "b"] {
        ops.armed(job).await;
    }
    let list = operator.get("/ops/jobs").await;
    let form = [with(&selection(&list), "operation", "hold_job"), boxes(&list)].concat();
    let confirm = operator.post("/ops/batch", &form).await;
    ops.world.arm("b", 7_200_000).await;
    let done = operator.done("hold_job", &confirm.form("hold_job")).await;
    assert!(done.html.contains("1 job changed. 1 job left alone; the first because"), "{}", done.html);
    assert_eq!(ops.count("job_holds WHERE job_id = 'a'").await, 1);
    assert_eq!(ops.count("job_holds").await, 1);

    super::story::quiet(&ops, "nightly").await;
    let page = operator.get(&super::fixture::job("nightly")).await;
    // Delivered and dormant once more.
    ops.world
        .sql(
            "UPDATE one_shots SET schedule_id = '00000000-0000-4000-8000-000000000001' WHERE job_id = 'nightly';
             UPDATE awaited_rearms SET schedule_id = '00000000-0000-4000-8000-000000000001' WHERE job_id = 'nightly'",
        )
        .await;
    let stale = operator.done("dismiss_job", &page.form("dismiss_job")).await;
    assert!(
        stale.html.contains("Nothing was changed.") && stale.html.contains("current one-shot is"),
        "{}",
        stale.html
    );
    let dismissed = operator.done("dismiss_job", &stale.form("dismiss_job")).await;
    assert!(dismissed.html.contains("The job is not shown as dormant any more."), "{}", dismissed.html);
}

#[tokio::test]
async fn a_page_of_jobs_with_the_longest_ids_can_be_selected() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    ops.armed("template").await;
    ops.world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at)
             SELECT instance_id, repeat(':', 250) || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, state,
                    next_attempt_at
             FROM one_shots, generate_series(100, 198) n",
        )
        .await;
    let list = operator.get("/ops/jobs").await;
    let form = [with(&selection(&list), "operation", "hold_job"), boxes(&list)].concat();
    let confirm = operator.post("/ops/batch", &form).await;
    assert!(
        confirm.status == 200 && confirm.html.contains("100 jobs"),
        "{} {}",
        confirm.status,
        confirm.html
    );
    let done = operator.done("hold_job", &confirm.form("hold_job")).await;
    assert!(done.html.contains("100 jobs changed."), "{}", done.html);
}

#[tokio::test]
async fn groups_of_dead_letters_that_have_no_room_are_announced() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    dead(&ops, &[("template", "error 0")]).await;
    ops.world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, dead_since,
                                    last_error)
             SELECT instance_id, 'job-' || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, 'dead', now(),
                    'error ' || n
             FROM one_shots, generate_series(1, 100) n",
        )
        .await;
    let page = operator.get("/ops/dead-letters").await;
    assert_eq!(page.html.matches("data-label=\"Number\"").count(), 100, "{}", page.html);
    assert!(page.html.contains("These are the 100 largest groups."), "{}", page.html);
    let list = operator.get("/ops/jobs?state=dead%2Cstuck").await;
    assert!(list.status == 200 && list.html.contains("rel=\"next\""), "{}", list.html);
    ops.world.sql("DELETE FROM one_shots WHERE job_id = 'job-7'").await;
    assert!(!operator.get("/ops/dead-letters").await.html.contains("These are the 100 largest"));
}
