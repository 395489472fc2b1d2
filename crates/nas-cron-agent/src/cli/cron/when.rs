//! Instants for people: given as an instant or as a wait, shown as both.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, UsageError, relative};
use nas_cron_protocol::FireAt;

use crate::client::fire_time;

/// When a job is to fire.
#[derive(Debug, Args)]
pub(super) struct WhenArgs {
    /// At this instant: ISO 8601 with an offset. It is sent, and comes back in the fire, byte for byte as typed.
    #[arg(long, value_name = "ISO", value_parser = fire_time::at)]
    at: Option<FireAt>,
    /// So long from now, such as 90s, 15m, or `1h 30m`.
    #[arg(long = "in", value_name = "DURATION", value_parser = humantime::parse_duration, conflicts_with = "at")]
    wait: Option<Duration>,
}

impl WhenArgs {
    /// The instant that was asked for, if one was.
    pub(super) fn fire_at(&self, now: DateTime<Utc>) -> Result<Option<FireAt>, UsageError> {
        match (&self.at, self.wait) {
            (Some(at), _) => Ok(Some(at.clone())),
            (None, Some(wait)) => {
                fire_time::after(now, wait).map(Some).map_err(|why| UsageError::new(format!("--in {why}")))
            }
            (None, None) => Ok(None),
        }
    }
}

/// "in 90 s, 14:02:05 +02:00": in the offset that it was written with, with its date where that is not today's.
pub(super) fn told(now: DateTime<Utc>, fire_at: &str) -> String {
    // A server of another kind may send what we cannot read: shown as it came.
    let Ok(parsed) = FireAt::parse(fire_at) else { return terminal::printable(fire_at) };
    let local = parsed.instant().with_timezone(&offset_of(fire_at));
    let form = if local.date_naive() == now.with_timezone(local.offset()).date_naive() {
        "%T %:z"
    } else {
        "%F %T %:z"
    };
    format!("{}, {}", relative(now, parsed.instant()), local.format(form))
}

/// The offset that a text was written with; UTC where it is in one of the rarer forms.
fn offset_of(fire_at: &str) -> FixedOffset {
    let parsed = DateTime::parse_from_rfc3339(fire_at).ok();
    parsed.map_or_else(|| chrono::Offset::fix(&Utc), |parsed| *parsed.offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_told_from_here_and_by_its_own_clock() {
        let now: DateTime<Utc> = "2026-06-18T12:00:35Z".parse().unwrap();
        let told = |text| told(now, text);
        insta::assert_snapshot!(told("2026-06-18T14:02:05+02:00"), @"in 1 min 30 s, 14:02:05 +02:00");
        insta::assert_snapshot!(told("2026-06-18T12:00:35.9Z"), @"now, 12:00:35 +00:00");
        insta::assert_snapshot!(told("2026-06-19T09:30:00+02:00"), @"in 19 h 29 min, 2026-06-19 09:30:00 +02:00");
        insta::assert_snapshot!(told("2026-06-17T12:00:35-05:00"), @"19 h ago, 2026-06-17 12:00:35 -05:00");
        insta::assert_snapshot!(told("20260618T120135Z"), @"in 1 min, 12:01:35 +00:00");
        insta::assert_snapshot!(told("soon\u{1b}[2J"), @"soon [2J");
    }
}
