//! Scopes of auth profiles, and the places in them.

use crate::{InstanceId, OrgId, words};

words!(
    /// Scope of registered auth profiles and defaults, the widest first.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum AuthScope {
        /// The whole service.
        Service = "service",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
    }
);

/// A place where profiles are registered and a default is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthPlace {
    /// The whole service.
    Service,
    /// Every instance of one org.
    Org(OrgId),
    /// One instance.
    Instance(InstanceId),
}

impl AuthPlace {
    /// Scope of the place.
    pub const fn scope(&self) -> AuthScope {
        match self {
            Self::Service => AuthScope::Service,
            Self::Org(_) => AuthScope::Org,
            Self::Instance(_) => AuthScope::Instance,
        }
    }

    /// ID of the org or instance; empty for the service.
    pub fn id(&self) -> &str {
        match self {
            Self::Service => "",
            Self::Org(org_id) => org_id.as_str(),
            Self::Instance(instance_id) => instance_id.as_str(),
        }
    }
}
