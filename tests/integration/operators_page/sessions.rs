//! Sign-in, the rights of a session, and its end.

use nas_cron_testing::service::{ADMIN_TOKEN, client};
use ring::digest::{SHA256, digest};

use super::fixture::{Ops, every_page, job};

#[tokio::test]
async fn pages_are_on_the_listener_of_the_admin_api_only_and_need_a_session() {
    let ops = Ops::new().await;
    for path in ["/ops", "/ops/sign-in", "/ops/jobs"] {
        let public = client().get(format!("{}{path}", ops.world.service.url)).send().await.unwrap();
        assert_eq!(public.status(), 404, "{path}");
    }
    let browser = ops.browser();
    let page = browser.get("/ops/jobs?state=dead").await;
    assert_eq!(
        (page.status, page.header("location")),
        (303, "/ops/sign-in?next=%2Fops%2Fjobs%3Fstate%3Ddead")
    );
    let form = browser.post("/ops/actions/fire_job", &[]).await;
    assert_eq!(form.status, 401);
    assert!(form.html.contains("You are not signed in, so nothing was changed."), "{}", form.html);
    // The sign-in leads to the page of the form, unless another site has sent it.
    let fields = [("back".to_owned(), job("nightly"))];
    let form = browser.post("/ops/actions/fire_job", &fields).await;
    let next = "name=\"next\" value=\"/ops/job?instance_id=inst-1&#38;job_id=nightly\"";
    assert!(form.status == 401 && form.html.contains(next), "{}", form.html);
    let foreign = [("sec-fetch-site", "cross-site")];
    let form = browser.post_with("/ops/actions/fire_job", &fields, &foreign).await;
    assert!(form.status == 401 && form.html.contains("name=\"next\" value=\"/ops\""), "{}", form.html);
}

#[tokio::test]
async fn sign_in_keeps_only_the_hash_of_a_session_that_no_script_can_read() {
    let ops = Ops::new().await;
    let mut operator = ops.browser();
    for (token, problem) in
        [("", "enter an admin token"), ("nonsense", "unknown, expired or revoked admin token")]
    {
        let refused = operator.sign_in(&[("token", token)]).await;
        assert_eq!((refused.status, operator.cookie.is_some()), (401, false));
        assert!(refused.html.contains(problem), "{}", refused.html);
        assert!(token.is_empty() || !refused.html.contains(token), "a token is never shown");
    }
    let page = operator.sign_in(&[("token", ADMIN_TOKEN), ("next", "/ops/audit?actor=x")]).await;
    assert_eq!((page.status, page.header("location")), (303, "/ops/audit?actor=x"));
    let cookie = page.header("set-cookie");
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert!(pair.starts_with("__Host-nas_cron_ops="), "{cookie}");
    assert_eq!(attributes, "Path=/; HttpOnly; Secure; SameSite=Lax");
    let id = pair.split_once('=').unwrap().1;
    let hash = hex::encode(digest(&SHA256, id.as_bytes()));
    assert_eq!(ops.count(&format!("operator_sessions WHERE session_hash = '\\x{hash}'")).await, 1);
    assert_eq!(ops.count(&format!("operator_sessions s WHERE s::text LIKE '%{id}%'")).await, 0);
    let lines = ops.audit("action=sign_in").await;
    assert_eq!(
        (lines[0]["actor"].as_str(), lines[0]["origin"].as_str()),
        (Some("config"), Some("127.0.0.1, operators' page"))
    );

    // The page to go to is one of this service.
    let page = operator.sign_in(&[("token", ADMIN_TOKEN), ("next", "https://evil.example/ops")]).await;
    assert_eq!(page.header("location"), "/ops");
}

#[tokio::test]
async fn failed_sign_ins_are_limited_with_those_of_the_admin_api() {
    let ops = Ops::new().await;
    let mut operator = ops.browser();
    // 100 at once, and one more for each second that this takes.
    let mut failed = 0;
    let last = loop {
        let page = operator.sign_in(&[("token", "nonsense")]).await;
        failed += 1;
        if page.status == 429 || failed == 1_000 {
            break page;
        }
    };
    assert_eq!(last.status, 429, "{}", last.html);
    assert!(!last.header("retry-after").is_empty());
    // The same limit holds for links and for the API. A call may come just when a second has freed one.
    let mut limited = 0;
    for _ in 0..3 {
        limited += u32::from(operator.sign_in(&[("link", &"a".repeat(43))]).await.status == 429);
    }
    assert!(limited > 0, "links have the same limit");
    let api = async || {
        client().get(ops.url("/api/admin/agents")).bearer_auth("nonsense").send().await.unwrap().status()
    };
    assert!(
        [api().await, api().await, api().await].iter().any(|status| *status == 429),
        "the API has the same limit"
    );
    // A token that is right still signs in.
    assert_eq!(operator.sign_in(&[("token", ADMIN_TOKEN)]).await.status, 303);
}

