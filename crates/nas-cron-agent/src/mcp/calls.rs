//! The tools' work: checks the arguments, calls the agent API, and returns a result or an error with the next step.

use std::sync::{Arc, OnceLock};

use nas_cron_base::clock::Clock;
use nas_cron_protocol::agent_api::MAX_SHOWN_ATTEMPTS;
use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{AuthChoice, CallbackUrl, DedupKey, Fields, Given, InvalidField, JobId};
use rmcp::model::JsonObject;
use serde::Serialize;
use serde_json::Value;

use super::connect::{Connect, Connected};
use super::errors::{ToolError, explain};
use super::results::{Armed, Cancelled, Jobs, Updated};
use super::tools::Name;
use crate::client::api::{JobStatus, ListedJob, ProvisionRequest};
use crate::client::fire_time;
use crate::client::update::{self, Update, dedup_key};

/// Maximum number of jobs of each kind in a listing, because a model reads them all.
const MAX_LISTED: usize = 100;

/// Runs the tools for one server and one caller.
pub(super) struct Calls {
    connect: Box<Connect>,
    connected: OnceLock<Connected>,
    clock: Arc<dyn Clock>,
}

impl Calls {
    pub(super) fn new(connect: Box<Connect>, clock: Arc<dyn Clock>) -> Self {
        Self { connect, connected: OnceLock::new(), clock }
    }

    /// Returns the connection. Without one, tries again: the user may have logged in since the last call.
    pub(super) fn connected(&self) -> Result<&Connected, ToolError> {
        if let Some(connected) = self.connected.get() {
            return Ok(connected);
        }
        let connected = (self.connect)().map_err(ToolError::NotConnected)?;
        Ok(self.connected.get_or_init(|| connected))
    }

    /// Returns the result without `null`s, or the error and its fix as text for the model.
    pub(super) async fn call(&self, tool: Name, arguments: JsonObject) -> Result<Value, String> {
        let arguments = Fields::from_map(arguments);
        let result = match tool {
            Name::CronProvision => self.provision(arguments).await.and_then(value),
            Name::CronUpdate => self.update(arguments).await.and_then(value),
            Name::CronList => self.list(arguments).await.and_then(value),
            Name::CronShow => self.show(arguments).await.and_then(value),
            Name::CronCancel => self.cancel(arguments).await.and_then(value),
            Name::AuthProfilesList => self.auth_profiles(arguments).await,
        };
        result.map_err(|error| explain(&error))
    }

    async fn provision(&self, mut arguments: Fields) -> Result<Armed, ToolError> {
        let job_id = job_id(&mut arguments)?;
        let fire_at = self.time(&mut arguments)?;
        let callback = callback(&mut arguments)?;
        let key = arguments.text("dedup_key")?.map(DedupKey::new).transpose()?;
        let auth = auth(&mut arguments)?;
        let not_after = not_after(&mut arguments)?;
        arguments.finish(&[
            "job_id",
            "fire_at",
            "in",
            "agent_callback_url",
            "dedup_key",
            "auth",
            "not_after",
        ])?;
        let fire_at = fire_at.ok_or_else(|| {
            InvalidField::new("fire_at", "is missing: give either fire_at or in (such as 90s)")
        })?;
        let connected = self.connected()?;
        let callback = callback.or_else(|| connected.callback.clone()).ok_or_else(|| {
            let problem =
                "is missing, and this MCP server has no default: it was started without --callback-url";
            InvalidField::new("agent_callback_url", problem)
        })?;
        let request = ProvisionRequest {
            dedup_key: key.map_or_else(|| dedup_key(&job_id, &fire_at), |key| key.as_str().to_owned()),
            job_id,
            fire_at,
            agent_callback_url: callback.as_str().to_owned(),
            auth,
            not_after,
        };
        let done = connected.client.provision(&request).await?;
        let ProvisionRequest { job_id, fire_at, agent_callback_url, .. } = request;
        let (schedule_id, warnings) = (done.schedule_id, done.warnings);
        Ok(Armed { job_id, fire_at, agent_callback_url, schedule_id, warnings })
    }

