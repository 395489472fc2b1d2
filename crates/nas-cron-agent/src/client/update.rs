//! Changes one part of a job and keeps the rest. The agent API has such a call for `auth` only.

use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{AuthChoice, Given};
use ring::digest;

use super::api::{ChangedAuth, Client, ClientError, ListedJob, ProvisionRequest, ProvisionResponse};

/// The changes of a job. Fields without a value stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The job's own auth; `null` removes it.
    pub auth: Given<AuthChoice>,
    /// New time of the fire.
    pub fire_at: Option<String>,
    /// New base URL of the agent.
    pub agent_callback_url: Option<String>,
    /// New latest start of an attempt; `null` removes it.
    pub not_after: Given<String>,
}

impl Update {
    /// Returns true if the job has to be provisioned again.
    fn arms(&self) -> bool {
        self.fire_at.is_some() || self.agent_callback_url.is_some() || !self.not_after.is_keep()
    }
}

/// The result of an update.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per command")]
pub enum Updated {
    /// At most the auth changed; the one-shot is the same.
    Auth(ChangedAuth),
    /// The job already had these values.
    Unchanged(ListedJob),
    /// The job was armed again by this request.
    Armed(ProvisionRequest, ProvisionResponse),
}

/// An update that changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The job is unknown or was delivered.
    #[error("job not found: it was never provisioned, was delivered or was cancelled")]
    JobNotFound,
    /// The callback URL is needed, and an older server does not report it.
    #[error("agent_callback_url: is missing, and the service does not report the job's current one")]
    MissingCallback,
    /// The call failed.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Client {
    /// Changes a job that is armed, waiting or dead. A dead job with a new time or callback URL is armed again.
    /// Repeating an update is harmless.
    ///
    /// The job is listed, then armed. If another process changes it in between, the later provision wins.
    pub async fn update(&self, job_id: &str, update: Update) -> Result<Updated, UpdateError> {
        if !update.arms() {
            return self.update_auth(job_id, &update.auth).await;
        }
        let listing = self.list().await?;
        let of = |jobs: Vec<ListedJob>| jobs.into_iter().find(|job| job.job_id == job_id);
        let job = match (of(listing.armed), of(listing.dead)) {
            (Some(armed), _) if is_unchanged(&armed, &update) && update.auth.is_keep() => {
                return Ok(Updated::Unchanged(armed));
            }
            (Some(armed), _) if is_unchanged(&armed, &update) => {
                return self.update_auth(job_id, &update.auth).await;
            }
            (Some(job), _) => job,
            // Armed again, and not limited by the time that its last one-shot had.
            (None, Some(dead)) => ListedJob { not_after: None, ..dead },
            (None, None) => return Err(UpdateError::JobNotFound),
        };
        let request = rearm_request(job, update)?;
        let armed = self.provision(&request).await?;
        Ok(Updated::Armed(request, armed))
    }

    async fn update_auth(&self, job_id: &str, auth: &Given<AuthChoice>) -> Result<Updated, UpdateError> {
        match self.set_auth(job_id, auth.value()).await {
            Ok(changed) => Ok(Updated::Auth(changed)),
            Err(error @ ClientError::Refused { status: 404, .. })
                if error.word() == Some(ErrorWord::NotFound) =>
            {
                Err(UpdateError::JobNotFound)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// True if the job already has the time, the callback URL and the limit of the update.
fn is_unchanged(job: &ListedJob, update: &Update) -> bool {
    let time = update.fire_at.as_ref().is_none_or(|fire_at| *fire_at == job.fire_at);
    let wanted = update.agent_callback_url.as_ref();
    let limit = update.not_after.is_keep() || update.not_after.value() == job.not_after.as_ref();
    time && limit && wanted.is_none_or(|url| Some(url) == job.agent_callback_url.as_ref())
}

/// Builds the provision request that applies the update.
fn rearm_request(job: ListedJob, update: Update) -> Result<ProvisionRequest, UpdateError> {
    let now = job.agent_callback_url.as_ref();
    let moved = update.agent_callback_url.as_ref().is_some_and(|url| Some(url) != now);
    let agent_callback_url =
        update.agent_callback_url.or(job.agent_callback_url).ok_or(UpdateError::MissingCallback)?;
    let fire_at = update.fire_at.unwrap_or(job.fire_at);
    let mut dedup_key = dedup_key(&job.job_id, &fire_at);
    if moved {
        // The same key would leave a stuck job stuck, and a waiting one at its back-off.
        let hash = digest::digest(&digest::SHA256, agent_callback_url.as_bytes());
        dedup_key = format!("{dedup_key}:{}", hex::encode(&hash.as_ref()[..8]));
    }
    // A new key has no limit of its own accord.
    let not_after = match (update.not_after, job.not_after) {
        (Given::Keep, Some(limit)) => Given::Set(limit),
        (given, _) => given,
    };
    let ListedJob { job_id, .. } = job;
    Ok(ProvisionRequest { job_id, fire_at, agent_callback_url, dedup_key, auth: update.auth, not_after })
}

/// Builds the key that real agents send.
pub fn dedup_key(job_id: &str, fire_at: &str) -> String {
    format!("{job_id}:{fire_at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(callback: Option<&str>) -> ListedJob {
        let mut listed = serde_json::json!({
            "job_id": "j", "fire_at": "2026-06-18T12:34:56+00:00", "schedule_id": "s",
        });
        listed["agent_callback_url"] = callback.into();
        serde_json::from_value(listed).unwrap()
    }

    #[test]
    fn omitted_fields_keep_their_values() {
        let update = Update { fire_at: Some("2026-06-18T13:00:00+00:00".to_owned()), ..Update::default() };
        let request = rearm_request(job(Some("https://a.example")), update).unwrap();
        assert_eq!(request.agent_callback_url, "https://a.example");
        assert_eq!(request.dedup_key, "j:2026-06-18T13:00:00+00:00");
        assert_eq!(request.auth, Given::Keep);
    }

    #[test]
    fn limit_is_kept_unless_it_is_changed() {
        let limited = || ListedJob {
            not_after: Some("2026-06-18T14:00:00Z".to_owned()),
            ..job(Some("https://a.example"))
        };
        let later = Update { fire_at: Some("2026-06-18T13:00:00+00:00".to_owned()), ..Update::default() };
        let request =
            |not_after| rearm_request(limited(), Update { not_after, ..later.clone() }).unwrap().not_after;
        assert_eq!(request(Given::Keep), Given::Set("2026-06-18T14:00:00Z".to_owned()));
        assert_eq!(request(Given::Clear), Given::Clear);
        assert_eq!(request(Given::Set("x".to_owned())), Given::Set("x".to_owned()));
        let only = |not_after| Update { not_after, ..Update::default() };
        assert!(only(Given::Clear).arms() && !only(Given::Keep).arms());
        assert!(is_unchanged(&limited(), &only(Given::Set("2026-06-18T14:00:00Z".to_owned()))));
        assert!(!is_unchanged(&limited(), &only(Given::Clear)));
    }

    #[test]
    fn only_a_new_callback_gets_a_new_dedup_key() {
        let to = |url: &str| Update { agent_callback_url: Some(url.to_owned()), ..Update::default() };
        let key = |url| rearm_request(job(Some("https://a.example")), to(url)).unwrap().dedup_key;
        assert_eq!(key("https://a.example"), "j:2026-06-18T12:34:56+00:00");
        assert!(key("https://b.example").starts_with("j:2026-06-18T12:34:56+00:00:"));
        assert_eq!(
            key("https://b.example"),
            key("https://b.example"),
            "repeating the update changes nothing"
        );
        assert_ne!(key("https://b.example"), key("https://c.example"));
    }

    #[test]
    fn an_update_without_a_change_arms_nothing() {
        let update = |fire_at: Option<&str>, url: Option<&str>| Update {
            fire_at: fire_at.map(str::to_owned),
            agent_callback_url: url.map(str::to_owned),
            ..Update::default()
        };
        let (at, listed) = ("2026-06-18T12:34:56+00:00", job(Some("https://a.example")));
        assert!(is_unchanged(&listed, &update(Some(at), None)));
        assert!(is_unchanged(&listed, &update(Some(at), Some("https://a.example"))));
        assert!(
            !is_unchanged(&listed, &update(Some("2026-06-18T12:34:56Z"), None)),
            "the text is echoed, so it counts"
        );
        assert!(!is_unchanged(&listed, &update(None, Some("https://b.example"))));
        assert!(!is_unchanged(&job(None), &update(None, Some("https://b.example"))));
    }

    #[test]
    fn callback_is_required_if_the_server_reports_none() {
        let later = Update { fire_at: Some("2026-06-18T13:00:00+00:00".to_owned()), ..Update::default() };
        assert!(matches!(rearm_request(job(None), later.clone()), Err(UpdateError::MissingCallback)));
        let update = Update { agent_callback_url: Some("https://a.example".to_owned()), ..later };
        assert_eq!(rearm_request(job(None), update).unwrap().agent_callback_url, "https://a.example");
    }
}
