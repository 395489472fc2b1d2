//! The folder of a development service: the data that is kept between runs, and the file that describes the current run.
//!
//! ```text
//! DIR/nas-cron.lock        held while `nas-cron dev` runs
//! DIR/dev.json             describes the run: URLs, admin token, agents ([`DevJson`])
//! DIR/portal-key.der       the portal's signing key (PKCS#8)
//! DIR/key-encryption-key   encrypts the service's signing keys
//! DIR/postgres/            the database, or a link to it (`postgres_dir`)
//! ```

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nas_cron_base::private_file;
use serde::{Deserialize, Serialize};

/// Describes a run of `nas-cron dev` for scripts and `nas-cron bench`. It holds secrets and does not implement `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct DevJson {
    /// The base URL of the service and of the portal; `iss` of all tokens.
    pub(crate) portal_url: String,
    /// Base URL of the admin API and the operators' page.
    pub(crate) admin_url: String,
    /// JWKS URL for fire tokens.
    pub(crate) jwks_url: String,
    /// URL of the service's metrics.
    pub(crate) metrics_url: String,
    /// URL of the private Postgres, for sqlx and libpq.
    pub(crate) database_url: String,
    /// Bearer token of the admin API.
    pub(crate) admin_token: String,
    /// The registered agents.
    pub(crate) agents: Vec<DevAgent>,
}

/// A registered agent and its access token.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DevAgent {
    /// Instance id.
    pub(crate) instance_id: String,
    /// Organisation that owns it.
    pub(crate) org_id: String,
    /// Client id of its token.
    pub(crate) client_id: String,
    /// Its bootstrap session, if it has one.
    pub(crate) sid: Option<String>,
    /// Access token from the development portal.
    pub(crate) access_token: String,
}

/// The folder of a development service.
#[derive(Clone, Debug)]
pub(crate) struct DevDir(PathBuf);

/// Lock on the folder: while it is held, no other `nas-cron dev` uses the folder.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "held, not read")] File);

impl DevDir {
    /// Returns the given folder, or the user's default one.
    pub(crate) fn named(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => default_dir(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
                .context("no default folder: HOME is not set; name a folder with --dir")?,
        };
        let dir =
            std::path::absolute(&dir).with_context(|| format!("could not resolve {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Absolute path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Usual folder of the private Postgres.
    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    /// File with the portal's signing key.
    pub(crate) fn portal_key(&self) -> PathBuf {
        self.0.join("portal-key.der")
    }

    /// File with the key that encrypts the service's private keys.
    pub(super) fn key_encryption_key(&self) -> PathBuf {
        self.0.join("key-encryption-key")
    }

    /// Path of `dev.json`.
    pub(crate) fn dev_json(&self) -> PathBuf {
        self.0.join("dev.json")
    }

    /// Creates the folder and locks it for this process.
    pub(super) fn hold(&self) -> anyhow::Result<Held> {
        // Other users may enter: as root, Postgres runs as another user. Secret files have their own mode.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.0).with_context(|| {
            format!("could not create the folder {}; name another one with --dir", self.0.display())
        })?;
        let path = self.0.join("nas-cron.lock");
        let file = private_file::open_lock(&path)
            .with_context(|| format!("could not write {}; name another folder with --dir", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "another `nas-cron dev` (process {}) uses {}; stop it, or start this one with another --dir and \
                    another --listen",
                    owner.trim(),
                    self.0.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("could not lock {}", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(&file, "{}", std::process::id()))
            .with_context(|| format!("could not write {}", path.display()))?;
        Ok(Held(file))
    }

    /// Writes `dev.json` atomically: a script that waits for the file reads all of it.
    pub(crate) fn write_dev_json(&self, dev: &DevJson) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec_pretty(dev).context("could not serialise dev.json")?;
        json.push(b'\n');
        write_private(&self.dev_json(), &json)
    }

    /// Removes the `dev.json` of an earlier run, so that scripts that wait for the file wait for this run.
    pub(super) fn remove_dev_json(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.dev_json()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("could not remove {}", self.dev_json().display()))
            }
            _ => Ok(()),
        }
    }

    /// Reads the `dev.json` of the current or the last run.
    pub(crate) fn read_dev_json(&self) -> anyhow::Result<DevJson> {
        let path = self.dev_json();
        let json = fs::read(&path).with_context(|| {
            format!(
                "could not read {}; is `nas-cron dev --dir {}` running?",
                path.display(),
                self.0.display()
            )
        })?;
        nas_cron_protocol::json::from_slice(&json)
            .with_context(|| format!("{} was not written by this version of `nas-cron dev`", path.display()))
    }
}

