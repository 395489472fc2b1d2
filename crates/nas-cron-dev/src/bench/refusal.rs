//! Advice for a service that does not accept the first one-shot.

use reqwest::StatusCode;

use super::agent_api::CallError;

/// Explains why the service did not accept the first one-shot.
pub(super) fn explained(error: anyhow::Error) -> anyhow::Error {
    let advice = match error.downcast_ref::<CallError>() {
        Some(CallError::Refused(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => {
            "the service does not admit this agent: check its token (its issuer, expiry and agent)"
        }
        Some(CallError::Refused(StatusCode::BAD_REQUEST, _)) => {
            "the service does not accept the bench's one-shots: it must allow callbacks to 127.0.0.1 (callback_allow)"
        }
        Some(CallError::NoResponse(_)) => "the service is unreachable: check its URL, and that it runs",
        _ => "the service is not ready",
    };
    error.context(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_explained() {
        let refused =
            |status| anyhow::Error::new(CallError::Refused(status, "why".into())).context("provision failed");
        for (error, said) in [
            (refused(StatusCode::UNAUTHORIZED), "check its token"),
            (refused(StatusCode::BAD_REQUEST), "callback_allow"),
            (refused(StatusCode::SERVICE_UNAVAILABLE), "not ready"),
            (anyhow::Error::new(CallError::NoResponse("why".into())), "unreachable"),
        ] {
            let error = format!("{:#}", explained(error));
            assert!(error.contains(said) && error.ends_with("why"), "{error}");
        }
    }
}
