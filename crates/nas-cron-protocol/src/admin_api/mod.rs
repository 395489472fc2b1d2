//! Responses of the admin API. `nas-cron` commands print them, with `--json` as they are.
//!
//! The service writes them and the command line reads them, so both directions of serde are derived.

mod holds;
mod jobs;
mod keys;
mod orgs;
mod overview;
mod quotas;

pub use self::holds::{Coverage, HeldScope, Hold, HoldList, HoldScope, Released, StandingHold};
pub use self::jobs::{
    Attempt, AttemptPage, CancelledJob, DismissedJob, DormantReason, FiredJob, Job, JobDetails, JobPage,
    LatestCancel, NudgedJob, RedriveReport, ShownJob, Why, WhyCode,
};
pub use self::keys::{KeyId, KeyStep, KeyStepKind};
pub use self::orgs::{DeletionCount, DeletionReport, ListedOrg, Org, OrgPage};
pub use self::overview::{
    AttentionCounts, BackendOverview, Count, DueMinute, FireOverview, FireSpan, KeyOverview, MissedWakeUps,
    OutboxBacklog, Overview, Problem, PublishedKey, Replica, ServiceOverview, Severity, SwitchBacklog,
    UpcomingLoad,
};
pub use self::quotas::{QuotaScope, QuotaUse};