/// Returns the file's contents. A missing file is first created from `make`, readable by its owner alone.
pub(super) fn kept(path: &Path, make: impl FnOnce() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make()?;
            write_private(path, &bytes)?;
            Ok(bytes)
        }
        Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
    }
}

/// Writes the file atomically, readable by its owner alone.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    private_file::write(path, bytes).with_context(|| format!("could not write {}", path.display()))
}

/// Returns the user's default folder. For root it is outside the home folder, which the user that Postgres runs as may
/// not enter.
fn default_dir(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    if root {
        return Some(PathBuf::from("/var/lib/nas-cron/dev"));
    }
    Some(private_file::user_folder("XDG_STATE_HOME", ".local/state", variable)?.join("nas-cron/dev"))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt;

    use serde_json::json;

    use super::*;

    /// A `dev` folder that is removed with its test.
    pub(crate) struct Scratch(nas_cron_base::testing::Scratch);

    impl Scratch {
        pub(crate) fn new() -> Self {
            Self(nas_cron_base::testing::Scratch::new())
        }

        pub(crate) fn path(&self) -> &Path {
            self.0.path()
        }

        pub(crate) fn dir(&self) -> DevDir {
            DevDir::named(Some(self.path().to_owned())).unwrap()
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn second_dev_on_a_folder_fails_and_names_the_first() {
        let scratch = Scratch::new();
        let held = scratch.dir().hold().unwrap();
        let error = scratch.dir().hold().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("--dir"), "{error}");
        drop(held);
        scratch.dir().hold().unwrap();
    }

    #[test]
    fn dev_json_has_exactly_its_fields_and_is_private() {
        let scratch = Scratch::new();
        let dir = scratch.dir();
        let error = format!("{:#}", dir.read_dev_json().map(|_| ()).unwrap_err());
        assert!(error.contains("is `nas-cron dev --dir"), "{error}");
        let agent = |sid: Option<&str>| DevAgent {
            instance_id: "i".into(),
            org_id: "o".into(),
            client_id: "c".into(),
            sid: sid.map(str::to_owned),
            access_token: "t".into(),
        };
        dir.write_dev_json(&DevJson {
            portal_url: "http://127.0.0.1:8090".into(),
            admin_url: "http://127.0.0.1:8091".into(),
            jwks_url: "http://127.0.0.1:8090/api/agent-cron/jwks.json".into(),
            metrics_url: "http://127.0.0.1:41000/metrics".into(),
            database_url: "postgres://x".into(),
            admin_token: "a".into(),
            agents: vec![agent(Some("s")), agent(None)],
        })
        .unwrap();
        let value: serde_json::Value =
            nas_cron_protocol::json::from_slice(&fs::read(dir.dev_json()).unwrap()).unwrap();
        assert_eq!(
            value,
            json!({
                "portal_url": "http://127.0.0.1:8090",
                "admin_url": "http://127.0.0.1:8091",
                "jwks_url": "http://127.0.0.1:8090/api/agent-cron/jwks.json",
                "metrics_url": "http://127.0.0.1:41000/metrics",
                "database_url": "postgres://x",
                "admin_token": "a",
                "agents": [
                    {"instance_id": "i", "org_id": "o", "client_id": "c", "sid": "s", "access_token": "t"},
                    {"instance_id": "i", "org_id": "o", "client_id": "c", "sid": null, "access_token": "t"},
                ],
            })
        );
        assert_eq!(mode(&dir.dev_json()), 0o600);
        assert_eq!(dir.read_dev_json().unwrap().agents.len(), 2);
        dir.remove_dev_json().unwrap();
        dir.remove_dev_json().unwrap();
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "no temporary file is left");
    }

    #[test]
    fn kept_file_is_created_once_and_private() {
        let scratch = Scratch::new();
        let path = scratch.path().join("secret");
        assert_eq!(kept(&path, || Ok(b"one".to_vec())).unwrap(), b"one");
        assert_eq!(kept(&path, || Ok(b"two".to_vec())).unwrap(), b"one");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn default_folder_depends_on_the_user() {
        let named = |name: &str| match name {
            "HOME" => Some("/home/u".into()),
            _ => None,
        };
        assert_eq!(default_dir(false, named).unwrap(), Path::new("/home/u/.local/state/nas-cron/dev"));
        assert_eq!(default_dir(true, named).unwrap(), Path::new("/var/lib/nas-cron/dev"));
        let state = |name: &str| (name == "XDG_STATE_HOME").then(|| "/s".into());
        assert_eq!(default_dir(false, state).unwrap(), Path::new("/s/nas-cron/dev"));
        assert_eq!(default_dir(false, |_| None), None);
    }
}
