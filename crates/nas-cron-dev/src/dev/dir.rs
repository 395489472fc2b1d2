//! The folder of a development service: what is kept between runs, and what others need to know of a run.
//!
//! ```text
//! DIR/nas-cron.lock        held while `nas-cron dev` runs
//! DIR/dev.json             of the run: URLs, admin token, agents ([`DevJson`])
//! DIR/portal-key.der       the portal's signing key (PKCS#8)
//! DIR/key-encryption-key   of the service's signing keys
//! DIR/postgres/            the database
//! ```

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nas_cron_base::private_file;
use serde::{Deserialize, Serialize};

/// What a run of `nas-cron dev` tells scripts and `nas-cron bench`. It holds secrets: no `Debug`.
#[derive(Serialize, Deserialize)]
pub(crate) struct DevJson {
    /// The service's base URL, which is the portal's as well: `iss` of all tokens.
    pub(crate) portal_url: String,
    /// Where agents fetch the keys of fire tokens.
    pub(crate) jwks_url: String,
    /// Of the private Postgres, for sqlx and libpq.
    pub(crate) database_url: String,
    /// Opens the admin API.
    pub(crate) admin_token: String,
    /// The agents that are registered.
    pub(crate) agents: Vec<DevAgent>,
}

/// A registered agent and a token of it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct DevAgent {
    /// Its name.
    pub(crate) instance_id: String,
    /// Its owner.
    pub(crate) org_id: String,
    /// The client that its token was issued to.
    pub(crate) client_id: String,
    /// Its bootstrap session, where it has one.
    pub(crate) sid: Option<String>,
    /// Of the development portal.
    pub(crate) access_token: String,
}

/// The folder.
#[derive(Clone, Debug)]
pub(crate) struct DevDir(PathBuf);

/// While it lives, nobody else runs on the folder.
#[derive(Debug)]
pub(super) struct Held(#[expect(dead_code, reason = "held, not read")] File);

impl DevDir {
    /// The folder that was named, or the user's own.
    pub(crate) fn named(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let dir = match dir {
            Some(dir) => dir,
            None => default_dir(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
                .context("there is no HOME to keep a development service in; name a folder with --dir")?,
        };
        let dir = std::path::absolute(&dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        Ok(Self(dir))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The database's folder.
    pub(super) fn postgres(&self) -> PathBuf {
        self.0.join("postgres")
    }

    /// The portal's key.
    pub(crate) fn portal_key(&self) -> PathBuf {
        self.0.join("portal-key.der")
    }

    /// The file that encrypts the service's private keys.
    pub(super) fn key_encryption_key(&self) -> PathBuf {
        self.0.join("key-encryption-key")
    }

    /// What the run says of itself.
    pub(crate) fn dev_json(&self) -> PathBuf {
        self.0.join("dev.json")
    }

    /// Makes the folder and takes it for this process.
    pub(super) fn hold(&self) -> anyhow::Result<Held> {
        // Others may pass: as root, Postgres runs as another user. What is secret in it says so by itself.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&self.0).with_context(|| {
            format!("cannot make the folder {}; name another one with --dir", self.0.display())
        })?;
        let path = self.0.join("nas-cron.lock");
        let file = private_file::open_lock(&path)
            .with_context(|| format!("cannot write {}; name another folder with --dir", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read_to_string(&path).unwrap_or_default();
                bail!(
                    "another `nas-cron dev` (process {}) runs on {}; stop it, or give this one a --dir and a --listen of \
                     its own",
                    owner.trim(),
                    self.0.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        file.set_len(0)
            .and_then(|()| writeln!(&file, "{}", std::process::id()))
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Held(file))
    }

    /// Tells of the run: whoever waits for the file finds all of it.
    pub(crate) fn write_dev_json(&self, dev: &DevJson) -> anyhow::Result<()> {
        let mut json = serde_json::to_vec_pretty(dev).context("dev.json cannot be written")?;
        json.push(b'\n');
        write_private(&self.dev_json(), &json)
    }

    /// Takes back what an earlier run told: whoever waits for the file waits for this run.
    pub(super) fn remove_dev_json(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.dev_json()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.dev_json().display()))
            }
            _ => Ok(()),
        }
    }

    /// What the current run, or the last one, told.
    pub(crate) fn read_dev_json(&self) -> anyhow::Result<DevJson> {
        let path = self.dev_json();
        let json = fs::read(&path).with_context(|| {
            format!("cannot read {}; is `nas-cron dev --dir {}` running?", path.display(), self.0.display())
        })?;
        serde_json::from_slice(&json)
            .with_context(|| format!("{} is not what `nas-cron dev` writes", path.display()))
    }
}

/// What the file holds, after it was made where it was missing. Only its owner may read it.
pub(super) fn kept(path: &Path, make: impl FnOnce() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bytes = make()?;
            write_private(path, &bytes)?;
            Ok(bytes)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes all of the file or nothing, readable by its owner alone.
fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    private_file::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// As root not below its home, which the user that Postgres then runs as may not enter.
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

    /// A `dev` folder that goes with its test.
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
    fn a_second_dev_on_the_folder_is_told_who_has_it() {
        let scratch = Scratch::new();
        let held = scratch.dir().hold().unwrap();
        let error = scratch.dir().hold().unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(error.contains("--dir"), "{error}");
        drop(held);
        scratch.dir().hold().unwrap();
    }

    #[test]
    fn dev_json_has_exactly_its_fields_and_one_reader() {
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
            jwks_url: "http://127.0.0.1:8090/api/agent-cron/jwks.json".into(),
            database_url: "postgres://x".into(),
            admin_token: "a".into(),
            agents: vec![agent(Some("s")), agent(None)],
        })
        .unwrap();
        let value: serde_json::Value = serde_json::from_slice(&fs::read(dir.dev_json()).unwrap()).unwrap();
        assert_eq!(
            value,
            json!({
                "portal_url": "http://127.0.0.1:8090",
                "jwks_url": "http://127.0.0.1:8090/api/agent-cron/jwks.json",
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
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing unfinished is left");
    }

    #[test]
    fn a_kept_file_is_made_once_and_private() {
        let scratch = Scratch::new();
        let path = scratch.path().join("secret");
        assert_eq!(kept(&path, || Ok(b"one".to_vec())).unwrap(), b"one");
        assert_eq!(kept(&path, || Ok(b"two".to_vec())).unwrap(), b"one");
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn every_user_has_a_folder_of_their_own() {
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
