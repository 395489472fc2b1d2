//! Statements about wake-ups of external backends: the SQL of [`crate::backends`].
//!
//! An outbox row (a row of `wake_ups`) is `wanted` from the commit of its one-shot, `armed` once the backend has
//! confirmed the wake-up, and `unwanted` when its one-shot was cancelled, superseded, moved to another backend or woken
//! by the built-in loop. The row is deleted when the wake-up arrives, or the backend has cancelled it.
//!
//! To avoid deadlocks, statements lock these rows in the order of their key, after the one-shots. A row that becomes
//! unwanted while its wake-up is being armed stays leased until that call has ended: otherwise, the backend could get
//! the cancel before the arm, and keep the wake-up.
//!
//! - [`claim`]: wake-ups that arrive, and those that are overdue.
//! - [`orders`]: arms and cancels for the backends (the outbox).
//! - [`mod@active`]: the active backend, and the move to it.
//! - [`mod@counts`]: counts of one-shots and outbox rows.
//! - [`direct`]: results of calls that an external backend made to agents itself.

pub mod active;
pub mod claim;
pub mod counts;
pub mod direct;
pub mod orders;

pub(in crate::db) use self::active::STAYS_WITHIN;
pub use self::active::{
    MOST_LEFT, activate, activate_after, active, concerned, find_active, left, move_to_active,
};
pub(super) use self::claim::graces;
pub use self::claim::{take, take_over_missed};
pub use self::counts::{counts, untold};
pub use self::direct::{direct_calls, settle_direct};
pub use self::orders::{find_orphans, prune, record_results, take_orders, try_again};
