//! The real hermes-agent with the built-in portal as its only portal: enrolled by the command, then running by itself.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::ports::free_address;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::python;

const INSTANCE: &str = "agent-1";

/// A home of the agent, and its server while it runs. Dropping this stops the server and removes the home.
struct Hermes {
    home: PathBuf,
    port: u16,
    portal_url: String,
    server: Option<Child>,
}

impl Hermes {
    fn new(portal_url: &str) -> Self {
        let home = std::env::temp_dir().join(format!("nas-cron-enrolled-{:08x}", rand::random::<u32>()));
        Self { home, port: free_address().port(), portal_url: portal_url.to_owned(), server: None }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns a command of the agent. It inherits only `PATH` from the environment.
    fn command(&self, arguments: &[&str], out: &str) -> Command {
        let mut command = Command::new(python().parent().unwrap().join("hermes"));
        let log = File::options().create(true).append(true).open(self.home.join(out)).unwrap();
        command
            .args(arguments)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs([("HOME", &self.home), ("HERMES_HOME", &self.home)])
            .env("LC_ALL", "C.UTF-8")
            // As the output of `enroll` instructs.
            .env("HERMES_PORTAL_BASE_URL", &self.portal_url)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command
    }

    async fn serve(&mut self) {
        let port = self.port.to_string();
        let mut command = self.command(&["serve", "--host", "127.0.0.1", "--port", &port], "serve.out");
        self.server = Some(command.spawn().expect("hermes starts"));
        eventually("`hermes serve` is ready", async || {
            self.text("serve.out").contains("HERMES_BACKEND_READY").then_some(())
        })
        .await;
    }

    /// Creates a job that records its runs, with `hermes cron create`. The agent provisions it before the command ends.
    async fn create(&self, name: &str, schedule: &str) {
        fs::create_dir_all(self.home.join("scripts")).unwrap();
        fs::write(self.home.join(format!("scripts/{name}.sh")), format!("date +%s >> {name}.runs\n"))
            .unwrap();
        let script = format!("{name}.sh");
        let arguments = [
            "cron",
            "create",
            schedule,
            "--name",
            name,
            "--script",
            &script,
            "--no-agent",
            "--deliver",
            "local",
        ];
        let mut command = self.command(&arguments, "cli.out");
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        assert!(status.success(), "{}", self.text("cli.out"));
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.home.join(name)).unwrap_or_default()
    }

    fn runs(&self, name: &str) -> usize {
        self.text(&format!("scripts/{name}.runs")).lines().count()
    }

    /// Returns the portal login that the agent has stored.
    fn login(&self) -> Value {
        let store: Value = serde_json::from_str(&self.text("auth.json")).unwrap();
        store["providers"]["nous"].clone()
    }

    fn kept(&self, name: &str) -> String {
        self.login()[name].as_str().unwrap_or_else(|| panic!("no {name} in {}", self.login())).to_owned()
    }

    /// Makes the access token look expired, in the agent's store and in the copy that its profiles share.
    fn expire(&self) {
        let edit = |path: &Path, pointer: &str| {
            let mut store: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            *store.pointer_mut(pointer).expect("an expiry time") = json!("2020-01-01T00:00:00+00:00");
            let unfinished = path.with_extension("edited");
            fs::write(&unfinished, store.to_string()).unwrap();
            fs::rename(unfinished, path).unwrap();
        };
        // In this order, because the agent uses the later of the two expiry times.
        edit(&self.home.join("shared/nous_auth.json"), "/expires_at");
        edit(&self.home.join("auth.json"), "/providers/nous/expires_at");
    }
}

impl Drop for Hermes {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        if std::thread::panicking() {
            for name in ["cli.out", "serve.out", "logs/agent.log", "logs/errors.log"] {
                eprintln!("--- {name}\n{}", self.text(name));
            }
        }
        let _ = fs::remove_dir_all(&self.home);
    }
}

/// Waits until the agent API accepts the agent's token and lists `count` armed jobs. Returns the first job.
async fn armed(service: &Service, hermes: &Hermes, count: usize) -> String {
    // The recurring job is in no list for a moment after each fire.
    eventually(&format!("{count} jobs are armed"), async || {
        let list = service.list(&hermes.kept("access_token")).await;
        let armed = list["armed"].as_array().unwrap();
        (armed.len() >= count).then(|| armed[0]["job_id"].as_str().unwrap().to_owned())
    })
    .await
}

