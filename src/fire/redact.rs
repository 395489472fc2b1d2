//! Redaction of echoed secrets. Some agents' frameworks return the whole request in the body of a 422. Secrets of the
//! request must not reach the operator's screen or a log (docs/contract.md#invariant-8-no-secrets-in-the-log).

use serde_json::Value;

const MARK: &str = "[redacted]";
/// Minimum length of a redacted string. Shorter strings are not useful secrets, and redacting them would garble the text.
const MIN_SECRET_BYTES: usize = 8;

/// Returns `text` with the fire token and all strings inside `auth` of the request body redacted.
pub(crate) fn redact(text: String, token: &str, request_body: &[u8]) -> String {
    if text.is_empty() {
        return text;
    }
    let mut secrets = vec![token.to_owned()];
    if let Ok(Value::Object(request)) = nas_cron_protocol::json::from_slice(request_body)
        && let Some(auth) = request.get("auth")
    {
        collect(auth, &mut secrets);
    }
    // A longer secret may contain a shorter one.
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.iter().filter(|secret| secret.len() >= MIN_SECRET_BYTES).fold(text, |text, secret| {
        if text.contains(secret.as_str()) { text.replace(secret.as_str(), MARK) } else { text }
    })
}

fn collect(value: &Value, secrets: &mut Vec<String>) {
    match value {
        Value::String(secret) => {
            // An echo inside JSON has the escaped form.
            let escaped = Value::String(secret.clone()).to_string();
            secrets.push(escaped[1..escaped.len() - 1].to_owned());
            secrets.push(secret.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, secrets)),
        Value::Object(fields) => fields.values().for_each(|field| collect(field, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoed_token_and_auth_are_redacted() {
        let request = br#"{"job_id":"abcdef123456","auth":{"key":"s3cret\"quoted","list":["another-secret"],"n":1,"s":"tiny"}}"#;
        let echo = r#"{"got":{"authorization":"Bearer eyJ.x.y","key":"s3cret\"quoted"},"a":"another-secret","job":"abcdef123456"} s3cret"quoted tiny"#;
        assert_eq!(
            redact(echo.to_owned(), "eyJ.x.y.z", request).replace("eyJ.x.y", ""),
            r#"{"got":{"authorization":"Bearer ","key":"[redacted]"},"a":"[redacted]","job":"abcdef123456"} [redacted] tiny"#,
        );
        assert_eq!(
            redact("Bearer eyJ.token.sig!".to_owned(), "eyJ.token.sig", request),
            "Bearer [redacted]!"
        );
    }

    #[test]
    fn token_is_redacted_even_if_the_request_is_not_a_json_object() {
        for request in [&b""[..], b"[]", b"{", b"{\"auth\":null}"] {
            assert_eq!(redact("my-token-1234".to_owned(), "my-token-1234", request), MARK);
        }
        assert_eq!(redact(String::new(), "", b""), "");
    }
}
