//! What an answer means for the one-shot, for the instance, and for the operator. Pure.
//!
//! | answer | verdict | instance |
//! |---|---|---|
//! | 200 with `{"status":"gone"}` | gone | reached |
//! | any other 2xx | delivered | reached |
//! | 502, 504 | retry, definite | unreachable |
//! | 503 | retry, definite | unknown |
//! | any other status, 3xx included | retry, definite | reached |
//! | no name, no connection, no TLS | retry, definite | unreachable |
//! | turned away unprocessed, an address that is not dialled | retry, definite | unknown |
//! | time up, broken or malformed after sending | retry, ambiguous | unknown |

use std::time::Duration;

use serde::Deserialize;

use super::answer::{Answer, Refused};
use super::backoff::RetryKind;

/// The longest error text kept for the operator, in bytes.
pub const MAX_ERROR_BYTES: usize = 500;

/// The meaning of one [`Answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What becomes of the one-shot.
    pub verdict: Verdict,
    /// What it says about the instance.
    pub reach: Reach,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// Why it was not accepted: at most [`MAX_ERROR_BYTES`] of one line of text. `None` exactly when it was.
    pub error: Option<String>,
}

/// What becomes of a one-shot after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The agent has accepted it.
    Delivered,
    /// Delivered too: the agent no longer has the job, so the key may be forgotten.
    Gone,
    /// It has to be tried again.
    Retry {
        /// Whether the agent may have got it all the same.
        kind: RetryKind,
        /// How long the agent asked us to stay away, uncapped.
        retry_after: Option<Duration>,
    },
}

/// What an attempt says about the instance behind it, for the one probe per instance of docs/contract.md#retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The agent itself answered.
    Reached,
    /// Nobody was there: no connection, or a gateway that says so.
    Unreachable,
    /// Neither can be said. A 503 may be the gateway's or the agent's own (draining).
    Unknown,
}

impl Outcome {
    /// Whether it starts (or continues) an outage of the whole instance.
    pub fn opens_outage(&self) -> bool {
        self.reach == Reach::Unreachable
    }

    /// Whether it ends an outage: the instance's other one-shots may be tried again.
    pub fn closes_outage(&self) -> bool {
        self.reach == Reach::Reached
    }

    /// Whether the one-shot is done with.
    pub fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Delivered | Verdict::Gone)
    }
}

/// Judges an answer. See the table at the top of the module.
pub fn judge(answer: &Answer) -> Outcome {
    match answer {
        Answer::Response { status, body, .. } if (200..300).contains(status) => Outcome {
            verdict: if *status == 200 && says_gone(body) { Verdict::Gone } else { Verdict::Delivered },
            reach: Reach::Reached,
            status: Some(*status),
            error: None,
        },
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
        },
        Answer::Refused(why) => Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Definite, retry_after: None },
            reach: match why {
                Refused::Dns(_) | Refused::Connect(_) | Refused::Tls(_) | Refused::Timeout => {
                    Reach::Unreachable
                }
                // Somebody was there; or it is our own doing, which says nothing about the instance.
                Refused::Unprocessed(_) | Refused::Address(_) | Refused::Request(_) => Reach::Unknown,
            },
            status: None,
            error: Some(one_line(&why.to_string())),
        },
        Answer::Ambiguous(why) => Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Ambiguous, retry_after: None },
            reach: Reach::Unknown,
            status: None,
            error: Some(one_line(&why.to_string())),
        },
    }
}

fn says_gone(body: &str) -> bool {
    #[derive(Deserialize)]
    struct Status {
        status: String,
    }
    serde_json::from_str::<Status>(body).is_ok_and(|answer| answer.status == "gone")
}

/// One line that is safe to print: white space and control characters become single blanks, marks that
/// rearrange text in a terminal are dropped, and it is cut at a character boundary.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word.chars().filter(|c| !is_format_mark(*c)));
        if line.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    line.truncate(line.floor_char_boundary(MAX_ERROR_BYTES));
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
    fn every_status_has_its_row() {
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
            assert_eq!(outcome.error.is_none(), outcome.is_accepted(), "{status}");
        }
    }

    #[test]
    fn every_end_without_a_status_has_its_row() {
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
            assert!(!outcome.is_accepted());
            assert!(outcome.error.is_some_and(|error| !error.is_empty()), "{answer:?}");
        }
    }

    #[test]
    fn gone_is_a_200_that_says_so() {
        for (status, body, verdict) in [
            (200, r#"{"status":"gone"}"#, Verdict::Gone),
            (200, " {\"job_id\": \"x\", \"status\": \"gone\"}\n", Verdict::Gone),
            (202, r#"{"status":"gone"}"#, Verdict::Delivered),
            (200, r#"{"status":"accepted"}"#, Verdict::Delivered),
            (200, r#"{"status":["gone"]}"#, Verdict::Delivered),
            (200, r#"{"status":"gone""#, Verdict::Delivered),
            (200, "gone", Verdict::Delivered),
            (200, "", Verdict::Delivered),
        ] {
            assert_eq!(judge(&response(status, body)).verdict, verdict, "{status} {body}");
        }
        assert!(!judge(&response(404, r#"{"status":"gone"}"#)).is_accepted());
    }

    #[test]
    fn the_operator_gets_one_short_line() {
        let error = |status, body: &str| judge(&response(status, body)).error.expect("an error");
        assert_eq!(error(500, "  boom\r\n\tat line\u{0}3\u{1b}[31m "), "boom at line 3 [31m");
        assert_eq!(error(401, "\u{202e}desrever\u{feff}"), "desrever");
        assert_eq!(error(503, " \n"), "HTTP 503 without a body");
        assert_eq!(error(500, &"é".repeat(400)), "é".repeat(250));
        assert_eq!(error(500, &format!("a{}", "é".repeat(400))).len(), 499);
        assert_eq!(error(500, &"word ".repeat(200)).len(), 499, "a blank at the cut goes as well");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_printable_line(body in any::<String>()) {
            let line = one_line(&body);
            prop_assert!(line.len() <= MAX_ERROR_BYTES);
            prop_assert!(!line.chars().any(char::is_control));
            prop_assert_eq!(line.trim(), line.as_str());
        }
    }
}
