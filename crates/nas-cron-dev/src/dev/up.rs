//! Starts and stops everything that `nas-cron dev` runs.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{FixedOffset, TimeDelta};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::{output, signals};
use nas_cron_protocol::HOSTED_CLIENT;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio_util::sync::CancellationToken;

use super::admin_client::AdminClient;
use super::demo_agent::{Cadence, DemoAgent};
use super::dir::{self, DevAgent, DevDir, DevJson};
use super::live::{Screen, Tally, watch};
use super::portal::{Bearer, DevPortal};
use super::service::{Decided, Running, Service};
use super::{Up, opener, postgres_dir, welcome};
use crate::private_postgres::{Options, PrivatePostgres};

const DATABASE: &str = "nas_cron";
const AGENTS_JWKS_PATH: &str = "/api/agent-cron/jwks.json";
/// Longer than a run is expected to last.
const TOKEN_TTL: Duration = Duration::from_hours(24);
/// Time after its instant at which a fire counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// The registered agents: instance, org, bootstrap session.
const AGENTS: [(&str, &str, Option<&str>); 2] =
    [("dev-hosted", "dev-org-a", Some("dev-session")), ("dev-self-hosted", "dev-org-b", None)];

/// Runs until a signal, the requested number of fires, or a failure of the service.
pub(super) async fn up(up: Up, service: &impl Service) -> anyhow::Result<ExitCode> {
    let interrupted = signals::on_signal().context("could not install the signal handlers")?;
    output::ends_with_reader(interrupted.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dir = DevDir::named(up.dir.clone())?;
    let _held = dir.hold()?;
    // Bound before the database starts, which takes a second, so that a port in use is reported at once. Held until the
    // service binds them.
    let reserved = reserve(up.listen, "--listen")?;
    let admin_reserved = match up.admin_listen {
        Some(address) => reserve(address, "--admin-listen")?,
        None => TcpListener::bind(after(up.listen))
            .or_else(|_| reserve(SocketAddr::new(up.listen.ip(), 0), "--admin-listen"))?,
    };
    let metrics_reserved = reserve(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), "--listen")?;
    let (listen, metrics_listen) = (reserved.local_addr()?, metrics_reserved.local_addr()?);
    let admin_listen = admin_reserved.local_addr()?;
    dir.remove_dev_json()?;

    let data = postgres_dir::find(&dir.postgres())?;
    print_status(&format!("Starting a private Postgres in {} …", data.display()));
    let postgres = postgres(data).await?;
    let database_url = postgres.url(DATABASE);
    service.migrate(&database_url.clone().into()).await?;

    let portal_url = format!("http://{}", reachable(listen));
    let portal = DevPortal::keep(&dir.portal_key(), portal_url.clone(), Arc::clone(&clock))?;
    let admin_token: SecretString = URL_SAFE_NO_PAD.encode(random()?).into();
    let hash = digest::digest(&digest::SHA256, admin_token.expose_secret().as_bytes());
    let decided = Decided {
        database_url: database_url.clone().into(),
        listen,
        admin_listen,
        metrics_listen,
        portal_url: portal_url.clone(),
        admin_token_sha256: hash.as_ref().try_into().expect("SHA-256 has 32 bytes"),
        key_encryption_key: key_encryption_key(&dir)?,
    };
    drop((reserved, admin_reserved, metrics_reserved));
    let mut running = service.start(decided.settings(), portal.router()).await?;

    let session = async {
        let dev = register(&portal, &decided, &admin_token).await?;
        dir.write_dev_json(&dev)?;
        let sign_in = service.sign_in_link(&decided.database_url, decided.admin_token_sha256).await?;
        let text = welcome::text(&dev, dir.path(), !up.no_demo, &sign_in);
        // If the reader has left, the demo ends in order.
        let _ = writeln!(output::stdout(), "{text}");
        opener::open(&format!("{}{sign_in}", dev.admin_url));
        let tally = tokio::select! {
            tally = live(&dev, &up, &clock, &interrupted) => tally?,
            error = running.ended() => return Err(error.context("the service ended unexpectedly")),
        };
        Ok(conclude(tally.as_ref(), up.fires))
    }
    .await;
    let stopped = shut_down(running, postgres).await;
    // The first error is the one to report.
    let code = session?;
    stopped?;
    Ok(code)
}