async fn fired_again(hermes: &Hermes) {
    let before = hermes.runs("recurring");
    eventually("the job is fired", async || (hermes.runs("recurring") > before).then_some(())).await;
}

async fn run(settings: &Settings, arguments: &[&str]) {
    let (status, out, err) = settings.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {out}{err}");
}

#[tokio::test]
async fn hermes_agent_works_with_this_service_as_its_portal() {
    let (_, url) = database().await;
    let mut url: url::Url = url.parse().unwrap();
    let to = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap();
    let database = Proxy::start(to).await;
    url.set_ip_host(database.address().ip()).unwrap();
    url.set_port(Some(database.address().port())).unwrap();
    let listen = free_address().to_string();
    let portal_url = format!("http://{listen}");
    let settings = Settings::new(url.as_str(), &Portal::start().await)
        .without("NAS_CRON_PORTAL_JWKS_URL")
        .with("NAS_CRON_PORTAL_URL", &portal_url)
        .with("NAS_CRON_LISTEN", &listen)
        .with("NAS_CRON_OWN_PORTAL", "true");
    let service = Service::start(&settings).await;
    let mut hermes = Hermes::new(&portal_url);
    let (callback, home) = (hermes.url(), hermes.home.to_str().unwrap().to_owned());
    let enroll =
        ["agents", "enroll", INSTANCE, "--org", "acme", "--callback-url", &callback, "--home", &home];
    run(&settings, &enroll).await;
    let first = hermes.kept("refresh_token");

    // The agent has no access token yet, and requests one before its first call.
    hermes.serve().await;
    hermes.create("recurring", "* * * * * */5").await;
    let second = hermes.kept("refresh_token");
    assert_ne!(first, second, "the agent did not refresh its token: {}", hermes.login());
    let job_id = armed(&service, &hermes, 1).await;
    // The second run shows that the agent has armed the job after the first.
    fired_again(&hermes).await;
    fired_again(&hermes).await;
    let fire = client()
        .post(format!("{callback}/api/cron/fire"))
        .bearer_auth(hermes.kept("access_token"))
        .json(&json!({"job_id": job_id}));
    assert_eq!(fire.send().await.unwrap().status(), 401, "an access token fires nothing");

    // The database is unavailable during a refresh.
    hermes.expire();
    let issued = || service.log().matches("access token issued").count();
    let before = issued();
    database.cut().await;
    let back = async {
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert_eq!(issued(), before, "the database is unavailable");
        database.restore().await;
    };
    tokio::join!(hermes.create("during", "0 0 29 2 *"), back);
    let third = hermes.kept("refresh_token");
    assert_ne!(third, second, "{}", hermes.login());
    armed(&service, &hermes, 2).await;

    // The service is unavailable: the job is not armed, and the agent keeps its tokens.
    service.stop().await;
    hermes.expire();
    hermes.create("outage", "0 0 28 2 *").await;
    assert_eq!(hermes.kept("refresh_token"), third);

    // The agent is disabled, and keeps its tokens.
    run(&settings, &["agents", "disable", INSTANCE]).await;
    let service = Service::start(&settings).await;
    hermes.create("held", "0 0 27 2 *").await;
    assert_eq!(hermes.kept("refresh_token"), third);
    assert!(service.log().contains("the agent is disabled"), "the agent has tried to refresh");
    run(&settings, &["agents", "enable", INSTANCE]).await;
    hermes.create("after", "0 0 26 2 *").await;
    assert_ne!(hermes.kept("refresh_token"), third);
    armed(&service, &hermes, 3).await;
    fired_again(&hermes).await;

    // An old refresh token is used again, as after a theft: the login ends, and the agent records the error.
    let stolen = client()
        .post(format!("{portal_url}/api/oauth/token"))
        .header("x-nous-refresh-token", &second)
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=refresh_token&client_id=hermes-cli-vps");
    assert_eq!(stolen.send().await.unwrap().status(), 400);
    hermes.expire();
    hermes.create("lost", "0 0 25 2 *").await;
    let login = hermes.login();
    assert!(login["refresh_token"].is_null(), "{login}");
    assert_eq!(login["last_auth_error"]["code"], "invalid_grant", "{login}");

    // The fix: enroll again.
    run(&settings, &[&enroll[..], &["--force"]].concat()).await;
    hermes.create("enrolled_again", "0 0 24 2 *").await;
    armed(&service, &hermes, 2).await;
    fired_again(&hermes).await;
}
