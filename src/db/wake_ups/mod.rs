//! What hosted engines are told, and what they tell us: the statements of the room [`crate::backends`].
//!
//! A wake-up is `wanted` from the commit of its one-shot on, `armed` once its engine has confirmed it, and `unwanted`
//! when its one-shot was cancelled, superseded, moved to another backend or woken by our own loop. Its row goes
//! when the engine has woken us, or has taken it back.
//!
//! Statements that touch many of these rows lock them in the order of their key, one-shots before them: so none waits
//! for another that waits for it. What becomes unwanted while it is being told stays with whoever tells it until that
//! is over, or the engine could be told to take back what it does not have yet, and get it right after.
//!
//! - [`claim`]: wake-ups that arrive, and those that are overdue.
//! - [`orders`]: what they are to be told.
//! - [`mod@active`]: the backend that new one-shots go to, and the moving to it.
//! - [`mod@counts`]: where all of it stands.
//! - [`direct`]: how calls ended that an engine made to an agent itself.

pub mod active;
pub mod claim;
pub mod counts;
pub mod direct;
pub mod orders;

pub use self::active::{activate, active, concerned, find_active, left, move_to_active};
pub(super) use self::claim::graces;
pub use self::claim::{take, take_over_missed};
pub use self::counts::{counts, untold};
pub use self::direct::{direct_calls, settle_direct};
pub use self::orders::{find_orphans, prune, record_results, take_orders, try_again};
