//! What tools there are: names, descriptions, what goes in and what comes out.
//!
//! Inputs have no `oneOf` at their top, although "exactly one of" is one: several hosts hand schemas on to models whose
//! makers refuse it. The descriptions say it, and [`super::calls`] holds them to it.

use std::sync::Arc;

use nas_cron_protocol::{AuthProfile, CallbackUrl};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::results::{Armed, Cancelled, Jobs, Updated};
use crate::client::api::AuthProfiles;

/// The tools, by the names that models call them by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    CronProvision,
    CronUpdate,
    CronList,
    CronCancel,
    AuthProfilesList,
}

impl Name {
    const ALL: [Self; 5] =
        [Self::CronProvision, Self::CronUpdate, Self::CronList, Self::CronCancel, Self::AuthProfilesList];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::CronProvision => "cron_provision",
            Self::CronUpdate => "cron_update",
            Self::CronList => "cron_list",
            Self::CronCancel => "cron_cancel",
            Self::AuthProfilesList => "auth_profiles_list",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.as_str() == name)
    }
}

/// All of them. With a default callback, a provision needs none of its own.
pub(super) fn all(callback: Option<&CallbackUrl>) -> Vec<Tool> {
    Name::ALL.into_iter().map(|name| tool(name, callback)).collect()
}

fn tool(name: Name, callback: Option<&CallbackUrl>) -> Tool {
    let about = About::of(name);
    let annotations = ToolAnnotations::with_title(about.title)
        .read_only(about.read_only)
        .destructive(about.destructive)
        .idempotent(about.idempotent)
        // They reach one service, and the caller's own jobs in it.
        .open_world(false);
    Tool::new(name.as_str(), about.description, input(name, callback))
        .with_title(about.title)
        .with_annotations(annotations)
        .with_raw_output_schema(output(name))
}

/// What a model and its user are told of a tool.
struct About {
    title: &'static str,
    description: &'static str,
    read_only: bool,
    /// Whether something that was there may be gone afterwards.
    destructive: bool,
    idempotent: bool,
}

impl About {
    fn of(name: Name) -> Self {
        match name {
            Name::CronProvision => Self {
                title: "Arm a job",
                description: "Arm a job to fire once at a time: at that time the agent's callback URL is called with the \
                    job_id. Give the time as exactly one of fire_at or in. Provisioning a job_id that is armed replaces its \
                    time; the same time again changes nothing. A time in the past fires at once. Answers once it is durable.",
                read_only: false,
                destructive: true,
                // By `in`, the same arguments mean another instant a second later.
                idempotent: false,
            },
            Name::CronUpdate => Self {
                title: "Change a job",
                description: "Change the time, the callback URL or the auth profile of a job that cron_list shows, and \
                    keep the rest. Give at least one of auth, fire_at, in, agent_callback_url. A change of auth alone \
                    does not touch what is armed. A dead job whose time or callback changes is armed again.",
                read_only: false,
                destructive: true,
                idempotent: false,
            },
            Name::CronList => Self {
                title: "List jobs",
                description: "List this agent's jobs, soonest first: armed ones with their state and next attempt, \
                    and dead ones, which have failed for good, with what went wrong. What was delivered is not listed.",
                read_only: true,
                destructive: false,
                idempotent: true,
            },
            Name::CronCancel => Self {
                title: "Cancel a job",
                description: "Disarm a job. Once this answers, no attempt of it starts any more. A job that is not there \
                    is fine: the answer is the same.",
                read_only: false,
                destructive: true,
                idempotent: true,
            },
            Name::AuthProfilesList => Self {
                title: "List auth profiles",
                description: "List the auth profiles (provider:name) that a job may name in auth, and the defaults that \
                    jobs without one get: of this agent, else of its org, else of the service.",
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
            (vec![job_id(), fire_at(), r#in(), url, dedup_key(), auth()], required)
        }
        Name::CronUpdate => (vec![job_id(), fire_at(), r#in(), callback_url(None), auth()], vec!["job_id"]),
        Name::CronList => {
            let (field, mut schema) = job_id();
            schema["description"] = "Show this job only.".into();
            (vec![(field, schema)], vec![])
        }
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
        "description": "Your name for the job. It comes back in the call at its time.",
        "examples": ["daily-report"],
    });
    ("job_id", schema)
}

fn fire_at() -> Argument {
    let schema = json!({
        "type": "string", "format": "date-time", "maxLength": 64,
        "description": "When to fire: ISO 8601 with an offset, to the microsecond. Instead of in, never with it.",
        "examples": ["2026-06-18T14:34:56+02:00", "2026-06-18T12:34:56.250Z"],
    });
    ("fire_at", schema)
}

fn r#in() -> Argument {
    let schema = json!({
        "type": "string", "minLength": 1, "maxLength": 64,
        "description": "How long from now to fire, with units: ms, s, m, h, d, w. Instead of fire_at, never with it.",
        "examples": ["90s", "2h 30m", "1d"],
    });
    ("in", schema)
}

fn callback_url(default: Option<&CallbackUrl>) -> Argument {
    let mut schema = json!({
        "type": "string", "format": "uri", "maxLength": 2048,
        "description": "The agent's base URL; the fire goes to {agent_callback_url}/api/cron/fire. A new one means that the \
            agent has moved: its other jobs with the previous one get it too.",
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
        "description": "Makes arming idempotent: the same key again changes nothing. Leave it out for {job_id}:{fire_at}.",
        "examples": ["daily-report:2026-06-18T14:34:56+02:00"],
    });
    ("dedup_key", schema)
}

fn auth() -> Argument {
    let schema = json!({
        "type": ["string", "null"], "maxLength": AuthProfile::MAX, "pattern": "^[a-z0-9][a-z0-9._-]*:.+$",
        "description": "The auth profile that the job runs with, as provider:name. Only a reference: never a token, key or \
            password. Left out, what is set stays; null takes it away, so that the defaults apply. auth_profiles_list \
            shows the known ones; an unknown one is taken with a warning.",
        "examples": ["claude:work", null],
    });
    ("auth", schema)
}

fn output(name: Name) -> Arc<JsonObject> {
    object(
        match name {
            Name::CronProvision => schema::<Armed>(),
            Name::CronUpdate => schema::<Updated>(),
            Name::CronList => schema::<Jobs>(),
            Name::CronCancel => schema::<Cancelled>(),
            Name::AuthProfilesList => schema::<AuthProfiles>(),
        }
        .to_value(),
    )
}

/// Without references, which not every host follows, and with fields that may be left out as such: results carry no
/// `null`.
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
