//! Selection of jobs by operators, the same in queries of the admin API and on the command line.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_protocol::{
    FireOutcome, InstanceId, InvalidField, JobId, OneShotState, OrgId, instant_of, words,
};

/// Maximum length in bytes of the text that an error contains.
pub const MAX_ERROR_TEXT: usize = 200;

words!(
    /// The condition on being parked.
    #[derive(Default, utoipa::ToSchema)]
    pub enum Parked {
        /// No condition.
        #[default]
        Any = "false",
        /// Parked for any reason.
        Parked = "true",
        /// Parked by a hold.
        Hold = "hold",
        /// Parked because the agent is unreachable.
        Unreachable = "unreachable",
        /// Not parked.
        Not = "none",
    }
);

/// The condition on the HTTP status of the last response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastStatus {
    /// There was no response.
    None,
    /// The response had this status.
    Code(i16),
}

impl fmt::Display for LastStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str(NO_STATUS),
            Self::Code(code) => write!(f, "{code}"),
        }
    }
}

impl FromStr for LastStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NO_STATUS {
            return Ok(Self::None);
        }
        let code = text.parse().ok().filter(|code| (100..=999).contains(code));
        code.map(Self::Code).ok_or_else(|| format!("must be a status from 100 to 999, or {NO_STATUS}"))
    }
}

/// The condition on an attempt without a response.
const NO_STATUS: &str = "none";

/// A span of instants, from `from` to before `before`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The first instant; `None` for no limit.
    pub from: Option<DateTime<Utc>>,
    /// The instant after the last one; `None` for no limit.
    pub before: Option<DateTime<Utc>>,
}

impl Span {
    /// True if it limits nothing.
    pub const fn is_unlimited(&self) -> bool {
        self.from.is_none() && self.before.is_none()
    }
}

/// Selection of jobs with a current one-shot: all given conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Jobs of this instance.
    pub instance_id: Option<InstanceId>,
    /// The job with this id, of each instance.
    pub job_id: Option<JobId>,
    /// Jobs of this org.
    pub org_id: Option<OrgId>,
    /// One-shots in one of these states; empty for any state.
    pub states: Vec<OneShotState>,
    /// Those of dormant jobs, in addition to those in one of `states`.
    pub dormant: bool,
    /// Parked one-shots only, or those that are not.
    pub parked: Parked,
    /// One-shots that are due by the database's clock, not parked, and not in flight.
    pub overdue: bool,
    /// One-shots whose latest attempt ended so.
    pub outcome: Option<FireOutcome>,
    /// One-shots whose last error contains this text, in any case.
    pub error: Option<String>,
    /// Dead letters by their reason: true if their `not_after` passed.
    pub expired: Option<bool>,
    /// One-shots whose last response had this status.
    pub last_status: Option<LastStatus>,
    /// One-shots whose last error has these characters as its first ones, as dead letters are grouped.
    pub error_group: Option<String>,
    /// One-shots without an error.
    pub no_error: bool,
    /// One-shots with an instant in this span.
    pub fire_at: Span,
    /// One-shots with the earliest start of their next attempt in this span.
    pub next_attempt: Span,
}

impl JobFilter {
    /// Names of the conditions in a query.
    pub const NAMES: [&str; 16] = [
        "org_id",
        "instance_id",
        "job_id",
        "state",
        "parked",
        "overdue",
        "outcome",
        "error",
        "expired",
        "last_status",
        "error_group",
        "no_error",
        "fire_at_from",
        "fire_at_before",
        "next_attempt_from",
        "next_attempt_before",
    ];

    /// The one job.
    pub fn one(instance_id: &InstanceId, job_id: &JobId) -> Self {
        Self { instance_id: Some(instance_id.clone()), job_id: Some(job_id.clone()), ..Self::default() }
    }

    /// Selects jobs in one of these states.
    pub fn select(&mut self, states: &[ListedState]) {
        self.states = states.iter().filter_map(|state| state.of_one_shot()).collect();
        self.dormant = states.contains(&ListedState::Dormant);
    }

    /// True if it selects dormant jobs only.
    pub const fn only_dormant(&self) -> bool {
        self.dormant && self.states.is_empty()
    }

    /// True if it selects every job.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a condition of a query. The error names it.
    pub fn set(&mut self, name: &str, text: &str) -> Result<(), InvalidField> {
        match name {
            "org_id" => self.org_id = Some(OrgId::new(text)?),
            "instance_id" => self.instance_id = Some(InstanceId::new(text)?),
            "job_id" => self.job_id = Some(JobId::new(text)?),
            "state" => self.select(&states(text)?),
            "parked" => self.parked = parsed("parked", text)?,
            "overdue" => self.overdue = flag("overdue", text)?,
            "outcome" => self.outcome = Some(parsed("outcome", text)?),
            "error" => self.error = Some(error_text("error", text)?),
            "expired" => self.expired = Some(flag("expired", text)?),
            "last_status" => self.last_status = Some(parsed("last_status", text)?),
            "error_group" => self.error_group = Some(error_text("error_group", text)?),
            "no_error" => self.no_error = flag("no_error", text)?,
            "fire_at_from" => self.fire_at.from = Some(instant_of("fire_at_from", text)?),
            "fire_at_before" => self.fire_at.before = Some(instant_of("fire_at_before", text)?),
            "next_attempt_from" => self.next_attempt.from = Some(instant_of("next_attempt_from", text)?),
            "next_attempt_before" => {
                self.next_attempt.before = Some(instant_of("next_attempt_before", text)?);
            }
            _ => return Err(InvalidField::new(name.to_owned(), "unknown condition")),
        }
        Ok(())
    }

