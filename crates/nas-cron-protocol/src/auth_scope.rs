//! Where auth profiles are registered.

use crate::words;

words!(
    /// Where auth profiles are registered and defaults are set, the furthest first.
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
