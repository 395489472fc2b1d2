//! Deviations from the design that the checker must find.
//!
//! The steps contain them as branches on `Config::makes`. Without a mistake, only the design is left.

/// A deviation from the design that the checker must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An outcome changes its one-shot whatever the lease token is.
    NoFence,
    /// An outcome changes the job's current one-shot although the attempt belongs to a superseded one.
    OutcomeOfSuperseded,
    /// The POST is written without a confirmation.
    NoConfirmation,
    /// A provision reads the delivered key by its snapshot, before it locks the row.
    DeliveredKeyBySnapshot,
    /// A confirmation decides by its snapshot, and does not look at the locked row.
    ConfirmationBySnapshot,
    /// Outcomes commit asynchronously.
    AsynchronousOutcome,
    /// Provisions commit asynchronously.
    AsynchronousProvision,
    /// Others take over as early as the replica aborts.
    TakeOverTooEarly,
    /// Others take over by the age of the heartbeat alone, without the advisory lock.
    HeartbeatAlone,
    /// Others take over by the advisory lock alone, without the age of the heartbeat.
    LockAlone,
    /// A replica counts from the reply to its renewal, not from its sending.
    CountedFromReply,
    /// Renewals commit asynchronously.
    AsynchronousRenewal,
    /// Early recovery does not look at the locked row's start again.
    RecoveryBySnapshot,
    /// Recovery forgets that the same key was provisioned again.
    RecoveryForgetsProvision,
    /// A provision of a live key is only remembered during an attempt.
    RememberedOnlyWhileFiring,
    /// A delivery of an attempt whose one-shot another claim holds is only remembered.
    LateDeliveryIgnored,
    /// A wake-up that does not come is not missed.
    NoWatchdog,
    /// Parked one-shots are not released.
    NoRelease,
}