    async fn update(&self, mut arguments: Fields) -> Result<Updated, ToolError> {
        let job_id = job_id(&mut arguments)?;
        let fire_at = self.time(&mut arguments)?;
        let agent_callback_url = callback(&mut arguments)?.map(|url| url.as_str().to_owned());
        let auth = auth(&mut arguments)?;
        let not_after = not_after(&mut arguments)?;
        arguments.finish(&["job_id", "fire_at", "in", "agent_callback_url", "auth", "not_after"])?;
        let timed = fire_at.is_some() || !not_after.is_keep();
        if auth.is_keep() && agent_callback_url.is_none() && !timed {
            let problem =
                "nothing to change: give at least one of auth, fire_at, in, not_after, agent_callback_url";
            return Err(InvalidField::new("auth", problem).into());
        }
        let update = Update { auth, fire_at, agent_callback_url, not_after };
        Ok(match self.connected()?.client.update(&job_id, update).await? {
            update::Updated::Auth(changed) => Updated {
                job_id: changed.job_id,
                fire_at: None,
                agent_callback_url: None,
                schedule_id: None,
                auth: changed.auth,
                effective_auth: changed.effective_auth,
                warnings: changed.warnings,
            },
            update::Updated::Unchanged(job) => Updated {
                job_id: job.job_id,
                fire_at: Some(job.fire_at),
                agent_callback_url: job.agent_callback_url,
                schedule_id: Some(job.schedule_id),
                auth: job.auth,
                effective_auth: job.effective_auth,
                warnings: job.warnings,
            },
            update::Updated::Armed(request, done) => Updated {
                job_id: request.job_id,
                fire_at: Some(request.fire_at),
                agent_callback_url: Some(request.agent_callback_url),
                schedule_id: Some(done.schedule_id),
                auth: None,
                effective_auth: None,
                warnings: done.warnings,
            },
        })
    }

    async fn list(&self, mut arguments: Fields) -> Result<Jobs, ToolError> {
        let only = arguments.text("job_id")?.map(JobId::new).transpose()?;
        arguments.finish(&["job_id"])?;
        let listing = self.connected()?.client.list().await?;
        let mut not_shown = 0;
        let mut shown = |mut jobs: Vec<ListedJob>| {
            jobs.retain(|job| only.as_ref().is_none_or(|only| only.as_str() == job.job_id));
            not_shown += jobs.len().saturating_sub(MAX_LISTED);
            jobs.truncate(MAX_LISTED);
            jobs
        };
        let (armed, dead) = (shown(listing.armed), shown(listing.dead));
        Ok(Jobs { armed, dead, not_shown: (not_shown > 0).then_some(not_shown) })
    }

    async fn show(&self, mut arguments: Fields) -> Result<JobStatus, ToolError> {
        let job_id = job_id(&mut arguments)?;
        let attempts = attempts(&mut arguments)?;
        arguments.finish(&["job_id", "attempts"])?;
        self.connected()?.client.job(&job_id, attempts).await.map_err(|error| match error.word() {
            Some(ErrorWord::NotFound) => ToolError::UnknownJob(error),
            _ => error.into(),
        })
    }

    async fn cancel(&self, mut arguments: Fields) -> Result<Cancelled, ToolError> {
        let job_id = job_id(&mut arguments)?;
        arguments.finish(&["job_id"])?;
        self.connected()?.client.cancel(&job_id).await?;
        Ok(Cancelled { job_id, cancelled: true })
    }

    async fn auth_profiles(&self, arguments: Fields) -> Result<Value, ToolError> {
        arguments.finish(&[])?;
        value(self.connected()?.client.auth_profiles().await?)
    }

    /// Returns `fire_at` unchanged, or the current time plus `in`, or `None` if both are absent.
    fn time(&self, arguments: &mut Fields) -> Result<Option<String>, InvalidField> {
        let of = |field| move |problem| InvalidField::new(field, problem);
        let time = match (arguments.text("fire_at")?, arguments.text("in")?) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                Err(of("in")("must not be combined with fire_at: give one of them".to_owned()))
            }
            (Some(text), None) => fire_time::at(&text).map_err(of("fire_at")),
            (None, Some(length)) => fire_time::duration(&length)
                .and_then(|length| fire_time::after(self.clock.now(), length))
                .map_err(of("in")),
        };
        time.map(|at| Some(at.as_str().to_owned()))
    }
}

