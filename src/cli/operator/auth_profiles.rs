//! Operations on auth profiles.

use nas_cron_protocol::agent_api::{AuthProfiles, AuthProfilesChange};
use nas_cron_protocol::{AuthChoice, AuthPlace, AuthProfile, Given, OrgId};
use reqwest::Method;
use tokio::time::Instant;

use super::{NO_BODY, Operator, explained};
use crate::auth_profiles::{self, PUT_WITHIN, Registry};
use crate::cli::directory_error;
use crate::directory::{self, DirectoryError, again};
use crate::domain::job_auth::AuthEntryPage;
use crate::operations::auth_profiles::MAX_ENTRIES;

/// Returns the path of a place.
fn path(place: &AuthPlace) -> Vec<&str> {
    match place {
        AuthPlace::Service => vec!["auth-profiles", "service"],
        AuthPlace::Org(org_id) => vec!["auth-profiles", "orgs", org_id.as_str()],
        AuthPlace::Instance(instance_id) => vec!["auth-profiles", "instances", instance_id.as_str()],
    }
}

/// Returns the profiles that are registered at the place itself.
fn own(place: &AuthPlace, found: &AuthProfiles) -> Vec<AuthProfile> {
    let own = found.profiles.iter().filter(|known| known.scope == place.scope());
    own.map(|known| known.auth.clone()).collect()
}

impl Operator {
    /// Lists a page of the entries of all places.
    pub(in crate::cli) async fn auth_entries(
        &self,
        org_id: Option<&OrgId>,
        limit: u32,
        after: Option<&str>,
    ) -> anyhow::Result<AuthEntryPage> {
        let limit = limit.min(MAX_ENTRIES);
        match self {
            Self::Database(_, on) => on.auth_entries(org_id, limit, after).await.map_err(explained),
            Self::Server(client) => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(org_id.map(|org_id| ("org_id", org_id.to_string())));
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.get(&["auth-profiles"], &query).await
            }
        }
    }

    /// Returns the known profiles and defaults of a place and of those around it.
    pub(in crate::cli) async fn auth_profiles(&self, place: &AuthPlace) -> anyhow::Result<AuthProfiles> {
        match self {
            Self::Database(db, _) => {
                auth_profiles::of_place(db, place, None).await.map_err(directory_error::explained)
            }
            Self::Server(client) => client.get(&path(place), &[]).await,
        }
    }

    /// Replaces the known profiles of a place, if given, and changes its default.
    pub(in crate::cli) async fn put_auth_profiles(
        &self,
        place: &AuthPlace,
        known: Option<Vec<AuthProfile>>,
        default: Given<AuthChoice>,
    ) -> anyhow::Result<()> {
        match self {
            Self::Database(db, _) => {
                let wanted = Registry::new(known, default)?;
                let there = auth_profiles::put(db, place, &wanted, None, Instant::now() + PUT_WITHIN).await?;
                if let (false, AuthPlace::Instance(instance_id)) = (there, place) {
                    return Err(directory_error::explained(DirectoryError::Unknown(instance_id.clone())));
                }
                Ok(())
            }
            Self::Server(client) => {
                // The API always replaces the profiles.
                let profiles = match known {
                    Some(known) => known,
                    None => own(place, &self.auth_profiles(place).await?),
                };
                let change = AuthProfilesChange { profiles, default };
                client.send::<AuthProfiles>(Method::PUT, &path(place), &[], Some(&change)).await?;
                Ok(())
            }
        }
    }

    /// Removes these known profiles of a place, or all of them if none is named. Returns the number removed.
    pub(in crate::cli) async fn forget_auth_profiles(
        &self,
        place: &AuthPlace,
        named: &[AuthProfile],
    ) -> anyhow::Result<u64> {
        match self {
            Self::Database(db, _) => {
                // A misspelt agent must not look like a success.
                if let AuthPlace::Instance(instance_id) = place {
                    directory::find(db, instance_id).await.map_err(directory_error::explained)?;
                }
                let only = Some(named).filter(|named| !named.is_empty());
                Ok(again(|| auth_profiles::forget(db, place, only, None)).await?)
            }
            Self::Server(client) => {
                let known = own(place, &self.auth_profiles(place).await?);
                let path = path(place);
                if named.is_empty() {
                    client.send::<AuthProfiles>(Method::DELETE, &path, &[], NO_BODY).await?;
                    return Ok(known.len() as u64);
                }
                for auth in named {
                    let query = [("auth", auth.to_string())];
                    client.send::<AuthProfiles>(Method::DELETE, &path, &query, NO_BODY).await?;
                }
                Ok(known.iter().filter(|known| named.contains(known)).count() as u64)
            }
        }
    }
}
