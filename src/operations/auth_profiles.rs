//! The known auth profiles and defaults of all places.

use nas_cron_protocol::OrgId;

use super::{OperationResult, Operations, cursor};
use crate::db::auth_profiles;
use crate::domain::job_auth::{AuthEntryPage, EntryPlace};

/// Maximum number of entries of a page.
pub const MAX_ENTRIES: u32 = 1_000;

impl Operations {
    /// Lists at most `limit` known profiles and defaults after the cursor `after`: of all places, or of an org and its
    /// agents.
    pub async fn auth_entries(
        &self,
        org_id: Option<&OrgId>,
        limit: u32,
        after: Option<&str>,
    ) -> OperationResult<AuthEntryPage> {
        let of = cursor::fingerprint(&("auth profiles", org_id));
        let after = after.map(|after| cursor::decode::<EntryPlace>(&of, after)).transpose()?;
        if org_id.is_some_and(|org_id| !self.sees(org_id.as_str())) {
            return Ok(AuthEntryPage { entries: Vec::new(), next: None });
        }
        let (after, limit) = (after.unwrap_or(EntryPlace::START), limit.min(MAX_ENTRIES));
        let wanted = i64::from(limit) + 1;
        let mut entries = match org_id.or(self.org()) {
            Some(org_id) => auth_profiles::entries_of_org(&self.db, org_id, &after, wanted).await?,
            None => auth_profiles::all_entries(&self.db, &after, wanted).await?,
        };
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let next = entries.last().filter(|_| more).map(|last| cursor::encode(&of, &EntryPlace::from(last)));
        Ok(AuthEntryPage { entries, next })
    }
}
