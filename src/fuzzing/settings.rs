//! The configuration file.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{Settings, Sources};

const SECRET: &str = "hunter2-hunter2";
/// The line between the configuration file and the other files that it names.
const NEXT_FILE: &str = "\n---\n";

/// A configuration file, and after a line `---` the text of every file that it names.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (file, others) = text.split_once(NEXT_FILE).unwrap_or((&text, ""));
    let read = |path: &Path| {
        if path == Path::new("nas-cron.toml") {
            Ok(file.to_owned())
        } else if others.is_empty() {
            Err(io::Error::from(io::ErrorKind::NotFound))
        } else {
            Ok(others.to_owned())
        }
    };
    let variable = |name: &str, value: String| (name.into(), value.into());
    let sources = Sources {
        flags: Vec::new(),
        config: Some(PathBuf::from("nas-cron.toml")),
        environment: vec![
            variable("NAS_CRON_DATABASE_URL", format!("postgres://nas:{SECRET}@db.internal/nas")),
            variable("NAS_CRON_QSTASH_TOKEN", SECRET.to_owned()),
        ],
        read: &read,
    };
    let settings = Settings::gather(&sources);
    let shown = format!("{settings:?}");
    let problems = settings.config().err().map(|error| error.to_string());
    assert!(problems.as_ref().is_none_or(|text| !text.is_empty()));
    let _ = (settings.database(), settings.backends(), settings.log());
    if !text.contains(SECRET) {
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(problems.is_none_or(|text| !text.contains(SECRET)));
    }
}
