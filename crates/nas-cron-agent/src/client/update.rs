//! Changing one thing about a job and keeping the rest, which hop 1 has a call for only where it is the auth profile.

use nas_cron_protocol::error::ErrorWord;
use nas_cron_protocol::{AuthProfile, Given};
use ring::digest;

use super::api::{ChangedAuth, Client, ClientError, ListedJob, ProvisionRequest, ProvisionResponse};

/// What of a job is to change. What is not given stays.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// The job's own auth profile; `null` takes it away.
    pub auth: Given<AuthProfile>,
    /// When it is to fire instead.
    pub fire_at: Option<String>,
    /// Where it is to fire instead.
    pub agent_callback_url: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Updated {
    /// The arm is untouched, and so is all else but perhaps the profile.
    Auth(ChangedAuth),
    /// It is so already.
    Nothing(ListedJob),
    /// It is armed anew, by this request.
    Armed(ProvisionRequest, ProvisionResponse),
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is no such job, or it was delivered.
    #[error("there is no such job: it was never provisioned, is delivered, or was cancelled")]
    Unknown,
    /// An older server does not tell where the job fires to.
    #[error("agent_callback_url: must be given, because the service does not tell what it is now")]
    NoCallback,
    /// The call did not do.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Client {
    /// Changes a job that is armed, waiting or dead. A dead one whose time or callback is named is armed again.
    /// Repeating it is harmless.
    ///
    /// Between looking and arming somebody else may change it too: the later one wins, as with any two provisions.
    pub async fn update(&self, job_id: &str, update: Update) -> Result<Updated, UpdateError> {
        if let (None, None) = (&update.fire_at, &update.agent_callback_url) {
            return self.update_auth(job_id, &update.auth).await;
        }
        let listing = self.list().await?;
        let of = |jobs: Vec<ListedJob>| jobs.into_iter().find(|job| job.job_id == job_id);
        let job = match (of(listing.armed), of(listing.dead)) {
            (Some(armed), _) if is_so(&armed, &update) && update.auth.is_keep() => {
                return Ok(Updated::Nothing(armed));
            }
            (Some(armed), _) if is_so(&armed, &update) => {
                return self.update_auth(job_id, &update.auth).await;
            }
            (Some(job), _) | (None, Some(job)) => job,
            (None, None) => return Err(UpdateError::Unknown),
        };
        let request = rearmed(job, update)?;
        let armed = self.provision(&request).await?;
        Ok(Updated::Armed(request, armed))
    }

    async fn update_auth(&self, job_id: &str, auth: &Given<AuthProfile>) -> Result<Updated, UpdateError> {
        match self.set_auth(job_id, auth.value()).await {
            Ok(changed) => Ok(Updated::Auth(changed)),
            Err(error @ ClientError::Refused { status: 404, .. })
                if error.word() == Some(ErrorWord::NotFound) =>
            {
                Err(UpdateError::Unknown)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether its time and its callback are what they are to be.
fn is_so(job: &ListedJob, update: &Update) -> bool {
    let time = update.fire_at.as_ref().is_none_or(|fire_at| *fire_at == job.fire_at);
    let wanted = update.agent_callback_url.as_ref();
    time && wanted.is_none_or(|url| Some(url) == job.agent_callback_url.as_ref())
}

/// The provision that changes what is to change.
fn rearmed(job: ListedJob, update: Update) -> Result<ProvisionRequest, UpdateError> {
    let now = job.agent_callback_url.as_ref();
    let moved = update.agent_callback_url.as_ref().is_some_and(|url| Some(url) != now);
    let agent_callback_url =
        update.agent_callback_url.or(job.agent_callback_url).ok_or(UpdateError::NoCallback)?;
    let fire_at = update.fire_at.unwrap_or(job.fire_at);
    let mut dedup_key = dedup_key(&job.job_id, &fire_at);
    if moved {
        // The same key would mean the same arm, which keeps its callback.
        let hash = digest::digest(&digest::SHA256, agent_callback_url.as_bytes());
        dedup_key = format!("{dedup_key}:{}", hex::encode(&hash.as_ref()[..8]));
    }
    Ok(ProvisionRequest { job_id: job.job_id, fire_at, agent_callback_url, dedup_key, auth: update.auth })
}

/// The key that real agents send.
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
        let request = rearmed(job(Some("https://a.example")), update).unwrap();
        assert_eq!(request.agent_callback_url, "https://a.example");
        assert_eq!(request.dedup_key, "j:2026-06-18T13:00:00+00:00");
        assert_eq!(request.auth, Given::Keep);
    }

    #[test]
    fn another_callback_is_another_arm_and_the_same_one_is_not() {
        let to = |url: &str| Update { agent_callback_url: Some(url.to_owned()), ..Update::default() };
        let key = |url| rearmed(job(Some("https://a.example")), to(url)).unwrap().dedup_key;
        assert_eq!(key("https://a.example"), "j:2026-06-18T12:34:56+00:00");
        assert!(key("https://b.example").starts_with("j:2026-06-18T12:34:56+00:00:"));
        assert_eq!(key("https://b.example"), key("https://b.example"), "repeating it changes nothing");
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
        assert!(is_so(&listed, &update(Some(at), None)));
        assert!(is_so(&listed, &update(Some(at), Some("https://a.example"))));
        assert!(
            !is_so(&listed, &update(Some("2026-06-18T12:34:56Z"), None)),
            "the text is echoed, so it counts"
        );
        assert!(!is_so(&listed, &update(None, Some("https://b.example"))));
        assert!(!is_so(&job(None), &update(None, Some("https://b.example"))));
    }

    #[test]
    fn a_server_that_tells_no_callback_needs_one() {
        let later = Update { fire_at: Some("2026-06-18T13:00:00+00:00".to_owned()), ..Update::default() };
        assert!(matches!(rearmed(job(None), later.clone()), Err(UpdateError::NoCallback)));
        let update = Update { agent_callback_url: Some("https://a.example".to_owned()), ..later };
        assert_eq!(rearmed(job(None), update).unwrap().agent_callback_url, "https://a.example");
    }
}
