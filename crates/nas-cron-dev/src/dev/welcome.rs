//! The first lines of `nas-cron dev`: what is where, and how to go on.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use super::dir::{DevAgent, DevJson};

/// For a newcomer, in one screen.
pub(super) fn text(dev: &DevJson, dir: &Path, metrics: SocketAddr, demo: bool) -> String {
    let DevJson { portal_url, jwks_url, database_url, agents, .. } = dev;
    let dir = dir.display();
    let mut text = format!(
        "nas-cron dev: everything on this machine\n\n\
         \x20 service     {portal_url}  (hop 1, admin API; API at /openapi.json)\n\
         \x20 JWKS        {jwks_url}\n\
         \x20 metrics     http://{metrics}/metrics\n\
         \x20 database    {database_url}\n\
         \x20 details     {dir}/dev.json  (with the admin token and the agents' tokens)\n"
    );
    let width = agents.iter().map(|agent| agent.instance_id.len()).max().unwrap_or(0);
    for (index, DevAgent { instance_id, org_id, client_id, sid, .. }) in agents.iter().enumerate() {
        let label = if index == 0 { "agents" } else { "" };
        let known_by = match sid {
            Some(sid) => format!("bootstrap session {sid}"),
            None => format!("client {client_id}"),
        };
        let _ = writeln!(text, "  {label:10}  {instance_id:width$}  of {org_id}, known by its {known_by}");
    }
    // The one that is known by its client is how people run their own.
    if let Some(own) = agents.iter().find(|agent| agent.sid.is_none()) {
        let DevAgent { instance_id, org_id, client_id, .. } = own;
        let without_demo = if demo { ", with `nas-cron dev --no-demo`" } else { "" };
        let _ = write!(
            text,
            "\nA hermes-agent of your own, as {instance_id}{without_demo}. In its config.yaml:\n\
             \x20 cron:\n\
             \x20   provider: chronos\n\
             \x20   chronos:\n\
             \x20     portal_url: {portal_url}\n\
             \x20     callback_url: http://127.0.0.1:9119   # where its `hermes serve` listens\n\
             \x20     expected_audience: agent:{instance_id}\n\
             \x20     nas_jwks_url: {jwks_url}\n\
             Its access token, for auth.json:\n\
             \x20 nas-cron dev token --dir {dir} --client-id {client_id} --org {org_id} --ttl 24h\n\
             Measure it: nas-cron bench --dir {dir}\n"
        );
    }
    text.push_str("\n^C ends it; the data is kept for the next time.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_finds_the_way() {
        let agent = |name: &str, org: &str, client: &str, sid: Option<&str>| DevAgent {
            instance_id: name.into(),
            org_id: org.into(),
            client_id: client.into(),
            sid: sid.map(str::to_owned),
            access_token: "SECRET".into(),
        };
        let dev = DevJson {
            portal_url: "http://127.0.0.1:8090".into(),
            jwks_url: "http://127.0.0.1:8090/api/agent-cron/jwks.json".into(),
            database_url: "postgres://postgres@localhost:5432/nas_cron?host=%2Fd%2Fpostgres%2Fsocket".into(),
            admin_token: "SECRET".into(),
            agents: vec![
                agent("dev-hosted", "dev-org-a", "hermes-cli-vps", Some("dev-session")),
                agent("dev-self-hosted", "dev-org-b", "agent:dev-self-hosted", None),
            ],
        };
        let text = text(&dev, Path::new("/d"), "127.0.0.1:41000".parse().unwrap(), true);
        assert!(!text.contains("SECRET"));
        insta::assert_snapshot!(text, @"
        nas-cron dev: everything on this machine

          service     http://127.0.0.1:8090  (hop 1, admin API; API at /openapi.json)
          JWKS        http://127.0.0.1:8090/api/agent-cron/jwks.json
          metrics     http://127.0.0.1:41000/metrics
          database    postgres://postgres@localhost:5432/nas_cron?host=%2Fd%2Fpostgres%2Fsocket
          details     /d/dev.json  (with the admin token and the agents' tokens)
          agents      dev-hosted       of dev-org-a, known by its bootstrap session dev-session
                      dev-self-hosted  of dev-org-b, known by its client agent:dev-self-hosted

        A hermes-agent of your own, as dev-self-hosted, with `nas-cron dev --no-demo`. In its config.yaml:
          cron:
            provider: chronos
            chronos:
              portal_url: http://127.0.0.1:8090
              callback_url: http://127.0.0.1:9119   # where its `hermes serve` listens
              expected_audience: agent:dev-self-hosted
              nas_jwks_url: http://127.0.0.1:8090/api/agent-cron/jwks.json
        Its access token, for auth.json:
          nas-cron dev token --dir /d --client-id agent:dev-self-hosted --org dev-org-b --ttl 24h
        Measure it: nas-cron bench --dir /d

        ^C ends it; the data is kept for the next time.
        ");
    }
}