fn job_id(arguments: &mut Fields) -> Result<String, InvalidField> {
    JobId::new(arguments.required_text("job_id")?).map(|job_id| job_id.as_str().to_owned())
}

fn callback(arguments: &mut Fields) -> Result<Option<CallbackUrl>, InvalidField> {
    arguments.text("agent_callback_url")?.as_deref().map(CallbackUrl::parse).transpose()
}

/// Validates the number of attempts to show.
fn attempts(arguments: &mut Fields) -> Result<Option<u32>, InvalidField> {
    let given = arguments.clearable("attempts").try_map(|value| {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        number.filter(|number| (1..=MAX_SHOWN_ATTEMPTS).contains(number)).ok_or_else(|| {
            InvalidField::new("attempts", format!("must be a whole number from 1 to {MAX_SHOWN_ATTEMPTS}"))
        })
    })?;
    Ok(given.value().copied())
}

/// Validates `not_after`.
fn not_after(arguments: &mut Fields) -> Result<Given<String>, InvalidField> {
    arguments.clearable_text("not_after")?.try_map(|text| {
        let limit = fire_time::at(&text).map_err(|problem| InvalidField::new("not_after", problem))?;
        Ok(limit.as_str().to_owned())
    })
}

/// Validates `auth`. A value that looks like a secret is neither sent nor repeated.
fn auth(arguments: &mut Fields) -> Result<Given<AuthChoice>, InvalidField> {
    arguments.clearable("auth").try_map(|value| AuthChoice::from_json(&value))
}

fn value(result: impl Serialize) -> Result<Value, ToolError> {
    let mut value = serde_json::to_value(result)?;
    without_nulls(&mut value);
    Ok(value)
}

