//! The layout around every page: its title, the navigation, the operator, and the result of the form that was sent last.

use askama::filters::HtmlSafe;

use super::assets;
use super::view::Html;
use crate::domain::actor::Role;
use crate::domain::audit::AuditOutcome;

/// A part of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// The front page.
    Now,
    /// Lists of jobs, and the page of one.
    Jobs,
    /// Dead letters and stuck one-shots, by error.
    DeadLetters,
    /// Lists of agents, and the page of one.
    Agents,
    /// One-shots that come due soon.
    Load,
    /// Holds in force.
    Holds,
    /// Scheduler backends, signing keys and replicas.
    Backends,
    /// Events and webhooks.
    Events,
    /// The audit log.
    Audit,
}

/// The navigation, in its order: the section, its label and its path.
const NAVIGATION: &[(Section, &str, &str)] = &[
    (Section::Now, "Now", "/ops"),
    (Section::Jobs, "Jobs", "/ops/jobs"),
    (Section::DeadLetters, "Dead letters", "/ops/dead-letters"),
    (Section::Agents, "Agents", "/ops/agents"),
    (Section::Load, "Load", "/ops/load"),
    (Section::Holds, "Holds", "/ops/holds"),
    (Section::Backends, "Backends and keys", "/ops/backends"),
    (Section::Events, "Events", "/ops/events"),
    (Section::Audit, "Audit", "/ops/audit"),
];

/// An entry of the navigation.
pub(super) struct Entry {
    pub(super) label: &'static str,
    pub(super) path: &'static str,
    pub(super) is_current: bool,
}

/// The operator that a page is for.
#[derive(Clone, Debug)]
pub(super) struct Who {
    /// Name of the admin token.
    pub(super) name: String,
    /// Role of the token.
    pub(super) role: Role,
    /// The org that the token is limited to.
    pub(super) org: Option<String>,
    /// Proves that a form comes from a page of this session.
    pub(super) form_token: String,
}

/// The result of the form that was sent last.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    /// Its outcome.
    pub(super) outcome: AuditOutcome,
    /// Description. It may contain texts of agents and of receivers of webhooks.
    pub(super) html: Html,
}

impl Notice {
    /// True if it reports a problem.
    pub(super) fn is_problem(&self) -> bool {
        matches!(self.outcome, AuditOutcome::Refused | AuditOutcome::Failed)
    }

    /// True if nothing was changed. After a failure, that is not known.
    pub(super) const fn changed_nothing(&self) -> bool {
        matches!(self.outcome, AuditOutcome::Refused)
    }
}

/// Everything of a page but its content.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// Title of the page.
    pub(super) title: String,
    /// The section that it belongs to.
    pub(super) section: Option<Section>,
    /// The pages above it: label and path.
    pub(super) crumbs: Vec<(String, String)>,
    /// The operator; `None` for a page without a session.
    pub(super) who: Option<Who>,
    /// The result of the form that was sent last.
    pub(super) notice: Option<Notice>,
}

impl Frame {
    /// The layout of a page that needs no session.
    pub(super) fn outside(title: &str) -> Self {
        Self { title: title.to_owned(), section: None, crumbs: Vec::new(), who: None, notice: None }
    }

    /// Adds the section.
    #[must_use]
    pub(super) fn of(self, section: Section) -> Self {
        Self { section: Some(section), ..self }
    }

    /// Adds the next page above this one.
    #[must_use]
    pub(super) fn below(mut self, label: &str, path: &str) -> Self {
        self.crumbs.push((label.to_owned(), path.to_owned()));
        self
    }

    /// Returns the entries of the navigation.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |(section, label, path): &(Section, &'static str, &'static str)| Entry {
            label,
            path,
            is_current: self.section == Some(*section),
        };
        NAVIGATION.iter().map(entry).collect()
    }

    /// Returns the path of the style sheet.
    #[expect(clippy::unused_self, reason = "called by templates")]
    pub(super) fn style(&self) -> String {
        assets::style()
    }

    /// Returns the paths of the scripts.
    #[expect(clippy::unused_self, reason = "called by templates")]
    pub(super) fn scripts(&self) -> [String; 2] {
        assets::scripts()
    }
}

/// A state as a badge, in the colour of its tone.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    /// Nothing to do.
    Calm,
    /// It went well.
    Good,
    /// In progress.
    Busy,
    /// Fires are stopped or delayed.
    Warning,
    /// An operator has to act.
    Alarm,
}

impl std::fmt::Display for Tone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Alarm => "alarm",
        })
    }
}

impl HtmlSafe for Tone {}
