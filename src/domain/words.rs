//! Closed sets of words: the same in SQL, Rust, JSON, metrics and docs.

use nas_cron_protocol::words;

words!(
    /// Why a login at our own portal is over.
    #[derive(utoipa::ToSchema)]
    pub enum LoginEnd {
        /// A spent refresh token was presented.
        Reused = "reused",
        /// The operator made another one.
        Replaced = "replaced",
    }
);

words!(
    /// What the portal said about an instance, unless it was a yes: its fires are then held.
    #[derive(utoipa::ToSchema)]
    pub enum PortalDenial {
        /// The portal does not know it: its tokens open nothing.
        Unknown = "unknown",
        /// The portal has it switched off.
        Disabled = "disabled",
    }
);

words!(
    /// What a hold covers.
    #[derive(utoipa::ToSchema)]
    pub enum HoldScope {
        /// The whole service.
        All = "all",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
    }
);

words!(
    /// How an attempt ended.
    #[derive(utoipa::ToSchema)]
    pub enum FireOutcome {
        /// Accepted with any 2xx.
        Delivered = "delivered",
        /// Accepted, and the agent no longer has the job.
        Gone = "gone",
        /// Not accepted.
        Failed = "failed",
        /// Its lease ended before an outcome was recorded.
        Lost = "lost",
    }
);
