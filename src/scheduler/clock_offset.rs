//! Logs the offset between this machine's clock and the database's when it becomes large, changes, or becomes small again.

use chrono::TimeDelta;
use tracing::{info, warn};

use crate::db_clock::Offset;

/// Minimum change of a large offset that is logged again.
const CHANGE: TimeDelta = TimeDelta::seconds(5);

/// The last offset that was logged, while the offset is large.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OffsetLog(Option<TimeDelta>);

/// A log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    /// The offset is large, and was not or has changed.
    Large,
    /// The offset is tolerable again.
    Over,
}

impl OffsetLog {
    /// Logs an offset if it differs from the last one that was logged. Returns true if the offset is then tolerable again,
    /// false if it is large, and `None` if nothing was logged.
    pub(super) fn note(&mut self, offset: &Offset) -> Option<bool> {
        let offset_s = offset.ahead.as_seconds_f64();
        match self.judge(offset) {
            Some(Line::Large) => {
                warn!(
                    offset_s,
                    "local clock differs from the database's clock; tokens and fires use the database's; set both with NTP"
                );
                Some(false)
            }
            Some(Line::Over) => {
                info!(offset_s, "local clock agrees with the database's clock again");
                Some(true)
            }
            None => None,
        }
    }

    fn judge(&mut self, offset: &Offset) -> Option<Line> {
        match self.0 {
            Some(_) if !offset.is_large() => {
                self.0 = None;
                Some(Line::Over)
            }
            Some(last) if (offset.ahead - last).abs() <= CHANGE => None,
            None if !offset.is_large() => None,
            _ => {
                self.0 = Some(offset.ahead);
                Some(Line::Large)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_offset_is_logged_once_at_a_change_and_at_its_end() {
        let mut log = OffsetLog::default();
        for (ahead, line) in [
            (0, None),
            (5, None),
            (90, Some(Line::Large)),
            (90, None),
            (94, None),
            (-90, Some(Line::Large)),
            (-88, None),
            (4, Some(Line::Over)),
            (0, None),
        ] {
            let offset = Offset { ahead: TimeDelta::seconds(ahead), uncertainty: TimeDelta::milliseconds(1) };
            assert_eq!(log.judge(&offset), line, "{ahead} s");
        }
    }
}