#[tokio::test]
async fn session_ends_with_its_token_after_disuse_after_its_time_and_by_sign_out() {
    let ops = Ops::new().await;
    let token = ops.token("desk", "operator", None).await;
    let status = async |operator: &super::fixture::Operator| operator.get("/ops/jobs").await.status;

    let operator = ops.signed_in(&token).await;
    assert_eq!(status(&operator).await, 200);
    ops.world.sql("UPDATE operator_sessions SET expires_at = now() - interval '1 s'").await;
    let page = operator.get("/ops/jobs").await;
    assert_eq!((page.status, page.header("location")), (303, "/ops/sign-in?next=%2Fops%2Fjobs&ended=true"));
    assert!(page.header("set-cookie").contains("Max-Age=0"));

    let twelve_hours = "closes_at BETWEEN opened_at + interval '719 min' AND opened_at + interval '12 h'";
    assert_eq!(ops.count(&format!("operator_sessions WHERE {twelve_hours}")).await, 1, "the absolute end");

    // Use postpones the end, but not beyond the absolute one. Requests that the page makes by itself do not.
    let operator = ops.signed_in(&token).await;
    ops.world.sql("UPDATE operator_sessions SET expires_at = now() + interval '10 min'").await;
    assert_eq!(operator.refresh("/ops/jobs").await.status, 200);
    assert_eq!(ops.count("operator_sessions WHERE expires_at > now() + interval '11 min'").await, 0);
    assert_eq!(status(&operator).await, 200);
    assert_eq!(ops.count("operator_sessions WHERE expires_at > now() + interval '29 min'").await, 1);
    let soon = "UPDATE operator_sessions SET closes_at = now() + interval '5 min', expires_at = now() + interval '1 min'";
    ops.world.sql(soon).await;
    assert_eq!(status(&operator).await, 200);
    assert_eq!(ops.count("operator_sessions WHERE expires_at = closes_at").await, 1);

    // A revocation takes effect with the next request.
    let (revoked, _) = ops.world.service.admin("DELETE", "/api/admin/tokens/desk", None).await;
    assert_eq!(revoked, 204);
    assert_eq!(status(&operator).await, 303);

    let operator = ops.admin().await;
    let page = operator.get("/ops/jobs").await;
    let form_token =
        page.html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let out = operator.post("/ops/sign-out", &[("form_token".to_owned(), form_token.to_owned())]).await;
    assert_eq!((out.status, out.header("location")), (303, "/ops/sign-in?out=true"));
    assert_eq!(status(&operator).await, 303);
}

#[tokio::test]
async fn sessions_of_a_token_are_bounded_and_those_that_have_ended_are_deleted() {
    let ops = Ops::new().await;
    let first = ops.admin().await;
    for _ in 0..20 {
        ops.admin().await;
    }
    assert_eq!(ops.count("operator_sessions").await, 20);
    assert_eq!(first.get("/ops/jobs").await.status, 303, "the oldest has ended");
    ops.world.sql("UPDATE operator_sessions SET expires_at = now() - interval '1 s'").await;
    ops.admin().await;
    assert_eq!(ops.count("operator_sessions").await, 1);
}

#[tokio::test]
async fn link_signs_in_once_within_its_time() {
    let ops = Ops::new().await;
    let hash_of = |text: &str| hex::encode(digest(&SHA256, text.as_bytes()));
    let create = async |link: &str, valid: &str| {
        let (link, token) = (hash_of(link), hash_of(ADMIN_TOKEN));
        ops.world
            .sql(&format!(
                "INSERT INTO operator_sign_in_links (link_hash, token_hash, of_config, expires_at)
                 VALUES ('\\x{link}', '\\x{token}', true, now() + interval '{valid}')"
            ))
            .await;
    };
    let (good, late) = ("g".repeat(43), "l".repeat(43));
    create(&good, "1 min").await;
    create(&late, "-1 s").await;
    let mut operator = ops.browser();
    // Looking at the link does not use it up.
    for _ in 0..2 {
        let page = operator.get(&format!("/ops/sign-in?link={good}")).await;
        assert!(page.html.contains("This link signs you in, once."), "{}", page.html);
    }
    assert_eq!(operator.sign_in(&[("link", &good)]).await.status, 303);
    assert_eq!(operator.get("/ops/jobs").await.status, 200);
    for link in [&good, &late, &"x".repeat(43), "short"] {
        let refused = operator.sign_in(&[("link", link)]).await;
        assert_eq!(refused.status, 401, "{link}");
        assert!(refused.html.contains("this link was used or has expired"), "{}", refused.html);
    }
}

#[tokio::test]
async fn session_has_the_role_and_the_org_of_its_token() {
    let ops = Ops::new().await;
    ops.world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('other', 'org-2')").await;
    ops.armed("mine").await;
    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    let page = viewer.get(&job("mine")).await;
    assert_eq!(page.status, 200);
    assert!(!page.html.contains("/ops/actions/"), "a viewer sees no buttons: {}", page.html);

    let other = ops.signed_in(&ops.token("desk-2", "operator", Some("org-2")).await).await;
    let page = other.get("/ops/jobs").await;
    assert!(page.html.contains("No job has a one-shot yet") && !page.html.contains("org-1"), "{}", page.html);
    assert_eq!(other.get(&job("mine")).await.status, 404);
    assert_eq!(other.get(&job("unknown")).await.status, 404);
    // What is read once for all who look at a page is not shown to those of another org.
    for path in [job("mine"), "/ops/agent?instance_id=inst-1".to_owned()] {
        assert_eq!(viewer.refresh(&path).await.status, 200, "{path}");
        assert_eq!(other.refresh(&path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn viewer_sees_no_form_that_changes_anything_on_any_page() {
    let ops = Ops::new().await;
    ops.armed("mine").await;
    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    for path in every_page("inst-1", "mine") {
        let page = viewer.get(&path).await;
        assert!(
            !page.html.contains("/ops/actions/") && !page.html.contains("action=\"/ops/batch\""),
            "{path}: {}",
            page.html
        );
    }
    let batch = viewer.get("/ops/batch?operation=cancel_job&instance_id=inst-1").await;
    assert_eq!(batch.status, 403, "{}", batch.html);
    assert!(batch.html.contains("needs the role operator"), "{}", batch.html);
    let form_token =
        batch.html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let form = [("form_token", form_token), ("operation", "cancel_job"), ("matching", "true")];
    let form: Vec<_> = form.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    assert_eq!(viewer.post("/ops/batch", &form).await.status, 403);
}
