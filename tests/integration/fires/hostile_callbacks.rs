//! Hundreds of hostile callbacks, fired in a network of its own that records every connection: none is dialled.
//!
//! `tests/data/hostile_callbacks.json` has the callbacks, and the names that the network's DNS server knows. Addresses under
//! `dials` are public ones that the service may dial, and does: they show that the record is complete.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_dev::private_postgres::PrivatePostgres;
use nas_cron_testing::database::server_options;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::{PATIENCE, fire_at};
use nas_cron_testing::world::World;
use rcgen::{CertificateParams, KeyPair};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hostile_callbacks.json");
const NETWORK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/hostile_callbacks/network.py");

#[derive(Deserialize)]
struct Callbacks {
    urls: Vec<Callback>,
    zone: serde_json::Map<String, Value>,
}

#[derive(Deserialize)]
struct Callback {
    url: String,
    why: String,
    /// Addresses that may be dialled for it.
    #[serde(default)]
    dials: BTreeSet<IpAddr>,
}

/// The network's files.
struct Files {
    folder: PathBuf,
}

impl Files {
    /// Creates them, with a certificate for all names of the zone that redirect.
    fn create(callbacks: &Callbacks) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-callbacks");
        std::fs::create_dir_all(&folder).unwrap();
        let redirecting = callbacks.zone.iter().filter(|(_, entry)| entry.get("redirect").is_some());
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = redirecting.map(|(name, _)| name.clone()).collect();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        let files = Self { folder };
        std::fs::write(files.certificate(), pem("CERTIFICATE", certificate.der())).unwrap();
        std::fs::write(files.key(), pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        std::fs::write(files.record(), "").unwrap();
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.join("key.pem")
    }

    fn portal_keys(&self) -> PathBuf {
        self.folder.join("portal.json")
    }

    fn record(&self) -> PathBuf {
        self.folder.join("record")
    }

    /// Runs the service in the network.
    fn launch(&self, settings: Settings, portal: &Portal) -> Settings {
        // The service fetches keys from the portal's URL, and the record is to have callbacks only.
        std::fs::write(self.portal_keys(), portal.jwks().to_string()).unwrap();
        // A namespace of users gives other users the rights of root inside.
        let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
        let unshare: &[&str] = if is_root { &["unshare"] } else { &["unshare", "--map-root-user"] };
        let files = [self.certificate(), self.key(), self.record()];
        let files = files.each_ref().map(|path| path.to_str().unwrap());
        let network = [&["--net", "--mount", "python3", NETWORK, DATA], &files[..]].concat();
        settings
            .launched_by(&[unshare, &network].concat())
            .without("NAS_CRON_PORTAL_JWKS_URL")
            .with("NAS_CRON_PORTAL_JWKS_FILE", self.portal_keys().to_str().unwrap())
            .with("NAS_CRON_CALLBACK_CA_FILE", self.certificate().to_str().unwrap())
    }

    /// Returns the addresses that were dialled, other than the network's DNS server.
    fn dialled(&self) -> BTreeSet<IpAddr> {
        let record = std::fs::read_to_string(self.record()).unwrap();
        let lines = record.lines().filter(|line| *line != "127.0.0.1 53");
        lines.map(|line| line.split_once(' ').unwrap().0.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn none_of_hundreds_of_hostile_callbacks_is_dialled() {
    let callbacks: Callbacks = serde_json::from_slice(&std::fs::read(DATA).unwrap()).unwrap();
    assert!(callbacks.urls.len() >= 300);
    let files = Files::create(&callbacks);
    let server =
        tokio::task::spawn_blocking(|| PrivatePostgres::start(server_options()).unwrap()).await.unwrap();
    // The network cannot be left, but a Unix socket can be reached from it.
    let world = World::on(server.url("postgres"), |settings| {
        settings
            .without("NAS_CRON_CALLBACK_ALLOW")
            .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
            .with("NAS_CRON_FIRE_FLOOR", "100ms")
    })
    .await;

    let (mut rejected, mut unreadable) = (0, 0);
    for (number, callback) in callbacks.urls.iter().enumerate() {
        let instance = format!("inst-{number:03}");
        let token = world.instance(&instance).await;
        let (job, at) = ("job", fire_at(3_600_000));
        let (status, body) = world.service.try_provision(&token, job, &at, &callback.url).await;
        if status == 200 {
            continue;
        }
        assert_eq!(
            (status, body["error"].as_str()),
            (400, Some("invalid_request")),
            "{:?}: {body}",
            callback.url
        );
        rejected += 1;
        // An unreadable URL was never stored by any release. Others may have been, before a rule rejected them.
        if Url::parse(&callback.url).is_err() {
            unreadable += 1;
            continue;
        }
        world.service.provision(&token, job, &at, "https://agent.example").await;
        sqlx::query("UPDATE one_shots SET callback_url = $1 WHERE instance_id = $2")
            .bind(&callback.url)
            .bind(&instance)
            .execute(&world.pool)
            .await
            .unwrap();
    }
    println!("{} callbacks, {rejected} rejected, {unreadable} of these unreadable", callbacks.urls.len());
    let World { service, pool, settings, portal, .. } = world;
    assert!(service.stop().await.success());
    sqlx::query("UPDATE one_shots SET fire_at = now(), next_attempt_at = now()")
        .execute(&pool)
        .await
        .unwrap();

    let _service = Service::spawn(&files.launch(settings, &portal)).await;
    // Twice: some names have a public address at first and a private one afterwards.
    let began = Instant::now();
    loop {
        let left: Vec<(String, i64)> = sqlx::query_as(
            "SELECT callback_url, ended FROM (
                 SELECT o.callback_url, (SELECT count(*) FROM fires f
                     WHERE f.instance_id = o.instance_id AND f.ended_at IS NOT NULL) AS ended
                 FROM one_shots o) AS attempts
             WHERE ended < 2",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        if left.is_empty() {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "fewer than two attempts: {left:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let allowed: BTreeSet<IpAddr> =
        callbacks.urls.iter().flat_map(|callback| callback.dials.clone()).collect();
    let dialled = files.dialled();
    let hostile: Vec<_> = dialled.difference(&allowed).collect();
    assert!(hostile.is_empty(), "dialled {hostile:?}");
    assert_eq!(dialled, allowed, "the record has the public addresses");
    let answered: Vec<(String, Option<i16>)> = sqlx::query_as(
        "SELECT DISTINCT instance_id, http_status FROM fires WHERE outcome = 'delivered' OR http_status IS NOT NULL
         ORDER BY instance_id",
    )
    .fetch_all(&pool)
    .await
    .unwrap();
    for (instance, status) in answered {
        let number: usize = instance.trim_start_matches("inst-").parse().unwrap();
        let callback = &callbacks.urls[number];
        assert!(callback.why.starts_with("redirect"), "{}: {status:?}", callback.url);
        assert_eq!(status, Some(307), "{}", callback.url);
    }
}
