//! The table of settings as command-line flags.

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::key::DATABASE_URL;
use super::layers::{Settings, Sources};
use super::setting::{Kind, Section, Setting};
use super::table::SETTINGS;

/// Selects the settings that a subcommand accepts as flags. File and environment may always contain all of them.
pub trait Pick {
    /// True if the setting is accepted as a flag.
    fn takes(setting: &Setting) -> bool;
}

/// All settings: `serve`, `config show`.
#[derive(Clone, Copy, Debug)]
pub struct Everything;

impl Pick for Everything {
    fn takes(_: &Setting) -> bool {
        true
    }
}

/// Database and logging settings: `migrate` and similar commands.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseOnly;

impl Pick for DatabaseOnly {
    fn takes(setting: &Setting) -> bool {
        setting.is(DATABASE_URL.setting) || setting.section == Section::Logs
    }
}

/// Flags generated from the table. Add them to a subcommand with `#[command(flatten)]`. `Debug` shows only names, since
/// values may be secrets.
pub struct Flags<P> {
    config: Option<PathBuf>,
    given: Vec<(String, Vec<String>)>,
    picked: PhantomData<fn() -> P>,
}

impl<P> fmt::Debug for Flags<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.given.iter().map(|(key, _)| key)).finish()
    }
}

impl<P> Flags<P> {
    /// Gathers settings from these flags, the process's environment and the configuration file.
    pub fn settings(&self) -> Settings {
        self.settings_from(std::env::vars_os().collect(), &|path| std::fs::read_to_string(path))
    }

    /// Gathers settings from another environment and file system.
    pub fn settings_from(
        &self,
        environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
        read: &dyn Fn(&Path) -> std::io::Result<String>,
    ) -> Settings {
        let (flags, config) = (self.given.clone(), self.config.clone());
        Settings::gather(&Sources { flags, config, environment, read })
    }
}

impl<P: Pick> clap::Args for Flags<P> {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .help("Configuration file (TOML, `key = value`) [env: NAS_CRON_CONFIG]");
        command.arg(config).args(SETTINGS.iter().filter(|setting| P::takes(setting)).flat_map(args))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<P: Pick> clap::FromArgMatches for Flags<P> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let keys = SETTINGS.iter().filter(|setting| P::takes(setting)).flat_map(|setting| {
            let file = setting.secret.then(|| setting.file_key());
            [Some(setting.key.to_owned()), file].into_iter().flatten()
        });
        let given = keys
            .filter(|key| matches.value_source(key) == Some(ValueSource::CommandLine))
            .map(|key| {
                let values = matches.get_many::<String>(&key).into_iter().flatten().cloned().collect();
                (key, values)
            })
            .collect();
        Ok(Self { config: matches.get_one("config").cloned(), given, picked: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns the flag of a setting, and for a secret also the flag that names a file. Values stay text: they are parsed in
/// one place for all layers, so that all problems are reported at once.
fn args(setting: &Setting) -> impl Iterator<Item = Arg> {
    let heading = setting.section.title();
    let default = match setting.default_in_words() {
        words if words == "required" => "[required]".to_owned(),
        words => format!("[default: {words}]"),
    };
    let seen = if setting.secret {
        " Visible to other users of the machine in the process list; prefer the variable or the file."
    } else {
        ""
    };
    let own = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.kind.placeholder())
        .help_heading(heading)
        .hide_possible_values(true)
        .help(format!("{}{seen} [env: {}] {default}", setting.help, setting.env()));
    let own = match setting.kind {
        // Negative ones are refused with the reason.
        Kind::Duration { .. } | Kind::Count { .. } | Kind::Ratio => own.allow_hyphen_values(true),
        Kind::Switch => own.num_args(0..=1).require_equals(true).default_missing_value("true"),
        kind if kind.is_list() => own.action(ArgAction::Append),
        _ => own,
    };
    let file = setting.secret.then(|| {
        Arg::new(setting.file_key())
            .long(setting.file_key().replace('_', "-"))
            .value_name("FILE")
            .help_heading(heading)
            .help(format!("File that contains {} [env: {}_FILE]", setting.key, setting.env()))
    });
    [Some(own), file].into_iter().flatten()
}
