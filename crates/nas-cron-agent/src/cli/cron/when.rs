//! Instants for people: given as an instant or a duration, printed as both.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, UsageError, relative};
use nas_cron_protocol::{FireAt, Given, date_time};

use crate::cli::connection::note;
use crate::client::fire_time::{self, Typed};

/// Options for the time of the fire.
#[derive(Debug, Args)]
pub(super) struct WhenArgs {
    /// Fire at this instant: ISO 8601 with an offset. The text is sent, and returned in the fire, byte for byte as typed.
    /// Without an offset, it gets that of this machine's time zone, and the command reports it.
    #[arg(long, value_name = "ISO", allow_hyphen_values = true, value_parser = fire_time::at_or_local)]
    at: Option<Typed>,
    /// Fire after this duration, such as 90s, 15m, `1h 30m` or 30d.
    #[arg(long = "in", value_name = "DURATION", allow_hyphen_values = true, value_parser = fire_time::duration, conflicts_with = "at")]
    wait: Option<Duration>,
}

impl WhenArgs {
    /// Returns the requested instant, or `None` if neither option is given.
    pub(super) fn fire_at(&self, now: DateTime<Utc>) -> Result<Option<FireAt>, UsageError> {
        match (&self.at, self.wait) {
            (Some(at), _) => Ok(Some(reported("--at", at).clone())),
            (None, Some(wait)) => fire_time::after(now, wait)
                .map(Some)
                .map_err(|problem| UsageError::new(format!("--in {problem}"))),
            (None, None) => Ok(None),
        }
    }
}

/// Option for the latest start of an attempt.
#[derive(Debug, Args)]
pub(super) struct LimitArgs {
    /// Start no attempt after this instant, as with --at, or `none` [default: an armed one-shot keeps its limit, a new one
    /// has none].
    #[arg(long, value_name = "ISO", allow_hyphen_values = true, value_parser = limit)]
    not_after: Option<Given<Typed>>,
}

impl LimitArgs {
    /// Returns the limit as it is sent.
    pub(super) fn given(&self) -> Given<String> {
        match &self.not_after {
            None | Some(Given::Keep) => Given::Keep,
            Some(Given::Clear) => Given::Clear,
            Some(Given::Set(at)) => Given::Set(reported("--not-after", at).as_str().to_owned()),
        }
    }
}

fn limit(text: &str) -> Result<Given<Typed>, String> {
    if text == "none" {
        return Ok(Given::Clear);
    }
    fire_time::at_or_local(text).map(Given::Set)
}

/// Reports an added offset on stderr.
fn reported<'a>(option: &str, typed: &'a Typed) -> &'a FireAt {
    if typed.zone_added {
        let at = typed.fire_at.as_str();
        note(&format!("{option} has no offset: taken in this machine's time zone, as {at}"));
    }
    &typed.fire_at
}

/// Describes the next fire of a job that is armed for this instant: "it fires in 5 min, 14:02:05 +02:00".
pub(super) fn next_fire(now: DateTime<Utc>, fire_at: &str) -> String {
    let when = format_instant(now, fire_at);
    match FireAt::parse(fire_at) {
        Ok(parsed) if parsed.instant() + TimeDelta::seconds(1) <= now => {
            format!("its time has passed, so it fires now (it was due {when})")
        }
        _ => format!("it fires {when}"),
    }
}

/// Formats an instant in its own offset: "in 1 min 30 s, 14:02:05 +02:00". The date is included unless it is today.
pub(super) fn format_instant(now: DateTime<Utc>, fire_at: &str) -> String {
    // Another server may send a form that does not parse here: print it unchanged.
    let Ok(local) = date_time::parse(fire_at) else { return terminal::printable(fire_at) };
    let form = if local.date_naive() == now.with_timezone(local.offset()).date_naive() {
        "%T %:z"
    } else {
        "%F %T %:z"
    };
    format!("{}, {}", relative(now, local.to_utc()), local.format(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_instant_fires_now() {
        let now: DateTime<Utc> = "2026-06-18T12:00:35Z".parse().unwrap();
        let next = |text| next_fire(now, text);
        insta::assert_snapshot!(next("2019-07-22T12:00:00Z"), @"its time has passed, so it fires now (it was due 2523 d ago, 2019-07-22 12:00:00 +00:00)");
        insta::assert_snapshot!(next("2026-06-18T14:00:34+02:00"), @"its time has passed, so it fires now (it was due 1 s ago, 14:00:34 +02:00)");
        insta::assert_snapshot!(next("2026-06-18T12:00:35Z"), @"it fires now, 12:00:35 +00:00");
        insta::assert_snapshot!(next("2026-06-18T12:01:35Z"), @"it fires in 1 min, 12:01:35 +00:00");
    }

    #[test]
    fn instants_are_printed_relative_and_in_their_own_offset() {
        let now: DateTime<Utc> = "2026-06-18T12:00:35Z".parse().unwrap();
        let formatted = |text| format_instant(now, text);
        insta::assert_snapshot!(formatted("2026-06-18T14:02:05+02:00"), @"in 1 min 30 s, 14:02:05 +02:00");
        insta::assert_snapshot!(formatted("2026-06-18T12:00:35.9Z"), @"now, 12:00:35 +00:00");
        insta::assert_snapshot!(formatted("2026-06-19T09:30:00+02:00"), @"in 19 h 29 min, 2026-06-19 09:30:00 +02:00");
        insta::assert_snapshot!(formatted("2026-06-17T12:00:35-05:00"), @"19 h ago, 2026-06-17 12:00:35 -05:00");
        insta::assert_snapshot!(formatted("2026-06-18 14:01:35+02"), @"in 1 min, 14:01:35 +02:00");
        insta::assert_snapshot!(formatted("soon\u{1b}[2J"), @"soon [2J");
    }
}
