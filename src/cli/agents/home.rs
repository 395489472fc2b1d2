//! The home of a hermes-agent: its logins and its configuration. Files are written atomically, for their owner only.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nas_cron_base::private_file;
use rustix::process::geteuid;
use serde_json::{Map, Value, json};

/// Provider under which hermes-agent keeps the login at its portal.
const PROVIDER: &str = "nous";

/// A home that is ready to be written.
pub(super) struct Home {
    auth: PathBuf,
    config: PathBuf,
    /// Copy of the login that all profiles of a root share. The agent prefers it to its own login, even if it is older.
    shared: PathBuf,
    /// Present content of `auth`.
    store: Option<Map<String, Value>>,
    force: bool,
}

/// Result of [`Home::write`].
pub(super) struct Written {
    /// Files that were written.
    pub(super) files: Vec<PathBuf>,
    /// Existing configuration that was left unchanged.
    pub(super) config_is_there: Option<PathBuf>,
}

/// Returns an `auth.json` with only this login.
pub(super) fn auth_store(login: &Value) -> Value {
    json!({ "version": 1, "providers": { PROVIDER: login } })
}

impl Home {
    /// Opens the folder, and creates it if it is missing. Fails if it belongs to another user or, without `force`, if it
    /// may hold a login.
    pub(super) fn open(folder: &Path, force: bool) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("creating the folder {} failed", folder.display()))?;
        let folder = folder
            .canonicalize()
            .with_context(|| format!("opening the folder {} failed", folder.display()))?;
        require_owner(&folder, geteuid().as_raw())?;
        let (auth, shared) = (folder.join("auth.json"), root(&folder).join("shared/nous_auth.json"));
        if let Some(taken) = [&auth, &shared].into_iter().find(|path| path.exists() && !force) {
            bail!(
                "{} already exists and may hold a login: stop the agent and add --force to replace the portal's login (other \
                 logins are kept), omit --home to print the files instead, or choose another home",
                taken.display()
            );
        }
        let store = match fs::read(&auth) {
            Ok(bytes) => Some(parse(&bytes).with_context(|| {
                format!(
                    "invalid content of {}: move the file away, and run the command again",
                    auth.display()
                )
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("reading {} failed", auth.display())),
        };
        Ok(Self { auth, config: folder.join("config.yaml"), shared, store, force })
    }

    /// Writes the login, and the configuration if there is none.
    pub(super) fn write(self, login: &Value, yaml: &str) -> anyhow::Result<Written> {
        let store = match self.store {
            None => auth_store(login),
            Some(store) => with_login(store, login),
        };
        // Removed first: the agent would prefer it to the new login.
        match fs::remove_file(&self.shared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {} failed", self.shared.display()));
            }
            _ => {}
        }
        write(&self.auth, format!("{store:#}\n").as_bytes(), self.force)?;
        let mut written = Written { files: vec![self.auth], config_is_there: None };
        if self.config.exists() {
            written.config_is_there = Some(self.config);
        } else {
            write(&self.config, yaml.as_bytes(), false)?;
            written.files.push(self.config);
        }
        Ok(written)
    }
}

/// Returns the root of a home: the folder with `shared`, which all profiles of the root use.
fn root(home: &Path) -> &Path {
    let profiles = home.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "profiles"));
    profiles.and_then(Path::parent).unwrap_or(home)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Map<String, Value>> {
    let store: Map<String, Value> = nas_cron_protocol::json::from_slice(bytes)?;
    anyhow::ensure!(store.get("providers").is_none_or(Value::is_object), "`providers` is not a JSON object");
    Ok(store)
}

/// Replaces the portal's login and removes its pool of credentials. Logins at other providers are kept.
fn with_login(mut store: Map<String, Value>, login: &Value) -> Value {
    store.entry("version").or_insert(json!(1));
    store.entry("providers").or_insert(json!({}))[PROVIDER] = login.clone();
    if let Some(pool) = store.get_mut("credential_pool").and_then(Value::as_object_mut) {
        pool.remove(PROVIDER);
    }
    store.into()
}

