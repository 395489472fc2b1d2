//! Retention of fires and attempts.

use std::time::Duration;

use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

settings! { History:
    HISTORY_RETENTION: Key<Duration> = "history_retention", values::duration(values::HOUR, values::DECADE),
        Preset::Value("30d"),
        "How long the rows of fires and attempts are kept.";
}
