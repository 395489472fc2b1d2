//! Checks of `nas-cron doctor`: direct mode, the account, its signing keys. [`super::relay_check`] has the relay's.

use nas_cron_protocol::BackendName;

use super::{KeyStanding, Qstash, relay_check};
use crate::backends::checks::{BackendCheck, Examined, MEANWHILE, NOT_CONFIGURED, answers};
use crate::db::wake_ups;
use crate::diagnosis::{Finding, failed};

/// The checks, in display order.
pub const CHECKS: &[BackendCheck] = &[
    BackendCheck {
        name: "direct mode",
        needs_schema: true,
        look: |examined| Box::pin(direct_mode(examined)),
    },
    BackendCheck { name: "QStash", needs_schema: false, look: |examined| Box::pin(connection(examined)) },
    BackendCheck {
        name: "QStash's keys",
        needs_schema: false,
        look: |examined| Box::pin(signing_keys(examined)),
    },
    BackendCheck {
        name: "relay",
        needs_schema: false,
        look: |examined| Box::pin(relay_check::relay(examined)),
    },
];

/// Warns while direct mode is active: it weakens some guarantees of the service (docs/backends.md).
async fn direct_mode(examined: Examined<'_>) -> Finding {
    match wake_ups::find_active(examined.db).await {
        Ok(Some(active)) if active.backend == BackendName::QstashDirect => Finding::warning(
            "on: QStash calls the agents itself, which weakens these guarantees:\n\
             - invariant 3: a fire may arrive before its instant, by the leeway of the agent's clock\n\
             - invariant 4: a call in flight is made even if its one-shot was cancelled or superseded\n\
             - invariant 5: the built-in loop may call beside QStash, if QStash's log lacks a result for long\n\
             - invariant 7: tokens are stored at QStash, and are valid for longer than 120 s\n\
             The result of a call is known only from QStash's log",
            "see docs/backends.md, \"Direct mode\"; `nas-cron backend switch qstash` ends it",
        ),
        Ok(_) => Finding::ok("off: the service makes every attempt"),
        Err(error) => failed(error),
    }
}

async fn connection(examined: Examined<'_>) -> Finding {
    match Qstash::configured(examined.config, examined.clock) {
        Ok(Some(qstash)) => {
            let fix = format!("check NAS_CRON_QSTASH_URL and NAS_CRON_QSTASH_TOKEN; {MEANWHILE}");
            answers(&*qstash, "reachable; the token is accepted", &fix).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => Finding::wrong(
            format!("{error:#}"),
            "correct the NAS_CRON_QSTASH_… settings: `nas-cron serve` does not start with them",
        ),
    }
}

/// Compares the account's signing keys with those that the relay accepts.
async fn signing_keys(examined: Examined<'_>) -> Finding {
    let Ok(Some(qstash)) = Qstash::configured(examined.config, examined.clock) else {
        return Finding::skipped(if examined.config.qstash.is_some() {
            "not checked: the QStash settings are invalid"
        } else {
            NOT_CONFIGURED
        });
    };
    let both = "set NAS_CRON_QSTASH_CURRENT_SIGNING_KEY and NAS_CRON_QSTASH_NEXT_SIGNING_KEY to those of the account";
    match qstash.key_standing().await {
        Ok(KeyStanding::Current) => Finding::ok("the current and the next key match the account's"),
        Ok(KeyStanding::Behind) => Finding::warning(
            "the account's next key is not configured: after its next rotation, every wake-up is refused",
            both,
        ),
        Ok(KeyStanding::Unknown) => Finding::wrong(
            "the account signs with a key that is not configured: every wake-up is refused",
            both,
        ),
        Err(error) => Finding::skipped(format!("not checked: QStash {error}")),
    }
}
