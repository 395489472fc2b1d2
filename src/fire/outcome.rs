//! The meaning of a POST's result for the one-shot, the instance and the operator. Pure functions.
//!
//! | result | verdict | instance |
//! |---|---|---|
//! | 200 with `{"status":"gone"}` | gone | reached |
//! | 200 with `{"status":"gateway_stopped"}` | dropped | reached |
//! | 200 with `{"status":"duplicate"}` | duplicate | reached |
//! | any other 2xx; an unknown `status` is kept | delivered | reached |
//! | 502, 504 | retry, definite | unreachable |
//! | 503 | retry, definite | unknown |
//! | any other status, 3xx included | retry, definite | reached |
//! | name resolution, connection or TLS handshake failed | retry, definite | unreachable |
//! | request not processed by the server, address refused by the policy | retry, definite | unknown |
//! | timeout, broken connection or invalid response after sending | retry, ambiguous | unknown |

use std::time::Duration;

use serde::Deserialize;

use super::answer::{Answer, Refused};
use super::backoff::RetryKind;

/// Maximum length of a stored error text, in bytes.
pub const MAX_ERROR_BYTES: usize = 500;

/// Maximum length of a stored unknown `status` of a 2xx response, in bytes.
const MAX_STATUS_BYTES: usize = 100;

/// The meaning of one [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The consequence for the one-shot.
    pub verdict: Verdict,
    /// The reachability of the instance.
    pub reach: Reach,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The error as one line of at most [`MAX_ERROR_BYTES`]. `None` if there is nothing to retry, except by
    /// [`as_gone`](Self::as_gone).
    pub error: Option<String>,
    /// The `status` in the JSON body of a delivery, if it is an unknown one.
    pub answer: Option<String>,
}

/// The consequence of an attempt for its one-shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The agent accepted the fire.
    Delivered,
    /// The agent no longer has the job. There is nothing to retry, and the key is forgotten.
    Gone,
    /// The agent's gateway is stopped on purpose. There is nothing to retry, and the key is forgotten: the gateway
    /// provisions it again when it starts.
    Dropped,
    /// The agent refused the fire, because the job is running, paused or finished. Fired once more if the claim may be that
    /// of a process that died.
    Duplicate,
    /// The attempt failed and must be retried.
    Retry {
        /// The kind of the failure.
        kind: RetryKind,
        /// The agent's `Retry-After`, without a maximum.
        retry_after: Option<Duration>,
    },
}

/// The reachability of an instance after an attempt, for the one probe per unreachable instance
/// (docs/contract.md#retries).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The agent itself responded.
    Reached,
    /// The agent is unreachable: connecting failed, or a gateway reported it.
    Unreachable,
    /// Unknown. A 503, for example, may come from a gateway or from a draining agent.
    Unknown,
}

impl Outcome {
    /// Returns true if it starts or continues an outage of the instance.
    pub fn opens_outage(&self) -> bool {
        self.reach == Reach::Unreachable
    }

    /// Returns true if it ends an outage: the instance's other one-shots may be attempted again.
    pub fn closes_outage(&self) -> bool {
        self.reach == Reach::Reached
    }

    /// Returns the outcome of an attempt at the job's own callback after another callback answered `gone`: that answer
    /// stands, and this callback says nothing about the instance's reachability.
    #[must_use]
    pub fn as_gone(self) -> Self {
        Self { verdict: Verdict::Gone, reach: Reach::Unknown, ..self }
    }

    /// Returns true if the attempt failed.
    pub fn is_failure(&self) -> bool {
        matches!(self.verdict, Verdict::Retry { .. })
    }
}

