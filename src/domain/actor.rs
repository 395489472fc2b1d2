//! Callers of the admin API and operators who run commands, and their rights.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{OrgId, words};

words!(
    /// The role of an admin token. Each role may do everything that the ones before it may.
    #[derive(PartialOrd, Ord, utoipa::ToSchema)]
    pub enum Role {
        /// Reads everything, and changes nothing.
        Viewer = "viewer",
        /// Operates jobs: hold, release, cancel, redrive, fire now, enable and disable.
        Operator = "operator",
        /// Registers and deletes agents, and manages tokens, keys, backends and auth profiles.
        Admin = "admin",
    }
);

/// The caller of an admin operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Name in the audit log: that of the admin token, `config` for a token of the configuration, or
    /// `cli:<user>@<host>` for a command.
    pub name: String,
    /// Role.
    pub role: Role,
    /// The only org whose agents the caller may see and change; `None` for all of them and the service itself.
    pub org: Option<OrgId>,
    /// End of the caller's token; `None` if it does not end.
    pub expires_at: Option<DateTime<Utc>>,
    /// Origin of the call: an address, or a host.
    pub origin: String,
}

/// The caller may not do this, whatever the state of what it named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The operation needs a higher role.
    #[error(
        "the admin token has the role {has}, but this operation needs the role {needed}: use another token"
    )]
    Role {
        /// Role of the caller.
        has: Role,
        /// Lowest role that may do it.
        needed: Role,
    },
    /// The operation is about the whole service.
    #[error(
        "the admin token is limited to org `{0}`, but this operation is about the whole service: use another token"
    )]
    WholeService(OrgId),
}

impl Actor {
    /// Fails unless the caller has this role or a higher one.
    pub fn require(&self, needed: Role) -> Result<(), Denied> {
        let has = self.role;
        if has >= needed { Ok(()) } else { Err(Denied::Role { has, needed }) }
    }

    /// Fails if the caller is limited to an org.
    pub fn require_whole_service(&self) -> Result<(), Denied> {
        self.org.clone().map_or(Ok(()), |org| Err(Denied::WholeService(org)))
    }

    /// The org that every statement for the caller is limited to; `None` for no limit. What belongs to another org must
    /// look as if it did not exist.
    pub const fn org_filter(&self) -> Option<&OrgId> {
        self.org.as_ref()
    }

    /// True if the caller may see this org. To one that may not, no org but its own exists.
    pub fn sees(&self, org_id: &OrgId) -> bool {
        self.org.as_ref().is_none_or(|own| own == org_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(role: Role, org: Option<&str>) -> Actor {
        let org = org.map(|org| OrgId::new(org).unwrap());
        Actor { name: "ci".to_owned(), role, org, expires_at: None, origin: "192.0.2.1".to_owned() }
    }

    #[test]
    fn each_role_includes_the_ones_before_it() {
        for (index, has) in Role::ALL.iter().enumerate() {
            for (other, needed) in Role::ALL.iter().enumerate() {
                assert_eq!(actor(*has, None).require(*needed).is_ok(), other <= index, "{has} does {needed}");
            }
        }
        insta::assert_snapshot!(actor(Role::Viewer, None).require(Role::Admin).unwrap_err(), @"the admin token has the role viewer, but this operation needs the role admin: use another token");
    }

    #[test]
    fn caller_that_is_limited_to_an_org_sees_no_other_org_and_not_the_service() {
        let (all, one) = (actor(Role::Viewer, None), actor(Role::Admin, Some("acme")));
        let (acme, other) = (OrgId::new("acme").unwrap(), OrgId::new("other").unwrap());
        assert!(all.sees(&acme) && all.sees(&other) && one.sees(&acme) && !one.sees(&other));
        assert!(all.require_whole_service().is_ok());
        insta::assert_snapshot!(one.require_whole_service().unwrap_err(), @"the admin token is limited to org `acme`, but this operation is about the whole service: use another token");
    }
}