/// Stops the service, then Postgres. The folder stays.
async fn shut_down(running: Running, postgres: PrivatePostgres) -> anyhow::Result<()> {
    print_status("Stopping …");
    let stopped = running.stop().await.context("stopping the service failed");
    spawn_blocking(move || postgres.stop()).await.context("stopping Postgres failed")?;
    stopped
}

/// The next port of the same address, or any free one beside any free one.
fn after(address: SocketAddr) -> SocketAddr {
    let port = if address.port() == 0 { 0 } else { address.port().checked_add(1).unwrap_or(0) };
    SocketAddr::new(address.ip(), port)
}

/// Binds an address that `flag` sets.
fn reserve(address: SocketAddr, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => anyhow!(
            "{address} is in use, perhaps by another `nas-cron dev`; stop the process that listens there, or choose \
            another port with {flag} {}:0 (any free one)",
            address.ip()
        ),
        _ => anyhow::Error::from(error)
           .context(format!("could not listen on {address}; choose another address with {flag}")),
    })
}

/// Returns the address that reaches the listener: loopback for an unspecified one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn postgres(data: PathBuf) -> anyhow::Result<PrivatePostgres> {
    let options = Options::new(data);
    let start = move || {
        let postgres = PrivatePostgres::start(options)?;
        postgres.create_database(DATABASE)?;
        Ok::<_, crate::private_postgres::PrivatePostgresError>(postgres)
    };
    let started = spawn_blocking(start).await.context("starting Postgres panicked")?;
    started.context("starting the private Postgres failed")
}

fn random() -> anyhow::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| anyhow!("the system returned no random numbers"))?;
    Ok(bytes)
}

/// Returns the key of the folder. Its file is in base64, as `NAS_CRON_KEY_ENCRYPTION_KEY_FILE` expects it.
fn key_encryption_key(dir: &DevDir) -> anyhow::Result<SecretBox<[u8; 32]>> {
    let path = dir.key_encryption_key();
    let text = dir::kept(&path, || Ok(format!("{}\n", STANDARD.encode(random()?)).into_bytes()))?;
    let key = STANDARD.decode(text.trim_ascii()).ok().and_then(|key| key.try_into().ok());
    let key = key.with_context(|| {
        format!(
            "{} is not 32 bytes in base64; without its key the service's keys cannot be decrypted: restore the file, or \
            remove {} to start afresh",
            path.display(),
            dir.path().display()
        )
    })?;
    Ok(SecretBox::new(Box::new(key)))
}

async fn register(
    portal: &DevPortal,
    decided: &Decided,
    admin_token: &SecretString,
) -> anyhow::Result<DevJson> {
    let portal_url = &decided.portal_url;
    let admin_url = format!("http://{}", reachable(decided.admin_listen));
    let admin = AdminClient::new(admin_url.parse().context("admin_url is not a URL")?, admin_token.clone())?;
    let mut agents = Vec::new();
    for (instance_id, org_id, sid) in AGENTS {
        admin.register(instance_id, org_id, sid).await?;
        let client_id = sid.map_or_else(|| format!("agent:{instance_id}"), |_| HOSTED_CLIENT.to_owned());
        let token = portal.issue_token(Bearer { client_id: &client_id, sid, org_id }, TOKEN_TTL)?;
        agents.push(DevAgent {
            instance_id: instance_id.to_owned(),
            org_id: org_id.to_owned(),
            client_id,
            sid: sid.map(str::to_owned),
            access_token: token.expose_secret().to_owned(),
        });
    }
    Ok(DevJson {
        portal_url: portal_url.clone(),
        admin_url,
        jwks_url: format!("{portal_url}{AGENTS_JWKS_PATH}"),
        metrics_url: format!("http://{}/metrics", decided.metrics_listen),
        database_url: decided.database_url.expose_secret().to_owned(),
        admin_token: admin_token.expose_secret().to_owned(),
        agents,
    })
}