/// Removes all `null`s, which a model need not read.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};
    use nas_cron_base::clock::ManualClock;
    use nas_cron_protocol::FireAt;
    use secrecy::SecretString;

    use crate::client::Client;
    use serde_json::json;

    use super::*;

    /// Calls to a port without a listener: arguments are rejected before anything is sent.
    fn calls() -> Calls {
        let client =
            Client::new("http://127.0.0.1:1/".parse().unwrap(), SecretString::from("secret-token").into());
        let now = DateTime::from_timestamp(1_781_786_096, 250_000_000).unwrap();
        let connected = Connected { client: client.unwrap(), callback: None };
        Calls::new(Box::new(move || Ok(connected.clone())), Arc::new(ManualClock::at(now)))
    }

    async fn rejected(tool: Name, arguments: Value) -> String {
        calls().call(tool, arguments.as_object().unwrap().clone()).await.unwrap_err()
    }

    #[tokio::test]
    async fn invalid_arguments_are_named_with_the_fix_and_not_repeated() {
        use Name::{AuthProfilesList, CronCancel, CronList, CronProvision, CronShow, CronUpdate};
        let at = "2026-06-18T12:34:56Z";
        let cases = [
            (CronProvision, json!({}), "job_id: is missing"),
            (CronProvision, json!({"job_id": 7}), "job_id: must be a string, not a number"),
            (CronProvision, json!({"job_id": ""}), "job_id: must not be empty"),
            (CronProvision, json!({"job_id": " "}), "job_id: must not be blank"),
            (CronCancel, json!({"job_id": "j "}), "job_id: must not begin or end with white space"),
            (CronList, json!({"job_id": "\u{a0}j"}), "job_id: must not begin or end with white space"),
            (
                CronProvision,
                json!({"job_id": "j"}),
                "fire_at: is missing: give either fire_at or in (such as 90s)",
            ),
            (
                CronProvision,
                json!({"job_id": "j", "fire_at": at, "in": "1s"}),
                "in: must not be combined with fire_at",
            ),
            (
                CronProvision,
                json!({"job_id": "j", "fire_at": "2026-06-18T12:34:56"}),
                "fire_at: has no offset",
            ),
            (CronProvision, json!({"job_id": "j", "fire_at": "noon"}), "fire_at: must be an ISO 8601"),
            (CronProvision, json!({"job_id": "j", "in": "soon"}), "in: must be a duration with units"),
            (CronProvision, json!({"job_id": "j", "in": "-5s"}), "in: must not be negative"),
            (CronProvision, json!({"job_id": "j", "in": "4000000d"}), "in: is too far in the future"),
            (CronProvision, json!({"job_id": "j", "in": "1e99d"}), "in: must be a duration with units"),
            (CronProvision, json!({"job_id": "j", "in": "1M"}), "in: must not use months or years"),
            (CronProvision, json!({"job_id": "j", "in": "5"}), "in: has no unit"),
            (CronProvision, json!({"job_id": "j", "in": "1s"}), "agent_callback_url: is missing"),
            (
                CronProvision,
                json!({"job_id": "j", "in": "1s", "agent_callback_url": "sk-secret"}),
                "agent_callback_url: must be an absolute",
            ),
            (
                CronProvision,
                json!({"job_id": "j", "in": "1s", "auth": {"sk-secret": 1}}),
                "auth: must be false, a profile or a list of profiles, not an object",
            ),
            (
                CronProvision,
                json!({"job_id": "j", "in": "1s", "not_after": "2026-06-18T12:34:56"}),
                "not_after: has no offset",
            ),
            (CronUpdate, json!({"job_id": "j", "not_after": 5}), "not_after: must be a string, not a number"),
            (
                CronProvision,
                json!({"job_id": "j", "in": "1s", "at": at}),
                "at: unknown field; known are job_id, fire_at, in",
            ),
            (CronUpdate, json!({"job_id": "j"}), "nothing to change"),
            (CronUpdate, json!({"job_id": "j", "dedup_key": "k"}), "dedup_key: unknown field"),
            (CronList, json!({"jobs": 1}), "jobs: unknown field"),
            (CronShow, json!({}), "job_id: is missing"),
            (
                CronShow,
                json!({"job_id": "j", "attempts": 0}),
                "attempts: must be a whole number from 1 to 100",
            ),
            (CronShow, json!({"job_id": "j", "attempts": 101}), "attempts: must be a whole number"),
            (CronShow, json!({"job_id": "j", "attempts": "sk-secret"}), "attempts: must be a whole number"),
            (CronShow, json!({"job_id": "j", "jobs": 1}), "jobs: unknown field; known are job_id, attempts"),
            (CronCancel, json!({}), "job_id: is missing"),
            (AuthProfilesList, json!({"x": 1}), "x: unknown field"),
        ];
        for (tool, arguments, expected) in cases {
            let text = rejected(tool, arguments.clone()).await;
            assert!(text.contains(expected), "{arguments}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[tokio::test]
    async fn unreachable_service_is_a_tool_error() {
        let text = rejected(Name::CronList, json!({})).await;
        assert!(text.starts_with("the request to http://127.0.0.1:1/ failed: "), "{text}");
        assert!(text.contains("Try again in a minute"), "{text}");
    }

    #[test]
    fn durations_count_from_the_clock() {
        let time = |arguments: Value| {
            let mut fields = Fields::from_map(arguments.as_object().unwrap().clone());
            calls().time(&mut fields).unwrap().unwrap()
        };
        let after = |length: &str| FireAt::parse(&time(json!({"in": length}))).unwrap().instant();
        assert_eq!(after("90s"), calls().clock.now() + TimeDelta::seconds(90));
        assert_eq!(after("1h 30m"), calls().clock.now() + TimeDelta::minutes(90));
        // The text of `fire_at` is kept byte for byte.
        assert_eq!(time(json!({"fire_at": "2026-06-18 14:34:56+02"})), "2026-06-18 14:34:56+02");
    }

    #[test]
    fn nulls_are_removed() {
        let mut it = json!({"a": null, "b": [{"c": null, "d": 0}], "e": {"f": null}});
        without_nulls(&mut it);
        assert_eq!(it, json!({"b": [{"d": 0}], "e": {}}));
    }
}
