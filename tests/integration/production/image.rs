//! The Dockerfile and the compose files, as far as they can be checked without containers. The workflow `test` builds
//! the image and runs it.

use std::time::Duration;

use serde_json::{Value, json};

use super::yaml::documents;

const DOCKERFILE: &str = include_str!("../../../Dockerfile");
const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
const WITH_NATS: &str = include_str!("../../../deploy/compose.nats.yaml");
const EXAMPLE: &str = include_str!("../../../nas-cron.example.toml");

/// Returns the instructions of the Dockerfile, with continued lines joined.
fn instructions() -> Vec<String> {
    let text = DOCKERFILE.replace("\\\n", " ");
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn image_has_no_development_tools_and_no_root() {
    let instructions = instructions();
    let builds: Vec<_> = instructions.iter().filter(|line| line.contains("cargo build")).collect();
    assert_eq!(builds.len(), 2, "the dependencies, then the service");
    for build in builds {
        for part in ["--locked", "--release", "--no-default-features"] {
            assert!(build.contains(part), "{part} in {build}");
        }
    }
    let position = |start: &str| instructions.iter().position(|line| line.starts_with(start));
    let last_stage = instructions.iter().rposition(|line| line.starts_with("FROM ")).unwrap();
    assert!(instructions[last_stage].contains("-slim"), "{}", instructions[last_stage]);
    assert!(position("USER 10001") > Some(last_stage), "the service runs as a user without rights");
    assert!(position("ENTRYPOINT") > position("USER 10001"));
    let health = &instructions[position("HEALTHCHECK").expect("a health check")];
    assert!(health.ends_with(r#"CMD ["nas-cron", "health"]"#), "{health}");
    // Nothing but the binary comes from the build.
    let copies: Vec<_> = instructions[last_stage..].iter().filter(|line| line.starts_with("COPY ")).collect();
    assert_eq!(copies, ["COPY --from=build /src/target/release/nas-cron /usr/local/bin/nas-cron"]);
}

/// Returns the settings that a service of a compose file sets.
fn settings(service: &Value) -> Vec<&str> {
    service["environment"].as_object().map(|all| all.keys().map(String::as_str).collect()).unwrap_or_default()
}

#[test]
fn compose_files_set_known_settings_and_take_all_rights_away() {
    let services: Vec<_> =
        [COMPOSE, WITH_NATS].iter().map(|text| documents(text).remove(0)["services"].clone()).collect();
    let known = |setting: &str| {
        let key = setting.trim_start_matches("NAS_CRON_").to_lowercase();
        EXAMPLE.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")))
    };
    for service in [&services[0]["nas-cron"], &services[0]["migrate"], &services[1]["nas-cron"]] {
        let settings = settings(service);
        assert!(settings.iter().all(|setting| known(setting)), "{settings:?}");
    }
    for service in [&services[0]["nas-cron"], &services[0]["migrate"], &services[1]["nats"]] {
        assert_eq!(service["read_only"], true);
        assert_eq!(service["cap_drop"], json!(["ALL"]));
        assert_eq!(service["security_opt"], json!(["no-new-privileges:true"]));
    }
    // `nas-cron` has the image's own check.
    for service in [&services[0]["postgres"], &services[1]["nats"]] {
        assert!(service["healthcheck"]["test"].is_array(), "{service}");
    }
    let depends = &services[0]["nas-cron"]["depends_on"]["migrate"]["condition"];
    assert_eq!(depends, "service_completed_successfully");
}

#[test]
fn compose_gives_a_replica_the_time_that_it_needs_to_stop() {
    let default = |key: &str| {
        let line =
            EXAMPLE.lines().find_map(|line| line.trim_start_matches('#').strip_prefix(&format!("{key} = ")));
        seconds(line.unwrap_or_else(|| panic!("no {key}")).trim_matches('"'))
    };
    let compose = documents(COMPOSE).remove(0);
    let grace = seconds(compose["services"]["nas-cron"]["stop_grace_period"].as_str().expect("a duration"));
    assert!(grace > default("drain_delay") + default("shutdown_timeout"));
}

/// Reads a whole number of seconds, such as `45s`.
fn seconds(text: &str) -> Duration {
    Duration::from_secs(
        text.trim_end_matches('s').parse().unwrap_or_else(|_| panic!("{text} is not in seconds")),
    )
}
