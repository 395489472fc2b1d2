//! The layers together, as in a deployment.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use clap::{Args, Command, FromArgMatches};

use super::*;

mod help;
mod layers;
mod printed;
mod problems;
mod rules;
mod secrets;

const DATABASE: &str = "postgres://nas:hunter2@db.internal/nas";
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A machine: command line, environment and files.
#[derive(Default)]
struct Machine {
    arguments: Vec<&'static str>,
    environment: Vec<(&'static str, &'static str)>,
    files: BTreeMap<&'static str, String>,
}

impl Machine {
    /// Returns a machine with the two settings that `serve` requires.
    fn sound() -> Self {
        Self {
            environment: vec![
                ("NAS_CRON_DATABASE_URL", DATABASE),
                ("NAS_CRON_PORTAL_URL", "https://portal.example/"),
            ],
            ..Self::default()
        }
    }

    fn arguments(mut self, arguments: &[&'static str]) -> Self {
        self.arguments.extend(arguments);
        self
    }

    fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    fn unset(mut self, name: &'static str) -> Self {
        self.environment.retain(|variable| variable.0 != name);
        self
    }

    fn file(mut self, path: &'static str, text: impl Into<String>) -> Self {
        self.files.insert(path, text.into());
        self
    }

    fn settings(&self) -> Settings {
        let command = Flags::<Everything>::augment_args(Command::new("serve").no_binary_name(true));
        let matches = command.try_get_matches_from(&self.arguments).unwrap();
        let flags = Flags::<Everything>::from_arg_matches(&matches).unwrap();
        let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into())).collect();
        flags.settings_from(environment, &|path: &Path| {
            let text = path.to_str().and_then(|path| self.files.get(path));
            text.cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn config(&self) -> Config {
        self.settings().config().unwrap()
    }

    fn error(&self) -> String {
        self.settings().config().unwrap_err().to_string()
    }

    fn value(&self, key: &str) -> String {
        let settings = self.settings();
        let setting = Setting::find(key).unwrap();
        let given = settings.effective(setting).unwrap();
        format!("{} from {}", given.shown(setting), given.origin)
    }
}