/// Runs the demo, or without one waits for the interrupt.
async fn live(
    dev: &DevJson,
    up: &Up,
    clock: &Arc<dyn Clock>,
    interrupted: &CancellationToken,
) -> anyhow::Result<Option<Tally>> {
    if up.no_demo {
        interrupted.cancelled().await;
        return Ok(None);
    }
    let (events, mut received) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let mut agents = JoinSet::new();
    for (agent, cadence) in dev.agents.iter().zip(cadences()) {
        let agent = DemoAgent {
            instance_id: agent.instance_id.clone(),
            access_token: agent.access_token.clone().into(),
            portal_url: dev.portal_url.clone(),
            jwks_url: dev.jwks_url.parse().context("jwks_url is not a URL")?,
            cadence,
            patience: PATIENCE,
            clock: Arc::clone(clock),
            events: events.clone(),
        };
        agents.spawn(agent.run(stop.clone()));
    }
    drop(events);
    let screen = Screen::new(dev.agents.iter().map(|agent| agent.instance_id.len()).max().unwrap_or(0));
    let tally = watch(&mut received, up.fires, |event| screen.show(event), interrupted.cancelled()).await;
    stop.cancel();
    while let Some(ended) = agents.join_next().await {
        ended.context("a demo agent panicked")??;
    }
    Ok(Some(tally))
}

/// One cadence as of intervals (microseconds, UTC), one as of cron expressions (whole seconds, another time zone).
fn cadences() -> [Cadence; 2] {
    let zone = |hours: i32| FixedOffset::east_opt(hours * 3600).expect("less than a day");
    [
        Cadence { every: TimeDelta::milliseconds(2_500), whole_seconds: false, offset: zone(0) },
        Cadence { every: TimeDelta::milliseconds(3_500), whole_seconds: true, offset: zone(2) },
    ]
}

/// Prints the summary and returns the exit code.
fn conclude(tally: Option<&Tally>, wanted: Option<u64>) -> ExitCode {
    let Some(tally) = tally else { return ExitCode::SUCCESS };
    // Leaves the line on which the terminal shows ^C.
    let line = if output::stdout().is_terminal() { "\n" } else { "" };
    let _ = writeln!(output::stdout(), "{line}{}", tally.summary());
    match wanted {
        Some(wanted) if tally.is_faulty() || tally.verified < wanted => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn print_status(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::super::dir::tests::Scratch;
    use super::*;

    #[test]
    fn port_in_use_is_reported_with_a_fix() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = reserve(taken.local_addr().unwrap(), "--listen").unwrap_err().to_string();
        assert!(error.contains("is in use") && error.contains("--listen 127.0.0.1:0"), "{error}");
    }

    #[test]
    fn operators_get_the_next_port() {
        let next = |listen: &str| after(listen.parse().unwrap()).to_string();
        assert_eq!(next("127.0.0.1:8080"), "127.0.0.1:8081");
        assert_eq!(next("[::1]:0"), "[::1]:0");
        assert_eq!(next("127.0.0.1:65535"), "127.0.0.1:0");
    }

    #[test]
    fn unspecified_address_is_reached_over_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8090"), "127.0.0.1:8090");
        assert_eq!(reached("[::]:8090"), "[::1]:8090");
        assert_eq!(reached("127.0.0.1:1"), "127.0.0.1:1");
    }

    #[test]
    fn key_encryption_key_is_kept() {
        let scratch = Scratch::new();
        let made = key_encryption_key(&scratch.dir()).unwrap();
        assert_eq!(made.expose_secret(), key_encryption_key(&scratch.dir()).unwrap().expose_secret());
        std::fs::write(scratch.dir().key_encryption_key(), "short").unwrap();
        let error = key_encryption_key(&scratch.dir()).err().unwrap().to_string();
        assert!(error.contains("32 bytes"), "{error}");
    }

    #[test]
    fn requested_fires_determine_the_exit_code() {
        assert_eq!(conclude(None, None), ExitCode::SUCCESS);
        assert_eq!(conclude(Some(&Tally::new()), None), ExitCode::SUCCESS);
        assert_eq!(conclude(Some(&Tally::new()), Some(1)), ExitCode::FAILURE);
    }

    #[test]
    fn agents_arm_at_least_a_second_apart() {
        assert!(cadences().iter().all(|cadence| cadence.every > TimeDelta::seconds(2)));
    }
}
