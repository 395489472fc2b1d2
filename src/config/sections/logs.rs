//! Logging.

use nas_cron_base::logging::{Log, LogFormat};

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values::{self, Choice};

impl Choice for LogFormat {
    const WORDS: &'static [&'static str] = &["auto", "pretty", "json"];
    const VALUES: &'static [Self] = &[Self::Auto, Self::Pretty, Self::Json];
}

settings! { Logs:
    LOG_FORMAT: Key<LogFormat> = "log_format", values::choice::<LogFormat>(),
        Preset::Value("auto"),
        "Format of log lines on stderr. `auto` is pretty on a terminal and JSON otherwise.";
    LOG_FILTER: Key<String> = "log_filter", values::LOG_FILTER,
        Preset::Value("info"),
        "Log level of the service, optionally per module, such as `info,nas_cron::fire=debug`. Operator commands log only with the flag, or with `RUST_LOG`.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Log {
    Log { format: reader.value(&LOG_FORMAT), filter: reader.value(&LOG_FILTER) }
}
