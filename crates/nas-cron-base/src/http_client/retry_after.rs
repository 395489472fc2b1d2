//! `Retry-After`, RFC 9110 section 10.2.3: seconds, or a date in one of three formats.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// Returns the delay that the sender of `headers` asks for, or `None` if the header is missing or invalid.
///
/// A date is compared with the response's own `Date`, which cancels out an error of the sender's clock; without `Date`,
/// it is compared with `now`. A date in the past is a delay of zero.
pub fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that overflows is the longest delay.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let sent = headers.get(DATE).and_then(|date| http_date(date.to_str().ok()?.trim()));
    let delay = http_date(value)? - sent.unwrap_or(now);
    Some(delay.to_std().unwrap_or_default())
}

/// An HTTP-date, RFC 9110 section 5.6.7: the preferred format or one of the two obsolete ones.
fn http_date(text: &str) -> Option<DateTime<Utc>> {
    httpdate::parse_http_date(text).ok().map(DateTime::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> DateTime<Utc> {
        "1994-11-06T08:49:00Z".parse().unwrap()
    }

    fn parsed(retry_after_value: &str, date: Option<&str>) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after_value.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        retry_after(&headers, now())
    }

    #[test]
    fn seconds_and_dates_are_parsed() {
        for (value, date, seconds) in [
            ("0", None, Some(0)),
            ("120", None, Some(120)),
            (" 60 ", None, Some(60)),
            ("99999999999999999999999999", None, Some(u64::MAX)),
            // The three date formats of RFC 9110, 37 s from now.
            ("Sun, 06 Nov 1994 08:49:37 GMT", None, Some(37)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", None, Some(37)),
            ("Sun Nov  6 08:49:37 1994", None, Some(37)),
            // The sender's clock is an hour off, in both headers.
            ("Sun, 06 Nov 1994 09:49:37 GMT", Some("Sun, 06 Nov 1994 09:49:07 GMT"), Some(30)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some("nonsense"), Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", None, Some(0)),
            ("-5", None, None),
            ("1.5", None, None),
            ("soon", None, None),
            ("", None, None),
            ("Mon, 06 Nov 1994 08:49:37 GMT", None, None),
        ] {
            assert_eq!(parsed(value, date), seconds.map(Duration::from_secs), "{value:?} {date:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now()), None);
    }
}
