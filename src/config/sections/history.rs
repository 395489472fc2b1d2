//! Retention of the delivery history.

use std::time::Duration;

use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

settings! { History:
    HISTORY_RETENTION: Key<Duration> = "history_retention", values::duration(values::HOUR, values::DECADE),
        Preset::Value("30d"),
        "Retention period of the delivery history (fires and their attempts).";
    ERROR_TEXT_RETENTION: Key<Duration> = "error_text_retention", values::duration(values::HOUR, values::DECADE),
        Preset::Derived { from: HISTORY_RETENTION.setting, suffix: "", unless: None },
        "Time after which the texts of agents' error responses are erased from one-shots and from the history. Status and outcome stay.";
}
