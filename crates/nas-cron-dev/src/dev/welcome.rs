//! The welcome text of `nas-cron dev`: addresses, agents and next steps.

use std::fmt::Write as _;
use std::path::Path;

use super::dir::{DevAgent, DevJson};

/// Returns the welcome text. `sign_in` is the path of a link that signs in at the operators' page.
pub(super) fn text(dev: &DevJson, dir: &Path, demo: bool, sign_in: &str) -> String {
    let DevJson { portal_url, admin_url, jwks_url, metrics_url, database_url, agents, .. } = dev;
    let dir = dir.display();
    let mut text = format!(
        "nas-cron dev: a complete deployment on this machine\n\n\
         \x20 service     {portal_url}  (agent API; OpenAPI document at /openapi.json)\n\
         \x20 operators   {admin_url}{sign_in}\n\
         \x20             (signs in once, within 15 min; admin API: {admin_url}/docs)\n\
         \x20 JWKS        {jwks_url}\n\
         \x20 metrics     {metrics_url}\n\
         \x20 database    {database_url}\n\
         \x20 details     {dir}/dev.json  (includes the admin token and the agents' tokens)\n"
    );
    let width = agents.iter().map(|agent| agent.instance_id.len()).max().unwrap_or(0);
    for (index, DevAgent { instance_id, org_id, client_id, sid, .. }) in agents.iter().enumerate() {
        let label = if index == 0 { "agents" } else { "" };
        let identified_by = match sid {
            Some(sid) => format!("bootstrap session {sid}"),
            None => format!("client {client_id}"),
        };
        let _ =
            writeln!(text, "  {label:10}  {instance_id:width$}  of {org_id}, identified by {identified_by}");
    }
    // Self-hosted agents are identified by their client.
    if let Some(own) = agents.iter().find(|agent| agent.sid.is_none()) {
        let DevAgent { instance_id, org_id, client_id, .. } = own;
        let without_demo = if demo { " (with `nas-cron dev --no-demo`)" } else { "" };
        let _ = write!(
            text,
            "\nTo connect your own hermes-agent as {instance_id}{without_demo}, put into its config.yaml:\n\
             \x20 cron:\n\
             \x20   provider: chronos\n\
             \x20   chronos:\n\
             \x20     portal_url: {portal_url}\n\
             \x20     callback_url: http://127.0.0.1:9119   # address of its `hermes serve`\n\
             \x20     expected_audience: agent:{instance_id}\n\
             \x20     nas_jwks_url: {jwks_url}\n\
             Print its access token, for auth.json:\n\
             \x20 nas-cron dev token --dir {dir} --client-id {client_id} --org {org_id} --ttl 24h\n\
             Measure this service:\n\
             \x20 nas-cron bench --dir {dir}\n"
        );
    }
    text.push_str("\nPress ^C to stop; the folder keeps the data for the next run.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_names_addresses_agents_and_next_steps() {
        let agent = |name: &str, org: &str, client: &str, sid: Option<&str>| DevAgent {
            instance_id: name.into(),
            org_id: org.into(),
            client_id: client.into(),
            sid: sid.map(str::to_owned),
            access_token: "SECRET".into(),
        };
        let dev = DevJson {
            portal_url: "http://127.0.0.1:8090".into(),
            admin_url: "http://127.0.0.1:8091".into(),
            jwks_url: "http://127.0.0.1:8090/api/agent-cron/jwks.json".into(),
            metrics_url: "http://127.0.0.1:41000/metrics".into(),
            database_url: "postgres://postgres@localhost:5432/nas_cron?host=%2Fd%2Fpostgres%2Fsocket".into(),
            admin_token: "SECRET".into(),
            agents: vec![
                agent("dev-hosted", "dev-org-a", "hermes-cli-vps", Some("dev-session")),
                agent("dev-self-hosted", "dev-org-b", "agent:dev-self-hosted", None),
            ],
        };
        let text = text(&dev, Path::new("/d"), true, "/ops/sign-in?link=LINK");
        assert!(!text.contains("SECRET"));
        insta::assert_snapshot!(text, @"
        nas-cron dev: a complete deployment on this machine

          service     http://127.0.0.1:8090  (agent API; OpenAPI document at /openapi.json)
          operators   http://127.0.0.1:8091/ops/sign-in?link=LINK
                      (signs in once, within 15 min; admin API: http://127.0.0.1:8091/docs)
          JWKS        http://127.0.0.1:8090/api/agent-cron/jwks.json
          metrics     http://127.0.0.1:41000/metrics
          database    postgres://postgres@localhost:5432/nas_cron?host=%2Fd%2Fpostgres%2Fsocket
          details     /d/dev.json  (includes the admin token and the agents' tokens)
          agents      dev-hosted       of dev-org-a, identified by bootstrap session dev-session
                      dev-self-hosted  of dev-org-b, identified by client agent:dev-self-hosted

        To connect your own hermes-agent as dev-self-hosted (with `nas-cron dev --no-demo`), put into its config.yaml:
          cron:
            provider: chronos
            chronos:
              portal_url: http://127.0.0.1:8090
              callback_url: http://127.0.0.1:9119   # address of its `hermes serve`
              expected_audience: agent:dev-self-hosted
              nas_jwks_url: http://127.0.0.1:8090/api/agent-cron/jwks.json
        Print its access token, for auth.json:
          nas-cron dev token --dir /d --client-id agent:dev-self-hosted --org dev-org-b --ttl 24h
        Measure this service:
          nas-cron bench --dir /d

        Press ^C to stop; the folder keeps the data for the next run.
        ");
    }
}