/// Judges the result of a POST by the table at the top of this module.
pub fn judge(answer: &Answer) -> Outcome {
    match answer {
        Answer::Response { status, body, .. } if (200..300).contains(status) => {
            let (verdict, answer) = accepted(*status, body);
            Outcome { verdict, reach: Reach::Reached, status: Some(*status), error: None, answer }
        }
        Answer::Response { status, retry_after, body } => Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Definite, retry_after: *retry_after },
            reach: match status {
                502 | 504 => Reach::Unreachable,
                503 => Reach::Unknown,
                _ => Reach::Reached,
            },
            status: Some(*status),
            error: Some(
                Some(one_line(body))
                    .filter(|text| !text.is_empty())
                    .unwrap_or_else(|| format!("HTTP {status} without a body")),
            ),
            answer: None,
        },
        Answer::Refused(why) => Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Definite, retry_after: None },
            reach: match why {
                Refused::Dns(_) | Refused::Connect(_) | Refused::Tls(_) | Refused::Timeout => {
                    Reach::Unreachable
                }
                // The server was reachable, or the failure says nothing about the instance.
                Refused::Unprocessed(_) | Refused::Address(_) | Refused::Request(_) => Reach::Unknown,
            },
            status: None,
            error: Some(one_line(&why.to_string())),
            answer: None,
        },
        Answer::Ambiguous(why) => Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Ambiguous, retry_after: None },
            reach: Reach::Unknown,
            status: None,
            error: Some(one_line(&why.to_string())),
            answer: None,
        },
    }
}

/// Judges a 2xx response by the `status` in its body. Returns an unknown one, for the operator.
fn accepted(http_status: u16, body: &str) -> (Verdict, Option<String>) {
    #[derive(Deserialize)]
    struct Said {
        status: String,
    }
    let said = nas_cron_protocol::json::from_slice::<Said>(body.as_bytes())
        .map(|said| said.status)
        .unwrap_or_default();
    match (http_status, said.as_str()) {
        (200, "gone") => (Verdict::Gone, None),
        (200, "gateway_stopped") => (Verdict::Dropped, None),
        (200, "duplicate") => (Verdict::Duplicate, None),
        (_, "accepted") => (Verdict::Delivered, None),
        (_, unknown) => {
            let line = line_of(unknown, MAX_STATUS_BYTES);
            (Verdict::Delivered, Some(line).filter(|line| !line.is_empty()))
        }
    }
}

/// Returns `text` as one line of at most [`MAX_ERROR_BYTES`] that is safe to print. White space and control characters become
/// single spaces, characters that rearrange text in a terminal are removed, and the line is cut at a character boundary.
pub fn one_line(text: &str) -> String {
    line_of(text, MAX_ERROR_BYTES)
}

fn line_of(text: &str, max_bytes: usize) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()) {
        let end = line.len();
        line.extend(word.chars().filter(|c| !is_format_mark(*c)));
        if end > 0 && line.len() > end {
            line.insert(end, ' ');
        }
        if line.len() > max_bytes {
            break;
        }
    }
    line.truncate(line.floor_char_boundary(max_bytes));
    line.truncate(line.trim_end().len());
    line
}

