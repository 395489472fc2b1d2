//! Answers of agents.

use std::time::Duration;

use chrono::DateTime;
use nas_cron_base::http_client;
use reqwest::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};

use super::first_line;
use crate::fire::answer::Answer;
use crate::fire::backoff::{Next, RetryKind, RetryPolicy};
use crate::fire::client::MAX_BODY_BYTES;
use crate::fire::outcome::{MAX_ERROR_BYTES, Verdict, judge};
use crate::fire::redact::redact;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2lnbmF0dXJl";
const REQUEST: &[u8] = br#"{"job_id":"job-1","auth":["claude:work-account"]}"#;

/// `Retry-After` in the first line, and `Date` in the second.
pub fn retry_after(data: &[u8]) {
    let (value, rest) = first_line(data);
    let mut headers = HeaderMap::new();
    for (name, value) in [(RETRY_AFTER, value), (DATE, first_line(rest).0)] {
        if let (false, Ok(value)) = (value.is_empty(), HeaderValue::from_bytes(value)) {
            headers.insert(name, value);
        }
    }
    let now = DateTime::from_timestamp(1_800_000_000, 0).expect("a time");
    let asked = http_client::retry_after(&headers, now);
    let policy = RetryPolicy {
        definite_base: Duration::from_secs(1),
        ambiguous_floor: Duration::from_mins(2),
        cap: Duration::from_hours(1),
        give_up_after: Duration::from_hours(24),
    };
    let attempts = u32::try_from(data.len()).unwrap_or(u32::MAX);
    for kind in [RetryKind::Definite, RetryKind::Ambiguous] {
        match policy.next(attempts, kind, asked, Duration::from_mins(1), 0.5) {
            Next::After(delay) => {
                assert!(delay >= asked.unwrap_or_default().min(policy.cap), "{asked:?}: {delay:?}");
                assert!(delay <= policy.cap, "{asked:?}: {delay:?}");
            }
            Next::GiveUp => panic!("{asked:?} spends the budget of a day"),
        }
    }
}

/// The status of an answer in the first two bytes, and its body.
pub fn agent_answer(data: &[u8]) {
    let Some((status, body)) = data.split_first_chunk::<2>() else { return };
    let status = 100 + u16::from_be_bytes(*status) % 900;
    let body = &body[..body.len().min(MAX_BODY_BYTES)];
    let body = redact(String::from_utf8_lossy(body).into_owned(), TOKEN, REQUEST);
    assert!(!body.contains(TOKEN) && !body.contains("claude:work-account"), "{body}");
    let outcome = judge(&Answer::Response { status, retry_after: None, body });
    assert_eq!(outcome.is_failure(), !(200..300).contains(&status));
    let ends = matches!(outcome.verdict, Verdict::Gone | Verdict::Dropped | Verdict::Duplicate);
    assert!(!ends || status == 200, "{outcome:?}");
    for text in outcome.error.iter().chain(&outcome.answer) {
        assert!(!text.is_empty() && text.len() <= MAX_ERROR_BYTES, "{outcome:?}");
        let odd = |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}');
        let words: Vec<&str> = text.split_whitespace().collect();
        assert!(!text.contains(odd) && words.join(" ") == *text, "{outcome:?}");
    }
}
