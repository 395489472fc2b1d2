//! Schemathesis compares the service with its document. It sends valid and invalid requests to every operation, and checks
//! each response against what is documented.

use std::path::Path;

use nas_cron_testing::database::database;
use nas_cron_testing::in_target;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{ADMIN_TOKEN, Service, Settings, client};
use serde_json::Value;
use tokio::process::Command;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/schemathesis");

/// A service with an admin token, the built-in portal and an agent.
struct Deployment {
    service: Service,
    access_token: String,
}

impl Deployment {
    async fn start() -> Self {
        let (_, url) = database().await;
        let settings = Settings::new(&url, &Portal::start().await)
            .without("NAS_CRON_PORTAL_JWKS_URL")
            .with("NAS_CRON_OWN_PORTAL", "true")
            .with("NAS_CRON_AGENT_IDENTITY", "true");
        let service = Service::start(&settings).await;
        // Nothing listens on this port.
        let arguments = [
            "agents",
            "enroll",
            "inst-1",
            "--org",
            "org-1",
            "--callback-url",
            "http://127.0.0.1:9",
            "--json",
        ];
        let (status, out, said) = settings.run(&arguments).await;
        assert!(status.success(), "{said}");
        let enrolled: Value = serde_json::from_str(&out).unwrap();
        let refresh_token = enrolled["auth"]["providers"]["nous"]["refresh_token"].as_str().unwrap();
        let refreshed = client()
            .post(format!("{}/api/oauth/token", service.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-nous-refresh-token", refresh_token)
            .body("grant_type=refresh_token&client_id=hermes-cli-vps");
        let tokens: Value = refreshed.send().await.unwrap().json().await.unwrap();
        Self { service, access_token: tokens["access_token"].as_str().unwrap().to_owned() }
    }

    /// Returns the configuration that sends each API its credential.
    fn credentials(&self) -> String {
        format!(
            "[[operations]]\ninclude-path-regex = \"^/api/admin/\"\n\
             headers = {{ Authorization = \"Bearer {ADMIN_TOKEN}\" }}\n\n\
             [[operations]]\ninclude-path-regex = \"^/(api/agent-cron|v1/agent)\"\n\
             headers = {{ Authorization = \"Bearer {}\" }}\n",
            self.access_token
        )
    }
}

/// All phases of Schemathesis: the document's examples, every limit of its schemas (thousands of requests), and generated
/// requests.
const ALL_PHASES: &str = "examples,coverage,fuzzing";
/// Without the limits of the schemas.
const FEW_PHASES: &str = "examples,fuzzing";

/// Runs these phases, with `examples` generated requests to each operation.
async fn finds_no_failure(with_credentials: bool, phases: &str, examples: u32) {
    let st = in_target("schemathesis-venv/bin/st");
    assert!(st.exists(), "Schemathesis is not installed: run `make installed` (`make test` does)");
    let deployment = Deployment::start().await;
    let general = std::fs::read_to_string(Path::new(FOLDER).join("schemathesis.toml")).unwrap();
    let credentials = if with_credentials { deployment.credentials() } else { String::new() };
    let name = format!("schemathesis-{with_credentials}-{examples}.toml");
    let configuration = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&configuration, format!("{general}\n{credentials}")).unwrap();
    let mut command = Command::new(st);
    command
        .current_dir(FOLDER)
        .arg("--config-file")
        .arg(&configuration)
        .args(["run", &format!("{}/openapi.json", deployment.service.url)])
        .args(["--checks", "all", "--seed", "1", "--phases", phases, "--max-examples", &examples.to_string()])
        .arg("--no-color")
        .env("PYTHONPATH", FOLDER)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SCHEMATHESIS_HOOKS", "generators")
        .kill_on_drop(true);
    let output = command.output().await.unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    println!("{report}");
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(deployment.service.stop().await.success());
}

#[tokio::test]
async fn service_does_what_its_document_says_with_credentials() {
    finds_no_failure(true, ALL_PHASES, 1).await;
}

#[tokio::test]
async fn service_does_what_its_document_says_without_credentials() {
    // Whatever the limits, most of these requests are rejected for the missing credentials.
    finds_no_failure(false, FEW_PHASES, 2).await;
}

#[tokio::test]
#[ignore = "takes minutes: make schemathesis"]
async fn service_does_what_its_document_says_for_many_requests() {
    finds_no_failure(true, ALL_PHASES, 200).await;
    finds_no_failure(false, ALL_PHASES, 100).await;
}
