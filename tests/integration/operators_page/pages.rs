//! Pages: their headers, their parameters, and texts of agents on them.

use super::fixture::{Ops, job};

#[tokio::test]
async fn every_response_has_a_strict_content_security_policy() {
    let ops = Ops::new().await;
    let (operator, anyone) = (ops.admin().await, ops.browser());
    let page = operator.get("/ops/jobs").await;
    let linked = |before: &str| page.html.split(before).nth(1).unwrap().split('"').next().unwrap().to_owned();
    let (style, script) = (linked("stylesheet\" href=\""), linked("<script src=\""));
    let responses = [
        (200, page.header("x-request-id").len(), operator.get("/ops/jobs").await),
        (200, 0, operator.get("/ops/audit").await),
        (400, 0, operator.get("/ops/jobs?nonsense=1").await),
        (404, 0, operator.get("/ops/nonsense").await),
        (405, 0, operator.get("/ops/actions/fire_job").await),
        (405, 0, operator.get("/ops/sign-out").await),
        (404, 0, operator.get("/ops/assets/nonsense.js").await),
        (403, 0, operator.post("/ops/sign-out", &[]).await),
        (303, 0, anyone.get("/ops/jobs").await),
        (200, 0, anyone.get("/ops/sign-in").await),
        (200, 0, anyone.get(&style).await),
        (200, 0, anyone.get(&script).await),
    ];
    for (status, _, response) in responses {
        assert_eq!(response.status, status, "{}", response.html);
        let policy = response.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(response.header("x-content-type-options"), "nosniff");
        assert_eq!(response.header("referrer-policy"), "no-referrer");
        let is_asset = status == 200 && response.header("cache-control").contains("immutable");
        assert!(is_asset || response.header("cache-control") == "no-store", "{:?}", response.headers);
        assert!(
            !response.html.contains("style=\"") && !response.html.contains("onclick"),
            "nothing is inline"
        );
    }
    let wrong = operator.get("/ops/actions/fire_job").await;
    assert!(wrong.html.contains("aria-label=\"Sections\""), "it has the layout: {}", wrong.html);
}

#[tokio::test]
async fn page_of_an_error_leads_to_one_that_can_be_shown() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for (path, leads_to) in [
        ("/ops/nothing", "/ops"),
        ("/ops/jobs?nonsense=1", "/ops/jobs"),
        ("/ops/jobs?state=dead&add=colour:red", "/ops/jobs?state=dead"),
        ("/ops/jobs?state=dead&after=nonsense", "/ops/jobs?state=dead"),
        ("/ops/job?instance_id=inst-1&job_id=unknown", "/ops/jobs"),
        ("/ops/agent?instance_id=unknown", "/ops/agents"),
        ("/ops/backends/switch?backend=qstash", "/ops/backends"),
    ] {
        let page = operator.get(path).await;
        assert!((400..500).contains(&page.status), "{path}: {}", page.html);
        let (_, link) = page.html.split_once("class=\"button\" href=\"").expect("a link");
        assert_eq!(super::fixture::unescaped(link.split('"').next().unwrap()), leads_to, "{path}");
        assert_eq!(operator.get(leads_to).await.status, 200, "{leads_to}");
    }
}

#[tokio::test]
async fn texts_and_ids_of_agents_cannot_become_markup() {
    let ops = Ops::new().await;
    let name = "<img src=x onerror=alert(1)>'\"&../..";
    ops.armed(name).await;
    ops.world
        .sql(
            "UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, last_outcome = 'failed', last_status = 503,
                                  last_error = '<script>alert(2)</script>' || repeat('x', 500)",
        )
        .await;
    let operator = ops.admin().await;
    let list = operator.get("/ops/jobs?state=dead").await;
    let page = operator.get(&job(name)).await;
    let audit = operator.get("/ops/audit?actor=%3Cb%3E").await;
    for (page, status) in [(&list, 200), (&page, 200), (&audit, 200)] {
        assert_eq!(page.status, status, "{}", page.html);
        for markup in ["<img", "<script>alert", "<b>", "\" onerror"] {
            assert!(!page.html.contains(markup), "{markup}: {}", page.html);
        }
    }
    assert!(page.html.contains("<q class=\"theirs\""), "marked as the agent's: {}", page.html);
    let why = page.html.split("class=\"why\"").nth(1).unwrap().split("</p>").next().unwrap();
    assert!(why.contains("dead letter: <q class=\"theirs\">&lt;script&gt;"), "{why}");
    let form = page.form("redrive_job");
    assert!(form.contains(&("job_id".to_owned(), name.to_owned())), "{form:?}");
    let page = operator.done("redrive_job", &form).await;
    assert!(page.html.contains("with a fresh retry budget"), "{}", page.html);
}

#[tokio::test]
async fn filters_are_urls_and_bad_ones_are_explained() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    assert!(operator.get("/ops/jobs").await.html.contains("No job has a one-shot yet"));
    for job in ["one", "two", "three"] {
        ops.armed(job).await;
    }
    let typed = async |query: &str| operator.get(&format!("/ops/jobs?{query}")).await;
    for (query, leads_to) in [
        ("add=state:dead", "/ops/jobs?state=dead"),
        ("add=overdue", "/ops/jobs?overdue=true"),
        ("state=dead&add=agent:inst-1", "/ops/jobs?instance_id=inst-1&state=dead"),
        ("state=dead&add=state:stuck,dormant", "/ops/jobs?state=stuck%2Cdormant"),
        ("add=error:connection refused: x", "/ops/jobs?error=connection+refused%3A+x"),
    ] {
        let page = typed(query).await;
        assert_eq!((page.status, page.header("location")), (303, leads_to), "{query}");
    }
    let page = typed("instance_id=inst-1").await;
    assert_eq!(page.html.matches("data-label=\"Job\"").count(), 3, "{}", page.html);
    assert!(page.html.contains("nas-cron jobs list --instance inst-1"), "{}", page.html);
    for suggested in [
        "agent:inst-1",
        "job:two",
        "parked:hold",
        "next-from:",
        "expired",
        "status:",
        "error-group:",
        "no-error",
    ] {
        assert!(page.html.contains(&format!("<option value=\"{suggested}\">")), "{suggested}: {}", page.html);
    }
    assert!(typed("instance_id=unknown").await.html.contains("No job matches"));
    for (query, problem) in [
        ("add=nonsense", "unknown filter; write NAME:VALUE"),
        ("add=state", "unknown filter; write NAME:VALUE"),
        ("add=%3Cb%3E:x", "unknown filter; write NAME:VALUE"),
        ("state=nonsense", "unknown value"),
        ("nonsense=1", "unknown parameter"),
        ("state=dead&state=stuck", "must occur only once"),
        ("after=nonsense", "not a cursor"),
        ("fire_at_from=yesterday", "fire_at_from"),
    ] {
        let page = typed(query).await;
        assert_eq!(page.status, 400, "{query}: {}", page.html);
        assert!(
            page.html.contains(problem) && page.html.contains("aria-label=\"Sections\""),
            "{query}: {}",
            page.html
        );
    }
    for path in ["/ops/job", "/ops/job?instance_id=inst-1", "/ops/audit?subject=x", "/ops/audit?before=x"] {
        assert_eq!(operator.get(path).await.status, 400, "{path}");
    }
}
