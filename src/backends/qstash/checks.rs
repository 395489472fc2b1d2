//! Checks of `nas-cron doctor`: direct mode, the account, its keys. The relay's is in [`super::relay_check`].

use nas_cron_protocol::BackendName;

use super::{KeyStanding, Qstash, relay_check};
use crate::backends::checks::{BackendCheck, Examined, MEANWHILE, NOT_CONFIGURED, answers};
use crate::db::wake_ups;
use crate::diagnosis::{Finding, failed};

/// In the order in which they are shown.
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

/// Direct mode gives up some of what the service promises otherwise (docs/backends.md).
async fn direct_mode(examined: Examined<'_>) -> Finding {
    match wake_ups::find_active(examined.db).await {
        Ok(Some(active)) if active.backend == BackendName::QstashDirect => Finding::warning(
            "on: QStash calls the agents itself, and that gives up\n\
             - invariant 3: a fire may come before its instant, by the leeway of the agent's clock\n\
             - invariant 4: a call that is under way is made although its one-shot was cancelled or superseded\n\
             - invariant 5: our own loop may call beside QStash, where its log says nothing for long\n\
             - invariant 7: tokens wait at QStash, and are good for longer than 120 s\n\
             and how a call ended is known from QStash's log alone",
            "docs/backends.md, \"Direct mode\", says when it is worth that; `nas-cron backend switch qstash` ends it",
        ),
        Ok(_) => Finding::ok("off: every attempt is made by the service"),
        Err(error) => failed(error),
    }
}

async fn connection(examined: Examined<'_>) -> Finding {
    match Qstash::configured(examined.config, examined.clock) {
        Ok(Some(qstash)) => {
            let fix = format!("see NAS_CRON_QSTASH_URL and NAS_CRON_QSTASH_TOKEN; {MEANWHILE}");
            answers(&*qstash, "answers; it knows the token", &fix).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => Finding::wrong(
            format!("{error:#}"),
            "see the NAS_CRON_QSTASH_… settings: `nas-cron serve` does not start",
        ),
    }
}

/// What the account signs with must be what the relay believes.
async fn signing_keys(examined: Examined<'_>) -> Finding {
    let Ok(Some(qstash)) = Qstash::configured(examined.config, examined.clock) else {
        return Finding::skipped(if examined.config.qstash.is_some() {
            "not looked at: QStash cannot be used as it is configured"
        } else {
            NOT_CONFIGURED
        });
    };
    let both = "set NAS_CRON_QSTASH_CURRENT_SIGNING_KEY and NAS_CRON_QSTASH_NEXT_SIGNING_KEY to those of the account";
    match qstash.key_standing().await {
        Ok(KeyStanding::Current) => Finding::ok("the account's, current and next"),
        Ok(KeyStanding::Behind) => Finding::warning(
            "the account's next key is not known here: after its next rotation every wake-up is refused",
            both,
        ),
        Ok(KeyStanding::Unknown) => Finding::wrong(
            "the account signs with a key that is not known here: every wake-up is refused",
            both,
        ),
        Err(error) => Finding::skipped(format!("not looked at: QStash {error}")),
    }
}
