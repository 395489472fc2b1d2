//! `nas-cron agents quota` and `nas-cron orgs quota`: quotas of armed jobs.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::admin_api::{QuotaScope, QuotaUse};

use super::operator::Operator;
use crate::audit::Act;
use crate::domain::quota::QuotaTarget;
use crate::operations::quotas::MAX_QUOTA;

/// The change of a quota, if any.
#[derive(Clone, Debug, Args)]
pub(super) struct QuotaArgs {
    /// Set the maximum number of armed jobs; 0 rejects every new job.
    #[arg(long, value_name = "JOBS", value_parser = clap::value_parser!(u32).range(..=i64::from(MAX_QUOTA)))]
    set: Option<u32>,
    /// Return to the default of the settings.
    #[arg(long, conflicts_with = "set")]
    default: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl QuotaArgs {
    /// Returns the line of the audit log, if the quota is changed.
    pub(super) fn act(&self, target: &QuotaTarget) -> Option<Act> {
        let (name, set, unset) = match target.scope() {
            QuotaScope::Instance => ("instance_id", "put_instance_quota", "delete_instance_quota"),
            QuotaScope::Org => ("org_id", "put_org_quota", "delete_org_quota"),
        };
        let action = if self.default { unset } else { self.set.map(|_| set)? };
        Some(Act::new(action).about(name, target.id()))
    }
}

/// Shows or changes a quota.
pub(super) async fn run(
    args: &QuotaArgs,
    target: &QuotaTarget,
    on: &Operator,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let quota = match (args.set, args.default) {
        (None, false) => on.quota(target).await?,
        (quota, _) => on.set_quota(target, quota).await?,
    };
    if args.json {
        return terminal::json(out, &quota);
    }
    writeln!(out, "{}", sentence(&quota))?;
    Ok(())
}

fn sentence(quota: &QuotaUse) -> String {
    let QuotaUse { scope, scope_id, quota, is_default, armed } = quota;
    let (kind, whose) = match scope {
        QuotaScope::Instance => ("Agent", if *is_default { "the default" } else { "its own" }),
        QuotaScope::Org => ("Org", if *is_default { "the default" } else { "its own" }),
    };
    let or_more = if armed >= quota { " or more" } else { "" };
    format!("{kind} {scope_id} has {armed}{or_more} armed jobs; its quota is {quota} ({whose}).")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentence_names_the_use_and_the_origin() {
        let quota = QuotaUse {
            scope: QuotaScope::Instance,
            scope_id: "agent-1".to_owned(),
            quota: 10_000,
            is_default: true,
            armed: 12,
        };
        assert_eq!(sentence(&quota), "Agent agent-1 has 12 armed jobs; its quota is 10000 (the default).");
        let own = QuotaUse { scope: QuotaScope::Org, quota: 12, is_default: false, ..quota };
        assert_eq!(sentence(&own), "Org agent-1 has 12 or more armed jobs; its quota is 12 (its own).");
    }
}