/// Writes a file, and replaces an existing one only with `replace`.
fn write(path: &Path, bytes: &[u8], replace: bool) -> anyhow::Result<()> {
    let written =
        if replace { private_file::write(path, bytes) } else { private_file::write_new(path, bytes) };
    written.with_context(|| format!("writing {} failed", path.display()))
}

/// Fails if the folder belongs to another user: that user's agent could not read the files, and the user could redirect
/// them by links.
fn require_owner(folder: &Path, user: u32) -> anyhow::Result<()> {
    let owner = fs::metadata(folder)
        .with_context(|| format!("opening the folder {} failed", folder.display()))?
        .uid();
    anyhow::ensure!(
        owner == user,
        "{} belongs to another user (user id {owner}), whose agent could not read the login: run the command as that \
         user, or omit --home and hand over the printed files",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A temporary folder, removed at the end of the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("nas-cron-home-{:016x}", rand::random::<u64>())))
        }

        fn json(&self, name: &str) -> Value {
            nas_cron_protocol::json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn refused(folder: &Path, force: bool) -> String {
        format!("{:#}", Home::open(folder, force).err().expect("refused"))
    }

    #[test]
    fn new_home_is_private_to_its_owner() {
        let scratch = Scratch::new();
        let written = Home::open(&scratch.0, false).unwrap().write(&json!({"a": 1}), "cron:\n").unwrap();
        assert_eq!(written.files.len(), 2);
        assert!(written.config_is_there.is_none());
        assert_eq!(scratch.json("auth.json"), json!({"version": 1, "providers": {"nous": {"a": 1}}}));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scratch.0), 0o700);
        assert!(written.files.iter().all(|file| mode(file) == 0o600));
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn existing_files_are_kept_unless_overwriting_is_requested() {
        let scratch = Scratch::new();
        Home::open(&scratch.0, false).unwrap().write(&json!({"a": 1}), "cron:\n").unwrap();
        let told = refused(&scratch.0, false);
        assert!(told.contains("auth.json already exists") && told.contains("--force"), "{told}");
        let store = json!({
            "version": 2, "active_provider": "other", "providers": {"other": {"key": "k"}, "nous": {"old": 1}},
            "credential_pool": {"nous": [1], "other": [2]},
        });
        fs::write(scratch.0.join("auth.json"), store.to_string()).unwrap();
        fs::write(scratch.0.join("config.yaml"), "mine").unwrap();
        fs::create_dir(scratch.0.join("shared")).unwrap();
        fs::write(scratch.0.join("shared/nous_auth.json"), "{}").unwrap();
        let written = Home::open(&scratch.0, true).unwrap().write(&json!({"a": 2}), "cron:\n").unwrap();
        assert_eq!(
            scratch.json("auth.json"),
            json!({
                "version": 2, "active_provider": "other", "providers": {"other": {"key": "k"}, "nous": {"a": 2}},
                "credential_pool": {"other": [2]},
            })
        );
        assert!(written.config_is_there.is_some());
        assert_eq!(fs::read_to_string(scratch.0.join("config.yaml")).unwrap(), "mine");
        assert!(!scratch.0.join("shared/nous_auth.json").exists(), "the agent would prefer it");
        for odd in ["", "[]", "{\"providers\": []}"] {
            fs::write(scratch.0.join("auth.json"), odd).unwrap();
            assert!(refused(&scratch.0, true).contains("move the file away"), "{odd}");
        }
    }

    #[test]
    fn another_user_s_folder_is_refused() {
        let scratch = Scratch::new();
        Home::open(&scratch.0, false).unwrap();
        let us = geteuid().as_raw();
        require_owner(&scratch.0, us).unwrap();
        let told = require_owner(&scratch.0, us + 1).unwrap_err().to_string();
        assert!(told.contains("another user") && told.contains("omit --home"), "{told}");
    }

    #[test]
    fn profiles_of_one_root_share_a_login() {
        let scratch = Scratch::new();
        let profile = scratch.0.join("profiles/one");
        fs::create_dir_all(scratch.0.join("shared")).unwrap();
        fs::write(scratch.0.join("shared/nous_auth.json"), "{}").unwrap();
        assert!(refused(&profile, false).contains("shared/nous_auth.json already exists"));
    }
}
