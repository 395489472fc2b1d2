//! What of the configuration is printed: the values that hold, the README's table, the example file.

use std::fmt::Write;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Map, Value, json};

use super::layers::Settings;
use super::setting::{Kind, Preset, Setting};
use super::table::SETTINGS;

/// The values that hold and where they come from, for people. Secrets as `***`.
pub fn table(settings: &Settings) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(["SETTING", "VALUE", "FROM"]);
    for setting in SETTINGS {
        let given = settings.effective(setting);
        let origin = given.as_ref().map_or_else(String::new, |given| given.origin.to_string());
        let value = given.map_or_else(
            || match setting.default {
                Preset::Unset { means, .. } => format!("({means})"),
                Preset::Derived { unless: Some(other), .. } if settings.is_given(other) => {
                    format!("(unused: {})", other.key)
                }
                _ => "(not set)".to_owned(),
            },
            |given| given.shown(setting),
        );
        table.add_row([setting.key, &value, &origin]);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// The same for machines: `{"<key>": {"value": …, "origin": …}}`; `null` where nothing is set, lists as arrays.
pub fn json(settings: &Settings) -> Value {
    let entry = |setting: &Setting| {
        let given = settings.effective(setting);
        let origin = given.as_ref().map(|given| given.origin.to_string());
        let value = given.map(|given| {
            let shown = given.shown(setting);
            if setting.kind.is_list() && !setting.secret {
                json!(shown.split(',').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>())
            } else {
                typed(setting.kind, &shown)
            }
        });
        json!({ "value": value, "origin": origin })
    };
    SETTINGS.iter().map(|setting| (setting.key.to_owned(), entry(setting))).collect::<Map<_, _>>().into()
}

fn typed(kind: Kind, text: &str) -> Value {
    match kind {
        Kind::Count { .. } => text.parse::<u64>().map_or_else(|_| json!(text), |count| json!(count)),
        Kind::Switch => super::parse::switch(text).map_or_else(|_| json!(text), |switch| json!(switch)),
        _ => json!(text),
    }
}

/// The README's table of settings.
pub fn markdown() -> String {
    let mut text = String::from("| Variable | Default | What it is |\n|---|---|---|\n");
    for setting in SETTINGS {
        let default = match setting.default {
            Preset::Value(_) | Preset::Derived { .. } => format!("`{}`", setting.default_in_words()),
            Preset::Required { .. } => "**required**".to_owned(),
            Preset::Unset { means, .. } => format!("*{means}*"),
        };
        let file = if setting.secret { format!(" (or `{}_FILE`)", setting.env()) } else { String::new() };
        let choices = match setting.kind {
            Kind::Choice(words) => format!(" One of {}.", words.join(", ")),
            kind if kind.is_list() => " A list: commas between, an array in TOML.".to_owned(),
            _ => String::new(),
        };
        let help = setting.help.replace('|', "\\|");
        writeln!(text, "| `{}`{file} | {default} | {help}{choices} |", setting.env())
            .expect("a String takes all that is written to it");
    }
    text
}

/// `nas-cron.example.toml`: every setting, commented out, with its default or an example.
pub fn example() -> String {
    let mut text = String::from(
        "# Configuration of `nas-cron serve --config FILE` (or NAS_CRON_CONFIG=FILE). Generated from the table of\n\
         # settings by `nas-cron config example`. Every line is optional but those marked as required: what is\n\
         # commented out shows the default, or an example where there is none. The environment wins over this\n\
         # file (NAS_CRON_<KEY>), and flags (--<key>) win over both. Durations: 500ms, 30s, 5m, 12h, 90d.\n\
         # `nas-cron config show` prints what holds, and where it comes from.\n",
    );
    let mut section = None;
    for setting in SETTINGS {
        if section.replace(setting.section) != Some(setting.section) {
            write_line(&mut text, &format!("\n# ── {} ──", setting.section.title()));
        }
        text.push('\n');
        for line in wrapped(setting.help, 107) {
            write_line(&mut text, &format!("# {line}"));
        }
        let value = match setting.default {
            Preset::Value(value) => toml_of(setting.kind, value),
            Preset::Required { example } => {
                write_line(&mut text, "# Required.");
                toml_of(setting.kind, example)
            }
            Preset::Unset { means, example } => {
                write_line(&mut text, &format!("# Unset: {means}."));
                toml_of(setting.kind, example)
            }
            Preset::Derived { .. } => {
                write_line(&mut text, &format!("# Default: {}", setting.default_in_words()));
                toml_of(setting.kind, "https://…")
            }
        };
        write_line(&mut text, &format!("#{} = {value}", setting.key));
        if setting.secret {
            write_line(&mut text, &format!("#{} = \"/run/secrets/{}\"", setting.file_key(), setting.key));
        }
    }
    text
}

fn write_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn toml_of(kind: Kind, text: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    match kind {
        Kind::Count { .. } | Kind::Switch => text.to_owned(),
        kind if kind.is_list() => {
            format!("[{}]", text.split(',').map(quoted).collect::<Vec<_>>().join(", "))
        }
        _ => quoted(text),
    }
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
