//! The tools: names, descriptions, and the schemas of their inputs and outputs.
//!
//! Input schemas have no top-level `oneOf`, although "exactly one of" calls for it: several hosts pass schemas on to model
//! APIs that reject it. The descriptions state the rule, and [`super::calls`] enforces it.

use std::sync::Arc;

use nas_cron_protocol::agent_api::MAX_SHOWN_ATTEMPTS;
use nas_cron_protocol::{AuthChoice, AuthProfile, CallbackUrl};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::results::{Armed, Cancelled, Jobs, Updated};
use crate::client::api::{AuthProfiles, JobStatus};

/// A tool, by the name that models call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    CronProvision,
    CronUpdate,
    CronList,
    CronShow,
    CronCancel,
    AuthProfilesList,
}

impl Name {
    const ALL: [Self; 6] = [
        Self::CronProvision,
        Self::CronUpdate,
        Self::CronList,
        Self::CronShow,
        Self::CronCancel,
        Self::AuthProfilesList,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::CronProvision => "cron_provision",
            Self::CronUpdate => "cron_update",
            Self::CronList => "cron_list",
            Self::CronShow => "cron_show",
            Self::CronCancel => "cron_cancel",
            Self::AuthProfilesList => "auth_profiles_list",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// Returns all tools. With a default callback URL, `cron_provision` does not require one.
pub(super) fn all(callback: Option<&CallbackUrl>) -> Vec<Tool> {
    Name::ALL.into_iter().map(|name| tool(name, callback)).collect()
}

fn tool(name: Name, callback: Option<&CallbackUrl>) -> Tool {
    let about = About::of(name);
    let annotations = ToolAnnotations::with_title(about.title)
        .read_only(about.read_only)
        .destructive(about.destructive)
        .idempotent(about.idempotent)
        // Each tool reaches one service, and only the caller's own jobs in it.
        .open_world(false);
    Tool::new(name.as_str(), about.description, input(name, callback))
        .with_title(about.title)
        .with_annotations(annotations)
        .with_raw_output_schema(output(name))
}

/// Description of a tool for the model and its user.
struct About {
    title: &'static str,
    description: &'static str,
    read_only: bool,
    /// True if the tool may remove or overwrite something.
    destructive: bool,
    idempotent: bool,
}

impl About {
    fn of(name: Name) -> Self {
        match name {
            Name::CronProvision => Self {
                title: "Arm a job",
                description: "Arm a job to fire once: at its time, the agent's callback URL is called with the job_id. Give \
                    the time as exactly one of fire_at or in. Provisioning a job_id that is already armed replaces its \
                    time; the same time again changes nothing. A time in the past fires at once. Returns when the job is \
                    stored durably.",
                read_only: false,
                destructive: true,
                // With `in`, the same arguments mean another instant a second later.
                idempotent: false,
            },
            Name::CronUpdate => Self {
                title: "Change a job",
                description: "Change the time, limit, callback URL or auth of a job that cron_list lists, and keep the rest. \
                    Give at least one of auth, fire_at, in, not_after, agent_callback_url. Changing only auth does not arm \
                    the job again. Changing anything else of a dead job arms it again.",
                read_only: false,
                destructive: true,
                idempotent: false,
            },
            Name::CronList => Self {
                title: "List jobs",
                description: "List this agent's jobs, soonest first: armed jobs with their state and next attempt, and \
                    dead jobs, which failed permanently, with their last error. Delivered jobs are not listed.",
                read_only: true,
                destructive: false,
                idempotent: true,
            },
            Name::CronShow => Self {
                title: "Show a job",
                description: "Show what became of a job: its state, what comes next, and its latest attempts with their \
                    outcomes and errors. Delivered and cancelled jobs are shown too, as long as the service keeps their \
                    history.",
                read_only: true,
                destructive: false,
                idempotent: true,
            },
            Name::CronCancel => Self {
                title: "Cancel a job",
                description: "Cancel a job. Once this returns, no attempt of the job starts any more. Cancelling an unknown \
                    job succeeds with the same result.",
                read_only: false,
                destructive: true,
                idempotent: true,
            },
            Name::AuthProfilesList => Self {
                title: "List auth profiles",
                description: "List the auth profiles (provider:name) that a job may name in auth, and the defaults for jobs \
                    without one: this agent's, else its org's, else the service's.",
                read_only: true,
                destructive: false,
                idempotent: true,
            },
        }
    }
}

/// An argument's name and schema.
type Argument = (&'static str, Value);

fn input(name: Name, callback: Option<&CallbackUrl>) -> Arc<JsonObject> {
    let (arguments, required): (Vec<Argument>, Vec<&str>) = match name {
        Name::CronProvision => {
            let (url, mut required) = (callback_url(callback), vec!["job_id"]);
            if callback.is_none() {
                required.push("agent_callback_url");
            }
            (vec![job_id(), fire_at(), r#in(), url, dedup_key(), auth(), not_after()], required)
        }
        Name::CronUpdate => {
            (vec![job_id(), fire_at(), r#in(), callback_url(None), auth(), not_after()], vec!["job_id"])
        }
        Name::CronList => {
            let (field, mut schema) = job_id();
            schema["description"] = "List this job only.".into();
            (vec![(field, schema)], vec![])
        }
        Name::CronShow => (vec![job_id(), attempts()], vec!["job_id"]),
        Name::CronCancel => (vec![job_id()], vec!["job_id"]),
        Name::AuthProfilesList => (vec![], vec![]),
    };
    let properties: Map<_, _> =
        arguments.into_iter().map(|(field, schema)| (field.to_owned(), schema)).collect();
    object(json!({
        "type": "object", "properties": properties, "required": required, "additionalProperties": false,
    }))
}

fn job_id() -> Argument {
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": 255,
        "description": "ID of the job, chosen by you. The call at its time contains it.",
        "examples": ["daily-report"],
    });
    ("job_id", schema)
}

fn fire_at() -> Argument {
    let schema = json!({
        "type": "string", "format": "date-time", "maxLength": 64,
        "description": "Time of the fire: ISO 8601 with an offset, to the microsecond. Use either fire_at or in.",
        "examples": ["2026-06-18T14:34:56+02:00", "2026-06-18T12:34:56.250Z"],
    });
    ("fire_at", schema)
}

fn r#in() -> Argument {
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": 64,
        "description": "Duration from now to the fire, with units: ms, s, m, h, d, w. Use either in or fire_at.",
        "examples": ["90s", "2h 30m", "1d"],
    });
    ("in", schema)
}

fn callback_url(default: Option<&CallbackUrl>) -> Argument {
    let mut schema = json!({
        "type": "string", "format": "uri", "maxLength": 2048,
        "description": "Base URL of the agent; the fire is sent to {agent_callback_url}/api/cron/fire. A new URL means that \
            the agent has moved: its other jobs with the previous URL change to the new one.",
        "examples": ["https://agent.example"],
    });
    if let Some(default) = default {
        schema["default"] = default.as_str().into();
    }
    ("agent_callback_url", schema)
}

fn dedup_key() -> Argument {
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": 512,
        "description": "Makes arming idempotent: repeating the same key changes nothing. Default: {job_id}:{fire_at}.",
        "examples": ["daily-report:2026-06-18T14:34:56+02:00"],
    });
    ("dedup_key", schema)
}

