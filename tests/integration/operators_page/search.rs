//! The search for agents among more than one page of hits.

use super::fixture::{Operator, Ops, Page, unescaped};

/// Returns the agents of a page.
fn names(page: &Page) -> Vec<String> {
    let cells = page.html.split("data-label=\"Agent\">").skip(1);
    cells.map(|cell| unescaped(cell.split("</code>").next().unwrap().rsplit('>').next().unwrap())).collect()
}

/// Returns the agents of all pages of a list.
async fn walk(operator: &Operator, path: &str) -> Vec<String> {
    let (mut found, mut path) = (Vec::new(), path.to_owned());
    loop {
        let page = operator.get(&path).await;
        assert_eq!(page.status, 200, "{path}: {}", page.html);
        found.extend(names(&page));
        let next = page.html.split("\" rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap();
        if !page.html.contains("rel=\"next\"") {
            return found;
        }
        path = unescaped(next);
    }
}

#[tokio::test]
async fn search_with_many_hits_is_complete_and_finds_an_agent_of_any_org() {
    let ops = Ops::new().await;
    ops.world
        .sql(
            "INSERT INTO instances (instance_id, org_id, callback_url, enabled)
             SELECT 'agent-' || n, 'org-2', 'https://gateway.example/' || n, n % 100 <> 0
             FROM generate_series(1, 1500) n;
             INSERT INTO instances (instance_id, org_id, callback_url)
             VALUES ('agent-zz', 'org-1', 'https://gateway.example/zz'), ('Agent-B', 'org-1', 'https://other.example'),
                    ('agent-É', 'org-1', 'https://other.example');",
        )
        .await;
    let operator = ops.admin().await;
    let all = walk(&operator, "/ops/agents?search=agent-").await;
    assert_eq!(all.len(), 1_502, "every hit is on one of the pages");
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(all, sorted, "in one order, without repetitions");
    assert_eq!(walk(&operator, "/ops/agents?search=agent-&org_id=org-1").await.len(), 2);
    assert_eq!(walk(&operator, "/ops/agents?search=agent-&disabled=true").await.len(), 15);
    // With probes that wait: the service ends an outage without one.
    ops.world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at, retrying_since)
             SELECT instance_id, 'x', gen_random_uuid(), 'k', 't', now(), callback_url, 'waiting', now() + interval '1 h', now()
             FROM instances WHERE instance_id LIKE 'agent-%0' AND enabled;
             UPDATE instances SET unreachable_since = now(), probe_job_id = 'x' WHERE instance_id LIKE 'agent-%0' AND enabled",
        )
        .await;
    let unreachable = ops.count("instances WHERE unreachable_since IS NOT NULL").await;
    assert_eq!(unreachable, 135);
    assert_eq!(walk(&operator, "/ops/agents?search=agent-&unreachable=true").await.len(), 135);
    assert_eq!(walk(&operator, "/ops/agents?search=gateway.&org_id=org-1").await, ["agent-zz"]);
    let of_org = ops.signed_in(&ops.token("desk", "viewer", Some("org-1")).await).await;
    assert_eq!(walk(&of_org, "/ops/agents?search=agent-").await.len(), 2);
    assert_eq!(walk(&of_org, "/ops/agents?search=gateway.").await, ["agent-zz"]);

    // The callbacks are not in the order of IDs: the page says that it does not list all of them.
    let hint = "More than 1,000 callbacks begin with this text";
    let page = operator.get("/ops/agents?search=gateway.").await;
    assert!(page.html.contains(hint) && names(&page).len() == 100, "{}", page.html);
    assert!(!operator.get("/ops/agents?search=gateway.example%2F1").await.html.contains(hint));
    assert!(!operator.get("/ops/agents?search=gateway.&org_id=org-1").await.html.contains(hint));
    let later = operator.get("/ops/agents?after=zzz").await;
    assert!(later.html.contains("No more agents."), "{}", later.html);
    let later = operator.get("/ops/agents?search=agent-&after=zzz").await;
    assert!(later.html.contains("No more agents match."), "{}", later.html);
}
