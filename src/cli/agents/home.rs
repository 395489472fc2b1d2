//! The folder of a hermes-agent: its logins and its configuration, written whole or not at all, for its owner alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nas_cron_base::private_file;
use rustix::process::geteuid;
use serde_json::{Map, Value, json};

/// Where hermes-agent keeps its portal's login.
const PROVIDER: &str = "nous";

/// A folder in which nothing is in the way.
pub(super) struct Home {
    auth: PathBuf,
    config: PathBuf,
    /// The copy of the login that all profiles of one root share. The agent prefers it to its own, whichever is newer.
    shared: PathBuf,
    /// What `auth` holds beside.
    store: Option<Map<String, Value>>,
    force: bool,
}

/// What was done in it.
pub(super) struct Written {
    /// These were.
    pub(super) files: Vec<PathBuf>,
    /// This was not touched.
    pub(super) config_is_there: Option<PathBuf>,
}

/// An `auth.json` with this login alone.
pub(super) fn auth_store(login: &Value) -> Value {
    json!({ "version": 1, "providers": { PROVIDER: login } })
}

impl Home {
    /// Makes the folder where it is missing. Refuses another user's, and one with a login, unless `force`.
    pub(super) fn open(folder: &Path, force: bool) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("cannot enter {}", folder.display()))?;
        require_owner(&folder, geteuid().as_raw())?;
        let (auth, shared) = (folder.join("auth.json"), root(&folder).join("shared/nous_auth.json"));
        if let Some(taken) = [&auth, &shared].into_iter().find(|path| path.exists() && !force) {
            bail!(
                "{} is there already, and may hold a login: stop the agent and say --force to replace the portal's login \
                 in it (others are kept), or choose another home",
                taken.display()
            );
        }
        let store = match fs::read(&auth) {
            Ok(bytes) => Some(parse(&bytes).with_context(|| {
                format!("{} is not what hermes-agent writes; move it away, and try again", auth.display())
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", auth.display())),
        };
        Ok(Self { auth, config: folder.join("config.yaml"), shared, store, force })
    }

    /// Writes the login, and the configuration where there is none.
    pub(super) fn write(self, login: &Value, yaml: &str) -> anyhow::Result<Written> {
        let store = match self.store {
            None => auth_store(login),
            Some(store) => with_login(store, login),
        };
        // First: after the new login is there it would be preferred to it.
        match fs::remove_file(&self.shared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", self.shared.display()));
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

/// The folder whose `shared` all of its profiles share.
fn root(home: &Path) -> &Path {
    let profiles = home.parent().filter(|parent| parent.file_name().is_some_and(|name| name == "profiles"));
    profiles.and_then(Path::parent).unwrap_or(home)
}

fn parse(bytes: &[u8]) -> anyhow::Result<Map<String, Value>> {
    let store: Map<String, Value> = serde_json::from_slice(bytes)?;
    anyhow::ensure!(store.get("providers").is_none_or(Value::is_object), "its providers are no object");
    Ok(store)
}

/// Other providers' logins stay; what is left of this one's goes, its pool of credentials included.
fn with_login(mut store: Map<String, Value>, login: &Value) -> Value {
    store.entry("version").or_insert(json!(1));
    store.entry("providers").or_insert(json!({}))[PROVIDER] = login.clone();
    if let Some(pool) = store.get_mut("credential_pool").and_then(Value::as_object_mut) {
        pool.remove(PROVIDER);
    }
    store.into()
}

/// Never over another without `over`.
fn write(path: &Path, bytes: &[u8], over: bool) -> anyhow::Result<()> {
    let written = if over { private_file::write(path, bytes) } else { private_file::write_new(path, bytes) };
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// Refuses a folder of another user: its agent could not read what is written, and its owner could lead us anywhere.
fn require_owner(folder: &Path, us: u32) -> anyhow::Result<()> {
    let owner = fs::metadata(folder).with_context(|| format!("cannot enter {}", folder.display()))?.uid();
    anyhow::ensure!(
        owner == us,
        "{} belongs to another user (of id {owner}), whose agent could not read its login: run this as that user, or \
         leave --home out, and hand over what is printed",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A folder that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("nas-cron-home-{:016x}", rand::random::<u64>())))
        }

        fn json(&self, name: &str) -> Value {
            serde_json::from_slice(&fs::read(self.0.join(name)).unwrap()).unwrap()
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
    fn a_new_home_is_made_for_its_owner_alone() {
        let scratch = Scratch::new();
        let written = Home::open(&scratch.0, false).unwrap().write(&json!({"a": 1}), "cron:\n").unwrap();
        assert_eq!(written.files.len(), 2);
        assert!(written.config_is_there.is_none());
        assert_eq!(scratch.json("auth.json"), json!({"version": 1, "providers": {"nous": {"a": 1}}}));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scratch.0), 0o700);
        assert!(written.files.iter().all(|file| mode(file) == 0o600));
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn existing_files_are_kept_unless_overwriting_is_requested() {
        let scratch = Scratch::new();
        Home::open(&scratch.0, false).unwrap().write(&json!({"a": 1}), "cron:\n").unwrap();
        let told = refused(&scratch.0, false);
        assert!(told.contains("auth.json is there already") && told.contains("--force"), "{told}");
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
            assert!(refused(&scratch.0, true).contains("move it away"), "{odd}");
        }
    }

    #[test]
    fn another_user_s_folder_is_refused() {
        let scratch = Scratch::new();
        Home::open(&scratch.0, false).unwrap();
        let us = geteuid().as_raw();
        require_owner(&scratch.0, us).unwrap();
        let told = require_owner(&scratch.0, us + 1).unwrap_err().to_string();
        assert!(told.contains("another user") && told.contains("leave --home out"), "{told}");
    }

    #[test]
    fn profiles_of_one_root_share_a_login() {
        let scratch = Scratch::new();
        let profile = scratch.0.join("profiles/one");
        fs::create_dir_all(scratch.0.join("shared")).unwrap();
        fs::write(scratch.0.join("shared/nous_auth.json"), "{}").unwrap();
        assert!(refused(&profile, false).contains("shared/nous_auth.json is there already"));
    }
}