fn auth() -> Argument {
    let pattern = "^[a-z0-9][a-z0-9._-]*:.+$";
    let schema = json!({
        "type": ["string", "array", "boolean", "null"], "maxLength": AuthProfile::MAX, "pattern": pattern,
        "items": { "type": "string", "maxLength": AuthProfile::MAX, "pattern": pattern },
        "minItems": 1, "maxItems": AuthChoice::MAX_PROFILES, "uniqueItems": true,
        "description": "Auth profile that the job runs with, as provider:name, or a list of up to 8 in order of preference. \
            Only references: never a token, key or password. false means no profile, even if there is a default. If \
            omitted, the job keeps its setting; null removes it, so that the defaults apply. auth_profiles_list lists the \
            known profiles; an unknown one is accepted with a warning.",
        "examples": ["claude:work", ["claude:work", "codex:default"], false, null],
    });
    ("auth", schema)
}

fn not_after() -> Argument {
    let schema = json!({
        "type": ["string", "null"], "format": "date-time", "maxLength": 64,
        "description": "Latest time at which an attempt may start: ISO 8601 with an offset, not before fire_at. A fire that \
            was not accepted by then fails permanently. If omitted, an armed job keeps its limit, and a new one has none; \
            null removes it.",
        "examples": ["2026-06-18T15:00:00+02:00", null],
    });
    ("not_after", schema)
}

fn attempts() -> Argument {
    let schema = json!({
        "type": "integer", "minimum": 1, "maximum": MAX_SHOWN_ATTEMPTS, "default": 10,
        "description": "Maximum number of attempts to show.",
        "examples": [10, 100],
    });
    ("attempts", schema)
}

fn output(name: Name) -> Arc<JsonObject> {
    object(
        match name {
            Name::CronProvision => schema::<Armed>(),
            Name::CronUpdate => schema::<Updated>(),
            Name::CronList => schema::<Jobs>(),
            Name::CronShow => schema::<JobStatus>(),
            Name::CronCancel => schema::<Cancelled>(),
            Name::AuthProfilesList => schema::<AuthProfiles>(),
        }
        .to_value(),
    )
}

/// Returns the schema of `T` without references, which not every host resolves.
fn schema<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.remove("title");
    schema.remove("description");
    schema
}

fn object(schema: Value) -> Arc<JsonObject> {
    match schema {
        Value::Object(fields) => Arc::new(fields),
        _ => Arc::default(),
    }
}
