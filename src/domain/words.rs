//! Closed sets of words: the same in SQL, Rust, JSON, metrics and docs.

use nas_cron_protocol::words;

words!(
    /// The reason for which a login at the built-in portal has ended.
    #[derive(utoipa::ToSchema)]
    pub enum LoginEnd {
        /// A used refresh token was presented again.
        Reused = "reused",
        /// The operator created another login.
        Replaced = "replaced",
        /// The operator revoked it.
        Revoked = "revoked",
    }
);

words!(
    /// The portal's denial of an instance. Its fires are held.
    #[derive(utoipa::ToSchema)]
    pub enum PortalDenial {
        /// The portal does not know the instance: its tokens are rejected.
        Unknown = "unknown",
        /// The portal has disabled the instance.
        Disabled = "disabled",
    }
);