/// Zero-width characters, bidirectional controls and the byte order mark.
fn is_format_mark(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::address_policy::AddressError;
    use super::super::answer::Ambiguous;
    use super::*;

    fn response(status: u16, body: &str) -> Answer {
        Answer::Response { status, retry_after: Some(Duration::from_secs(7)), body: body.to_owned() }
    }

    fn text() -> String {
        "why".to_owned()
    }

    #[test]
    fn every_status_follows_the_table() {
        let retry_after = Some(Duration::from_secs(7));
        let definite = Verdict::Retry { kind: RetryKind::Definite, retry_after };
        for status in 100..=599 {
            let outcome = judge(&response(status, "text"));
            let (verdict, opens, closes) = match status {
                200..=299 => (Verdict::Delivered, false, true),
                502 | 504 => (definite, true, false),
                503 => (definite, false, false),
                _ => (definite, false, true),
            };
            assert_eq!(outcome.verdict, verdict, "{status}");
            assert_eq!((outcome.opens_outage(), outcome.closes_outage()), (opens, closes), "{status}");
            assert_eq!(outcome.status, Some(status));
            assert_eq!(outcome.error.is_some(), outcome.is_failure(), "{status}");
        }
    }

    #[test]
    fn failure_after_another_callback_answered_gone_counts_as_gone() {
        let failure = judge(&response(502, "text"));
        let outcome = failure.clone().as_gone();
        assert_eq!(outcome.verdict, Verdict::Gone);
        assert!(!outcome.opens_outage() && !outcome.closes_outage());
        assert_eq!((outcome.status, outcome.error), (failure.status, failure.error));
    }

    #[test]
    fn every_failure_without_a_status_follows_the_table() {
        use RetryKind::{Ambiguous as A, Definite as D};
        for (answer, kind, opens) in [
            (Answer::Refused(Refused::Address(AddressError::PlainHttp)), D, false),
            (Answer::Refused(Refused::Request(text())), D, false),
            (Answer::Refused(Refused::Dns(text())), D, true),
            (Answer::Refused(Refused::Connect(text())), D, true),
            (Answer::Refused(Refused::Tls(text())), D, true),
            (Answer::Refused(Refused::Timeout), D, true),
            (Answer::Refused(Refused::Unprocessed(text())), D, false),
            (Answer::Ambiguous(Ambiguous::Timeout), A, false),
            (Answer::Ambiguous(Ambiguous::Broken(text())), A, false),
            (Answer::Ambiguous(Ambiguous::Malformed(text())), A, false),
        ] {
            let outcome = judge(&answer);
            assert_eq!(outcome.verdict, Verdict::Retry { kind, retry_after: None }, "{answer:?}");
            assert_eq!((outcome.opens_outage(), outcome.closes_outage()), (opens, false), "{answer:?}");
            assert_eq!(outcome.status, None);
            assert!(outcome.is_failure());
            assert!(outcome.error.is_some_and(|error| !error.is_empty()), "{answer:?}");
        }
    }

    #[test]
    fn only_a_200_with_a_known_status_is_another_outcome_than_delivered() {
        let judged = |status, body: &str| {
            let outcome = judge(&response(status, body));
            (outcome.verdict, outcome.answer)
        };
        for (word, verdict) in [
            ("gone", Verdict::Gone),
            ("gateway_stopped", Verdict::Dropped),
            ("duplicate", Verdict::Duplicate),
        ] {
            let body = format!("{{\"status\":\"{word}\"}}");
            assert_eq!(judged(200, &body), (verdict, None));
            assert_eq!(
                judged(200, &format!(" {{\"job_id\": \"x\", \"status\": \"{word}\"}}\n")),
                (verdict, None)
            );
            assert_eq!(judged(202, &body), (Verdict::Delivered, Some(word.to_owned())), "only with 200");
            assert!(judge(&response(404, &body)).is_failure());
        }
        for body in
            [r#"{"status":"accepted"}"#, r#"{"status":["gone"]}"#, r#"{"status":"gone""#, "gone", "", "[]"]
        {
            assert_eq!(judged(200, body), (Verdict::Delivered, None), "{body}");
        }
    }

    #[test]
    fn unknown_status_of_a_delivery_is_kept_as_a_short_line() {
        let kept = |status: &str| {
            let outcome = judge(&response(200, &serde_json::json!({ "status": status }).to_string()));
            assert_eq!((outcome.verdict, outcome.error), (Verdict::Delivered, None));
            outcome.answer
        };
        assert_eq!(kept("queued").as_deref(), Some("queued"));
        assert_eq!(kept("Gone").as_deref(), Some("Gone"), "the case counts");
        assert_eq!(kept(" a\n\u{1b}[2Jb ").as_deref(), Some("a [2Jb"));
        assert_eq!(kept(&"é".repeat(300)).unwrap().len(), MAX_STATUS_BYTES);
        assert_eq!(kept(&"word ".repeat(100)).unwrap().len(), 99, "a blank at the cut goes as well");
        assert_eq!(kept(" \n"), None);
    }

    #[test]
    fn error_is_one_short_line() {
        let error = |status, body: &str| judge(&response(status, body)).error.expect("an error");
        assert_eq!(error(500, "  boom\r\n\tat line\u{0}3\u{1b}[31m "), "boom at line 3 [31m");
        assert_eq!(error(401, "\u{202e}desrever\u{feff}"), "desrever");
        assert_eq!(error(400, "a \u{200b}\u{feff} b"), "a b", "nothing is left of the second word");
        assert_eq!(error(503, " \n"), "HTTP 503 without a body");
        assert_eq!(error(500, &"é".repeat(400)), "é".repeat(250));
        assert_eq!(error(500, &format!("a{}", "é".repeat(400))).len(), 499);
        assert_eq!(error(500, &"word ".repeat(200)).len(), 499, "a blank at the cut goes as well");
    }

    proptest! {
        #[test]
        fn any_body_becomes_one_printable_line(body in any::<String>()) {
            let line = one_line(&body);
            prop_assert!(line.len() <= MAX_ERROR_BYTES);
            prop_assert!(!line.chars().any(char::is_control));
            let words: Vec<&str> = line.split_whitespace().collect();
            prop_assert_eq!(words.join(" "), line);
        }
    }
}
