//! Checks of `nas-cron doctor`: direct mode, the accounts, their signing keys. [`super::relay_check`] has the relay's.

use futures::future::join_all;
use nas_cron_protocol::BackendName;

use super::{Account, KeyStanding, Qstash, relay_check};
use crate::backends::checks::{BackendCheck, Examined, MEANWHILE, NOT_CONFIGURED};
use crate::db::wake_ups;
use crate::diagnosis::{Finding, Status, failed};
use crate::domain::qstash_region::QstashRegion;

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
        Ok(Some(qstash)) => of_each(qstash.accounts(), answers).await,
        Ok(None) => Finding::skipped(NOT_CONFIGURED),
        Err(error) => Finding::wrong(
            format!("{error:#}"),
            "correct the NAS_CRON_QSTASH_… settings: `nas-cron serve` does not start with them",
        ),
    }
}

async fn answers(account: &Account) -> Finding {
    match account.health().await {
        Ok(()) => Finding::ok("reachable; the token is accepted"),
        Err(error) => {
            let [url, token] = ["URL", "TOKEN"].map(|name| variable(account, name));
            Finding::wrong(error.to_string(), format!("check {url} and {token}; {MEANWHILE}"))
        }
    }
}

/// Compares the accounts' signing keys with those that the relay accepts.
async fn signing_keys(examined: Examined<'_>) -> Finding {
    match Qstash::configured(examined.config, examined.clock) {
        Ok(Some(qstash)) => of_each(qstash.accounts(), compared).await,
        _ if examined.config.qstash.is_some() => {
            Finding::skipped("not checked: the QStash settings are invalid")
        }
        _ => Finding::skipped(NOT_CONFIGURED),
    }
}

async fn compared(account: &Account) -> Finding {
    let [current, next] = ["CURRENT_SIGNING_KEY", "NEXT_SIGNING_KEY"].map(|name| variable(account, name));
    let both = format!("set {current} and {next} to those of the account");
    match account.key_standing().await {
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

/// Returns the environment variable of an account's setting.
fn variable(account: &Account, name: &str) -> String {
    let region = account.region().map(|region| region.as_str().to_ascii_uppercase().replace('-', "_") + "_");
    format!("NAS_CRON_{}QSTASH_{name}", region.unwrap_or_default())
}

/// Checks each account. With several accounts, the finding has a line for each, and the worst status.
async fn of_each<'a, F>(accounts: &'a [Account], check: impl Fn(&'a Account) -> F) -> Finding
where
    F: Future<Output = Finding>,
{
    let mut findings = join_all(accounts.iter().map(check)).await;
    if findings.len() == 1 {
        return findings.remove(0);
    }
    let names = accounts.iter().map(|account| account.region().map_or("no region", QstashRegion::as_str));
    let lines: Vec<_> =
        names.zip(&findings).map(|(name, finding)| format!("{name}: {}", finding.found)).collect();
    let fixes: Vec<_> = findings.iter().filter_map(|finding| finding.fix.clone()).collect();
    let status = [Status::Wrong, Status::Warning, Status::Skipped]
        .into_iter()
        .find(|status| findings.iter().any(|finding| finding.status == *status));
    Finding {
        status: status.unwrap_or(Status::Ok),
        found: lines.join("\n"),
        fix: (!fixes.is_empty()).then(|| fixes.join("; ")),
    }
}