    /// Returns the conditions of a query, in the order of `NAMES`. [`Self::set`] reads them.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        let dormant = self.dormant.then_some(DORMANT);
        let states: Vec<_> = self.states.iter().map(|state| state.as_str()).chain(dormant).collect();
        let time = |at: Option<DateTime<Utc>>| at.map(|at| at.to_rfc3339_opts(SecondsFormat::Micros, true));
        let values = [
            self.org_id.as_ref().map(ToString::to_string),
            self.instance_id.as_ref().map(ToString::to_string),
            self.job_id.as_ref().map(ToString::to_string),
            (!states.is_empty()).then(|| states.join(",")),
            (self.parked != Parked::Any).then(|| self.parked.to_string()),
            self.overdue.then(|| "true".to_owned()),
            self.outcome.map(|outcome| outcome.to_string()),
            self.error.clone(),
            self.expired.map(|expired| expired.to_string()),
            self.last_status.map(|status| status.to_string()),
            self.error_group.clone(),
            self.no_error.then(|| "true".to_owned()),
            time(self.fire_at.from),
            time(self.fire_at.before),
            time(self.next_attempt.from),
            time(self.next_attempt.before),
        ];
        Self::NAMES.into_iter().zip(values).filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// The state of dormant jobs in lists.
const DORMANT: &str = "dormant";

/// A state by which jobs are selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListedState {
    /// A state of one-shots.
    OneShot(OneShotState),
    /// Delivered one-shots of jobs that are dormant.
    Dormant,
}

impl ListedState {
    const fn of_one_shot(self) -> Option<OneShotState> {
        match self {
            Self::OneShot(state) => Some(state),
            Self::Dormant => None,
        }
    }
}

/// Parses a list of states. Being parked is not one of them: a parked one-shot keeps the state that it had.
fn states(text: &str) -> Result<Vec<ListedState>, InvalidField> {
    text.split(',').map(|word| state(word).map_err(|problem| InvalidField::new("state", problem))).collect()
}

/// Parses a state.
pub fn state(text: &str) -> Result<ListedState, String> {
    if text == DORMANT {
        return Ok(ListedState::Dormant);
    }
    if text == "parked" {
        return Err(
            "a parked one-shot keeps its state; use `parked` instead of the state `parked`".to_owned()
        );
    }
    text.parse().map(ListedState::OneShot).map_err(|error: String| format!("{error}, {DORMANT}"))
}

/// Checks the text that an error contains.
pub fn error_text(name: &'static str, text: &str) -> Result<String, InvalidField> {
    if text.is_empty() || text.len() > MAX_ERROR_TEXT || text.chars().any(char::is_control) {
        let problem = format!("must have 1 to {MAX_ERROR_TEXT} bytes, and no control characters");
        return Err(InvalidField::new(name, problem));
    }
    Ok(text.to_owned())
}

/// Parses a word of a query.
fn parsed<T: FromStr<Err = String>>(name: &'static str, text: &str) -> Result<T, InvalidField> {
    text.parse().map_err(|problem: String| InvalidField::new(name, problem))
}

/// Parses a flag of a query.
fn flag(name: &'static str, text: &str) -> Result<bool, InvalidField> {
    text.parse().map_err(|_| InvalidField::new(name, "must be true or false"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, String)]) -> JobFilter {
        let mut filter = JobFilter::default();
        for (name, value) in pairs {
            filter.set(name, value).unwrap();
        }
        filter
    }

    #[test]
    fn every_condition_survives_a_query() {
        let texts = [
            "acme",
            "a/b",
            "job 1",
            "dead,stuck,dormant",
            "unreachable",
            "true",
            "failed",
            "503 %",
            "false",
            "none",
            "no route",
            "true",
            "2027-01-15T09:03:00.000000Z",
            "2027-01-15T09:04:00.000000Z",
            "2027-01-15T09:05:00.000001Z",
            "2027-01-15T09:06:00.000000Z",
        ];
        let pairs: Vec<_> = JobFilter::NAMES.into_iter().zip(texts.map(str::to_owned)).collect();
        assert_eq!(read(&pairs).pairs(), pairs);
        assert!(JobFilter::default().pairs().is_empty() && JobFilter::default().is_everything());
    }

    #[test]
    fn invalid_condition_is_named() {
        let problem = |name: &str, text: &str| JobFilter::default().set(name, text).unwrap_err().to_string();
        insta::assert_snapshot!(problem("state", "dead,parked"), @"state: a parked one-shot keeps its state; use `parked` instead of the state `parked`");
        insta::assert_snapshot!(problem("parked", "yes"), @"parked: unknown value `yes`: one of false, true, hold, unreachable, none");
        insta::assert_snapshot!(problem("last_status", "99"), @"last_status: must be a status from 100 to 999, or none");
        insta::assert_snapshot!(problem("error", ""), @"error: must have 1 to 200 bytes, and no control characters");
        insta::assert_snapshot!(problem("fire_at_from", "2027-01-15T09:03:00"), @"fire_at_from: must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00");
        insta::assert_snapshot!(problem("outcome", "lost?"), @"outcome: unknown value `lost?`: one of delivered, gone, dropped, duplicate, failed, lost");
    }
}
