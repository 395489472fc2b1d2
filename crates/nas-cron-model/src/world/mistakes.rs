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
    /// An outcome reads the clock before it waits for the row.
    DeliveredAtBeforeLock,
    /// A replica is declared dead as early as it aborts its attempts.
    TakeOverTooEarly,
    /// A silent replica is declared dead although its session exists.
    SilenceAlone,
    /// A replica without its session is declared dead although it has renewed its registration.
    SessionAlone,
    /// A replica counts from the reply to its renewal, not from its sending.
    CountedFromReply,
    /// Renewals commit asynchronously.
    AsynchronousRenewal,
    /// The declaration of death does not compare the renewals on the locked row.
    DeclaredBySnapshot,
    /// A renewal that finds no row counts as successful.
    DeathUnnoticed,
    /// A replica that cannot renew does not abort the requests that it has sent.
    NoAbort,
    /// A replica that could renew at the confirmation sends the request, although it cannot renew any more.
    UncheckedPost,
    /// A restarted process goes on with the row of the one that died.
    SameIdentity,
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
    /// A confirmation starts an attempt after the one-shot's limit.
    ConfirmationIgnoresLimit,
    /// One-shots whose limit has passed are not ended.
    NoExpiry,
    /// A `duplicate` ends the one-shot although a claim of a dead process may have caused it.
    DuplicateIsFinal,
    /// A nudge does not wait for an attempt that a late delivery left in flight.
    NudgeAtOnce,
    /// A new key after a `duplicate` shows a slow clock.
    DuplicateShowsSkew,
}
