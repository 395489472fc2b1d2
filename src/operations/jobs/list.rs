//! Lists jobs.

use nas_cron_protocol::admin_api::{Job, JobPage, ShownJob};
use serde::{Deserialize, Serialize};

use crate::db::{job_auth, jobs};
use crate::domain::job::{JobKey, JobPosition};
use crate::domain::job_filter::JobFilter;
use crate::operations::{OperationResult, Operations, cursor};

/// Maximum number of jobs of a page.
pub const MAX_PAGE: u32 = 200;

/// A place in a list of jobs, in a cursor.
#[derive(Serialize, Deserialize)]
struct Place(Option<i64>, String, String);

impl Operations {
    /// Lists at most `limit` jobs, which is at most [`MAX_PAGE`], after the cursor `after`. Examines a limited number of
    /// one-shots: a page may be short although others follow.
    pub async fn list_jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        after: Option<&str>,
    ) -> OperationResult<JobPage> {
        let Some(filter) = self.visible(filter) else {
            return Ok(JobPage { jobs: Vec::new(), next: None });
        };
        let of = fingerprint(&filter);
        let after = after.map(|after| position(&of, after)).transpose()?;
        let selected = jobs::select(&self.db, &filter, after.as_ref(), limit.min(MAX_PAGE)).await?;
        let found = jobs::by_keys(&self.db, &selected.keys, self.org()).await?;
        let next = selected.next.map(|next| encode(&of, next));
        Ok(JobPage { jobs: self.with_auth(found).await?, next })
    }

    /// Narrows a filter to what the caller sees. Returns `None` if that is nothing.
    pub(super) fn visible(&self, filter: &JobFilter) -> Option<JobFilter> {
        match (self.org(), filter.org_id.as_ref()) {
            (Some(own), Some(wanted)) if own != wanted => None,
            (own, wanted) => Some(JobFilter { org_id: own.or(wanted).cloned(), ..filter.clone() }),
        }
    }

    /// Adds the auth profiles to each job.
    pub(super) async fn with_auth(&self, jobs: Vec<Job>) -> OperationResult<Vec<ShownJob>> {
        let names: Vec<_> = jobs.iter().map(|job| (job.instance_id.as_str(), job.job_id.as_str())).collect();
        let auths = job_auth::of_jobs(&self.db, &names).await?;
        Ok(jobs.into_iter().zip(auths).map(|(job, auth)| ShownJob { job, auth: auth.into() }).collect())
    }
}

/// Returns the fingerprint of a filter's lists.
pub(super) fn fingerprint(filter: &JobFilter) -> String {
    cursor::fingerprint(&filter.pairs())
}

pub(super) fn encode(of: &str, next: JobPosition) -> String {
    let place = Place(next.at.map(|at| at.timestamp_micros()), next.key.instance_id, next.key.job_id);
    cursor::encode(of, &place)
}

pub(super) fn position(of: &str, after: &str) -> OperationResult<JobPosition> {
    let Place(at, instance_id, job_id) = cursor::decode(of, after)?;
    let at = at.map(cursor::time).transpose()?;
    Ok(JobPosition { at, key: JobKey { instance_id, job_id } })
}
