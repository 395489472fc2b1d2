//! Agents echo what they got into their error pages: some frameworks answer a 422 with the whole input.
//! What they echo of our secrets must not reach the operator's screen or a log
//! (docs/contract.md#invariant-8-no-secrets-in-the-log).

use serde_json::Value;

const MARK: &str = "[redacted]";
/// Shorter strings are no secrets worth the name, and cutting them out would garble the text.
const MIN_SECRET_BYTES: usize = 8;

/// `text` without the fire token, and without any string inside the `auth` of the request body.
pub(crate) fn redact(text: String, token: &str, request_body: &[u8]) -> String {
    if text.is_empty() {
        return text;
    }
    let mut secrets = vec![token.to_owned()];
    if let Ok(Value::Object(request)) = serde_json::from_slice(request_body)
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
            // An echo inside JSON is the escaped form.
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
    fn an_echo_of_the_token_or_of_auth_is_cut_out() {
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
    fn a_body_that_is_no_json_object_still_loses_the_token() {
        for request in [&b""[..], b"[]", b"{", b"{\"auth\":null}"] {
            assert_eq!(redact("my-token-1234".to_owned(), "my-token-1234", request), MARK);
        }
        assert_eq!(redact(String::new(), "", b""), "");
    }
}
