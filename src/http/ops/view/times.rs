//! Instants as HTML, and in texts that are stored until a page shows them.

use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_base::terminal::{relative, span};

use super::html::Html;

/// An instant: relative to now, and in UTC. The script adds the local time.
pub(in crate::http::ops) fn when(at: DateTime<Utc>, now: DateTime<Utc>) -> Html {
    time("when", at, &relative(now, at))
}

/// The beginning of a state that lasts: "for 10 min", and the instant in UTC.
pub(in crate::http::ops) fn lasting(since: DateTime<Utc>, now: DateTime<Utc>) -> Html {
    time("when lasting", since, &format!("for {}", span(now - since)))
}

fn time(class: &str, at: DateTime<Utc>, relative: &str) -> Html {
    let machine = machine(at);
    let utc = at.format("%Y-%m-%d %H:%M:%S%.3f");
    Html::built(format!(
        "<time class=\"{class}\" datetime=\"{machine}\"><span class=\"rel\">{relative}</span> \
         <span class=\"utc\">{utc}&nbsp;UTC</span></time>"
    ))
}

/// An instant that may be missing.
pub(in crate::http::ops) fn when_any(at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Html {
    at.map_or_else(Html::dash, |at| when(at, now))
}

/// An instant within a text that is stored: [`super::with_times`] shows it as a time.
pub(in crate::http::ops) fn stored(at: DateTime<Utc>) -> String {
    format!("`{}`", machine(at))
}

/// Reads what [`stored`] has written between its backticks; `None` for anything else.
pub(super) fn read(text: &str) -> Option<DateTime<Utc>> {
    let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
    (machine(at) == text).then_some(at)
}

fn machine(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn stored_instant_is_read_and_nothing_else() {
        let at = DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_500);
        assert_eq!(stored(at), "`1970-01-01T00:00:01.500Z`");
        assert_eq!(read(stored(at).trim_matches('`')), Some(at));
        for other in ["1970-01-01T00:00:01Z", "1970-01-01T00:00:01.500+00:00", "nas-cron jobs list", ""] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
