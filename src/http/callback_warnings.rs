//! Warnings about the callback of a provision that succeeded.

use nas_cron_protocol::CallbackUrl;
use nas_cron_protocol::agent_api::Warning;

/// Returns the warnings. `never_dialled` is the reason for which no fire to it is ever sent; `followed` the number of the
/// instance's other one-shots that it took over.
pub(super) fn of(callback_url: &CallbackUrl, never_dialled: Option<String>, followed: i64) -> Vec<Warning> {
    let url = callback_url.as_str();
    let base = callback_url.was_fire_url().then(|| {
        let message = format!("a base URL is expected, without `/api/cron/fire`; `{url}` is used");
        warning("callback_is_fire_url", &message)
    });
    let refused =
        never_dialled.map(|why| warning("callback_not_permitted", &format!("fires will fail: {why}")));
    let moved = (followed > 0).then(|| {
        let jobs = if followed == 1 {
            "1 other job follows".to_owned()
        } else {
            format!("{followed} other jobs follow")
        };
        warning("callback_moved", &format!("the agent has moved: {jobs} to `{url}`"))
    });
    [base, refused, moved].into_iter().flatten().collect()
}

fn warning(code: &'static str, message: &str) -> Warning {
    Warning { code: code.into(), message: format!("agent_callback_url: {message}") }
}
