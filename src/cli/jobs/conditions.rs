//! Conditions on jobs, for lists and redrives.

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_protocol::{FireOutcome, instant_of};

use crate::domain::job_filter::{JobFilter, LastStatus, Span, error_text};

// No doc comment: clap would take it for the help of the command.
#[derive(Clone, Debug, Args)]
pub(super) struct Conditions {
    /// Only one-shots whose latest attempt ended so: delivered, gone, dropped, duplicate, failed, lost.
    #[arg(long)]
    outcome: Option<FireOutcome>,
    /// Only one-shots whose last error contains this text, in any case.
    #[arg(long, value_name = "TEXT", value_parser = parse_error)]
    error: Option<String>,
    /// Only dead letters whose latest start (`not_after`) has passed, or whose retry budget is spent.
    #[arg(long, value_name = "true|false")]
    expired: Option<bool>,
    /// Only one-shots whose last response had this status; `none`: without a response.
    #[arg(long, value_name = "STATUS")]
    last_status: Option<LastStatus>,
    /// Only one-shots whose last error has this text as its first 48 characters, as dead letters are grouped.
    #[arg(long, value_name = "TEXT", value_parser = parse_error)]
    error_group: Option<String>,
    /// Only one-shots without an error.
    #[arg(long)]
    no_error: bool,
    /// Only one-shots with an instant from this one on.
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    fire_at_from: Option<DateTime<Utc>>,
    /// Only one-shots with an instant before this one.
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    fire_at_before: Option<DateTime<Utc>>,
}

impl Conditions {
    /// Adds the conditions to a filter.
    pub(super) fn narrow(&self, filter: JobFilter) -> JobFilter {
        JobFilter {
            outcome: self.outcome,
            error: self.error.clone(),
            expired: self.expired,
            last_status: self.last_status,
            error_group: self.error_group.clone(),
            no_error: self.no_error,
            fire_at: Span { from: self.fire_at_from, before: self.fire_at_before },
            ..filter
        }
    }
}

pub(super) fn parse_instant(text: &str) -> Result<DateTime<Utc>, String> {
    instant_of("", text).map_err(|error| error.problem)
}

fn parse_error(text: &str) -> Result<String, String> {
    error_text("error", text).map_err(|error| error.problem)
}
