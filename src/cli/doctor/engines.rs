//! Who wakes us first: which backend is active, and whether the hosted engines that are configured do their part.

use std::sync::Arc;

use nas_cron_base::terminal::relative;
use nas_cron_protocol::BackendName;

use super::deployment::{Deployment, PATIENCE, failed};
use super::finding::Finding;
use crate::backends::qstash::{KeyStanding, Qstash};
use crate::backends::{Backend, SchedulerBackend, engine};
use crate::config::Backends;
use crate::config::backends::variables_of;
use crate::db::{directory, wake_ups};

pub(super) const NOT_CONFIGURED: &str = "not configured";

/// The one that new one-shots go to must be configured, or `serve` does not start.
pub(super) async fn active(deployment: &Deployment) -> Finding {
    let (db, backends) = (&deployment.db, &deployment.config.backends);
    let active = match wake_ups::find_active(db).await {
        Ok(Some(active)) => active,
        Ok(None) => {
            return Finding::ok(format!(
                "none yet: {} becomes it when `nas-cron serve` starts",
                backends.first
            ));
        }
        Err(error) => return failed(error),
    };
    let now = match directory::now(db).await {
        Ok(now) => now,
        Err(error) => return failed(error),
    };
    let name = active.backend;
    let since = format!("{name}, since {}", relative(now, active.switched_at));
    if backends.is_configured(name) {
        return Finding::ok(since);
    }
    let settings = variables_of(name);
    Finding::wrong(
        format!("{since}, and it is not configured here: `nas-cron serve` does not start"),
        format!("set {settings} here as on every replica, or `nas-cron backend switch postgres`"),
    )
}

/// The contract's escape hatch, which gives up what the service promises otherwise.
pub(super) async fn direct_mode(deployment: &Deployment) -> Finding {
    match wake_ups::find_active(&deployment.db).await {
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

/// Of these settings, the engines of one kind. An error is the settings'.
async fn made(
    deployment: &Deployment,
    only: impl FnOnce(Backends) -> Backends,
) -> Result<Option<Backend>, String> {
    let backends = deployment.config.backends.clone();
    // An engine that is away is to say so before this check's deadline.
    let call_timeout = backends.call_timeout.min(PATIENCE);
    let backends = only(Backends { call_timeout, ..backends });
    let engines = engine::hosted(&backends, None, &deployment.clock).await;
    engines.map(|engines| engines.into_iter().next()).map_err(|error| format!("{error:#}"))
}

async fn answers(engine: &Backend, what: &str, mend: &str) -> Finding {
    match engine.health().await {
        Ok(()) => Finding::ok(what),
        Err(error) => Finding::wrong(format!("{error}"), mend),
    }
}

async fn made_nats(deployment: &Deployment) -> Result<Option<Backend>, String> {
    made(deployment, |backends| Backends { qstash: None, ..backends }).await
}

async fn made_qstash(deployment: &Deployment) -> Result<Option<Arc<Qstash>>, String> {
    let made = made(deployment, |backends| Backends { nats: None, ..backends }).await?;
    Ok(made.and_then(|engine| match engine {
        Backend::Qstash(qstash) => Some(qstash),
        _ => None,
    }))
}

/// The mend of every engine that is away.
const MEANWHILE: &str =
    "meanwhile fires come some seconds late; `nas-cron backend switch postgres` does without it";

pub(super) async fn nats(deployment: &Deployment) -> Finding {
    match made_nats(deployment).await {
        Ok(Some(engine)) => {
            let mend = format!("see the servers of NAS_CRON_NATS_URLS and what lets us in; {MEANWHILE}");
            answers(&engine, "answers; the stream stands", &mend).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => {
            Finding::wrong(error, "see the NAS_CRON_NATS_… settings: `nas-cron serve` does not start")
        }
    }
}

pub(super) async fn qstash(deployment: &Deployment) -> Finding {
    match made_qstash(deployment).await {
        Ok(Some(qstash)) => {
            let mend = format!("see NAS_CRON_QSTASH_URL and NAS_CRON_QSTASH_TOKEN; {MEANWHILE}");
            answers(&Backend::Qstash(qstash), "answers; it knows the token", &mend).await
        }
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => {
            Finding::wrong(error, "see the NAS_CRON_QSTASH_… settings: `nas-cron serve` does not start")
        }
    }
}

/// What the account signs with must be what the relay believes.
pub(super) async fn qstash_keys(deployment: &Deployment) -> Finding {
    let Ok(Some(qstash)) = made_qstash(deployment).await else {
        return Finding::skipped(if deployment.config.backends.qstash.is_some() {
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
