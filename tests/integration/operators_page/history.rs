//! The story of a job that is longer than a page, and of one that an operator has fired.

use super::fixture::{Ops, job, unescaped};

#[tokio::test]
async fn attempts_that_the_story_has_no_room_for_are_on_the_pages_after_it() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    let next = |html: &str| {
        let (before, _) = html.split_once("\" rel=\"next\"")?;
        Some(unescaped(before.rsplit("href=\"").next()?))
    };
    let page = operator.get(&job("job")).await;
    assert_eq!(next(&page.html), None, "{}", page.html);
    ops.world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at, outcome)
             SELECT gen_random_uuid(), 'inst-1', 'job', gen_random_uuid(), n::text, d.at, n, d.at, d.at + interval '1 s', 'failed'
             FROM generate_series(1, 230) n, LATERAL (SELECT now() - n * interval '1 min' AS at) d",
        )
        .await;
    let (mut path, mut pages) = (job("job"), Vec::new());
    loop {
        let page = operator.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.html);
        pages.push(page.html.matches("<div class=\"title\">Attempt ").count());
        assert_eq!(page.html.contains("id=\"live\""), pages.len() == 1, "what has ended is not refreshed");
        assert_eq!(page.html.contains("The whole story"), pages.len() > 1, "{}", page.html);
        let Some(earlier) = next(&page.html) else { break };
        path = earlier;
    }
    assert_eq!(pages, [100, 100, 30]);
    assert_eq!(operator.get(&format!("{}&after=nonsense", job("job"))).await.status, 400);
}

#[tokio::test]
async fn story_has_the_instant_of_the_agent_after_an_operators_fire() {
    let ops = Ops::new().await;
    let (fire_at, _) = ops.world.arm("job", 3_600_000).await;
    let operator = ops.admin().await;
    let page = operator.get(&job("job")).await;
    assert!(!page.html.contains("fired before its instant"), "{}", page.html);
    operator.done("fire_job", &page.form("fire_job")).await;
    ops.world.ended("job", 1).await;
    let page = operator.get(&job("job")).await;
    let instant = chrono::DateTime::parse_from_rfc3339(&fire_at).unwrap().to_utc();
    let shown = format!("datetime=\"{}\"", instant.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
    let armed = page.html.split("Armed by its agent for ").nth(1).unwrap().split("</li>").next().unwrap();
    assert!(armed.contains(&shown), "{shown}: {armed}");
    assert!(armed.contains("fired before its instant by an operator"), "{armed}");
    assert!(page.html.contains("<dt>Armed for</dt>"), "{}", page.html);
    // The agent arms the next one: of the fired one, the history has the time of the fire only.
    ops.armed("job").await;
    let page = operator.get(&job("job")).await;
    assert_eq!(page.html.matches("Armed by its agent for ").count(), 1, "{}", page.html);
    assert!(page.html.contains("fired before its instant by an operator"), "{}", page.html);
}
