//! The units of `deploy/systemd`, and the service's reports to systemd.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use nas_cron_testing::service::{Service, binary_path};
use nas_cron_testing::time::PATIENCE;
use nas_cron_testing::world::World;
use rustix::process::Signal;

const UNITS: [&str; 2] = ["nas-cron.service", "nas-cron-migrate.service"];
const UNIT: &str = include_str!("../../../deploy/systemd/nas-cron.service");
const PAGE: &str = include_str!("../../../docs/production.md");

/// A folder that is removed with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("nas-cron-systemd-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The socket on which systemd would listen.
struct Reports(mpsc::Receiver<String>);

impl Reports {
    fn at(path: &Path) -> Self {
        Self::on(UnixDatagram::bind(path).expect("a socket"))
    }

    /// Listens on a socket whose name is in no folder.
    fn at_abstract(name: &str) -> Self {
        let address = SocketAddr::from_abstract_name(name).expect("a name");
        Self::on(UnixDatagram::bind_addr(&address).expect("a socket"))
    }

    fn on(socket: UnixDatagram) -> Self {
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok(length) = socket.recv(&mut buffer) {
                let report = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if sender.send(report).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// Waits for a report that contains the line, and returns those before it.
    fn until(&self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let report =
                self.0.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {line} after {before:?}"));
            if report.lines().any(|one| one == line) {
                return before;
            }
            before.push(report);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn service_reports_its_start_its_life_and_its_end_to_systemd() {
    let folder = Folder::new();
    let path = folder.0.join("notify");
    let reports = Reports::at(&path);
    let world = World::new().await;
    let settings = world
        .settings
        .clone()
        .with("NOTIFY_SOCKET", path.to_str().unwrap())
        .with("WATCHDOG_USEC", Duration::from_millis(400).as_micros().to_string());
    let mut service = Service::start(&settings).await;
    let before = reports.until("READY=1");
    assert!(before.iter().all(|report| report == "WATCHDOG=1"), "{before:?}");
    assert_eq!(service.get("/readyz").await.0, 200);
    reports.until("WATCHDOG=1");
    reports.until("WATCHDOG=1");
    service.signal(Signal::TERM);
    reports.until("STOPPING=1");
    assert!(service.wait().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchdog_of_another_process_gets_no_reports() {
    let name = format!("nas-cron-notify-{:016x}", rand::random::<u64>());
    let reports = Reports::at_abstract(&name);
    let world = World::new().await;
    let settings = world
        .settings
        .clone()
        .with("NOTIFY_SOCKET", format!("@{name}"))
        .with("WATCHDOG_USEC", "1000")
        .with("WATCHDOG_PID", "1");
    let mut service = Service::start(&settings).await;
    let before = [reports.until("READY=1"), {
        service.signal(Signal::TERM);
        reports.until("STOPPING=1")
    }];
    assert!(before.concat().is_empty(), "{before:?}");
    assert!(service.wait().await.success());
}

/// Runs `systemd-analyze` on copies of the units whose program exists, with the drop-in of docs/production.md. Returns
/// `None` where it is not installed, which is a failure where tests must be complete.
fn analyze(arguments: &[&str]) -> Option<(bool, String)> {
    let folder = Folder::new();
    let units: Vec<_> = UNITS.iter().map(|unit| folder.0.join(unit)).collect();
    for (unit, copy) in UNITS.iter().zip(&units) {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/systemd").join(unit);
        let text = std::fs::read_to_string(original).expect("a unit");
        let program = binary_path();
        assert!(text.contains("=/usr/local/bin/nas-cron "), "{unit} names the program");
        std::fs::write(copy, text.replace("/usr/local/bin/nas-cron", program.to_str().unwrap())).unwrap();
    }
    let drop_in = PAGE.split_once("\n```ini\n").and_then(|(_, rest)| rest.split_once("\n```"));
    std::fs::create_dir(folder.0.join("nas-cron.service.d")).expect("a new folder");
    std::fs::write(folder.0.join("nas-cron.service.d/secrets.conf"), drop_in.expect("a drop-in").0).unwrap();
    let output = Command::new("systemd-analyze").args(arguments).args(&units).output().ok();
    let is_complete = std::env::var_os("CI").is_some() || Path::new("/etc/debian_version").exists();
    assert!(output.is_some() || !is_complete, "systemd-analyze is missing: `make systemd` installs it");
    let output = output?;
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Some((output.status.success(), text))
}

#[test]
fn units_are_valid_for_systemd() {
    if let Some((valid, text)) = analyze(&["verify", "--man=no", "--recursive-errors=no"]) {
        assert!(valid && text.is_empty(), "{text}");
    }
}

#[test]
fn units_expose_little_of_the_machine() {
    // From 0 (best) to 100; 11 is reached, and the network alone costs 9 of them.
    if let Some((low, text)) = analyze(&["security", "--offline=true", "--no-pager", "--threshold=12"]) {
        assert!(low, "{text}");
    }
}

#[test]
fn commands_of_the_documentation_have_the_secrets_of_the_unit() {
    let secrets: Vec<_> = UNIT.lines().filter_map(|line| line.strip_prefix("Environment=")).collect();
    assert_eq!(secrets.len(), 2, "{secrets:?}");
    for secret in secrets {
        let (variable, credential) = secret.split_once("=%d/").expect("a credential");
        let line = format!("\n{variable}=/etc/nas-cron/{credential}\n");
        assert!(PAGE.contains(&line), "docs/production.md lacks {line:?}");
        assert!(UNIT.contains(&format!("\nLoadCredential={credential}:/etc/nas-cron/{credential}\n")));
    }
}
