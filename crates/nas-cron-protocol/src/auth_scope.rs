//! Scopes of auth profiles.

use crate::words;

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
