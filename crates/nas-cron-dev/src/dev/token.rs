//! `nas-cron dev token`: prints an access token.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::duration;
use nas_cron_base::terminal;
use nas_cron_protocol::{HOSTED_CLIENT, OrgId, SessionId};
use secrecy::{ExposeSecret, SecretString};

use super::dir::DevDir;
use super::portal::{Bearer, DevPortal};

/// Print an access token of the development portal.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron dev token --client-id agent:dev-self-hosted --org dev-org-b
  nas-cron dev token --sid dev-session --org dev-org-a --ttl 5m")]
pub(super) struct Token {
    /// Folder of `nas-cron dev` [default: that of `nas-cron dev`].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    bearer: BearerArgs,
    /// Organisation of the agent.
    #[arg(long, value_name = "ORG")]
    org: OrgId,
    /// Lifetime of the token.
    #[arg(long, value_name = "DURATION", default_value = "1h", allow_hyphen_values = true, value_parser = duration::parse)]
    ttl: Duration,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct BearerArgs {
    /// Bootstrap session of a hosted agent; its client is hermes-cli-vps.
    #[arg(long, value_name = "SESSION")]
    sid: Option<SessionId>,
    /// Client id of an agent, such as agent:<instance id>.
    #[arg(long, value_name = "CLIENT")]
    client_id: Option<String>,
}

impl Token {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        terminal::print(self.issue()?.expose_secret())?;
        Ok(ExitCode::SUCCESS)
    }

    fn issue(&self) -> anyhow::Result<SecretString> {
        if self.ttl < Duration::from_secs(1) {
            bail!("--ttl must be at least 1s");
        }
        let dir = DevDir::named(self.dir.clone())?;
        let issuer = dir.read_dev_json()?.portal_url;
        let portal = DevPortal::open(&dir.portal_key(), issuer, Arc::new(SystemClock))?;
        let BearerArgs { sid, client_id } = &self.bearer;
        let client_id = client_id.as_deref().unwrap_or(HOSTED_CLIENT);
        let sid = sid.as_ref().map(SessionId::as_str);
        let bearer = Bearer { client_id, sid, org_id: self.org.as_str() };
        portal.issue_token(bearer, self.ttl)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::Value;

    use super::super::dir::DevJson;
    use super::super::dir::tests::Scratch;
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        token: Token,
    }

    fn parse(arguments: &[&str]) -> Result<Token, clap::Error> {
        Line::try_parse_from(["token"].iter().chain(arguments)).map(|line| line.token)
    }

    #[test]
    fn token_is_for_a_session_or_a_client() {
        assert!(parse(&["--org", "o"]).is_err());
        assert!(parse(&["--org", "o", "--sid", "s", "--client-id", "c"]).is_err());
        assert!(parse(&["--sid", "s"]).is_err());
        assert_eq!(parse(&["--org", "o", "--sid", "s"]).unwrap().ttl, Duration::from_hours(1));
    }

    #[test]
    fn token_is_issued_by_the_portal_of_the_folder() {
        let scratch = Scratch::new();
        let dir = scratch.path().to_str().unwrap();
        let token = parse(&["--dir", dir, "--org", "o", "--sid", "s", "--ttl", "2m"]).unwrap();
        assert!(format!("{:#}", token.issue().unwrap_err()).contains("is `nas-cron dev --dir"));

        let dir = scratch.dir();
        let [portal_url, admin_url] = ["http://127.0.0.1:1", "http://127.0.0.1:2"].map(str::to_owned);
        DevPortal::keep(&dir.portal_key(), portal_url.clone(), Arc::new(SystemClock)).unwrap();
        let [jwks_url, metrics_url, database_url, admin_token] = [const { String::new() }; 4];
        let agents = Vec::new();
        dir.write_dev_json(&DevJson {
            portal_url,
            admin_url,
            jwks_url,
            metrics_url,
            database_url,
            admin_token,
            agents,
        })
        .unwrap();
        let claims: Value =
            jsonwebtoken::dangerous::insecure_decode_claims(token.issue().unwrap().expose_secret()).unwrap();
        assert_eq!(claims["iss"], "http://127.0.0.1:1");
        assert_eq!(
            (&claims["sid"], &claims["org_id"], &claims["aud"]),
            (&"s".into(), &"o".into(), &HOSTED_CLIENT.into())
        );
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 120);
    }
}
