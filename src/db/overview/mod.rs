//! Statements of the overview. Each is read again and again while an operator watches, so it counts by indexes and up to a
//! limit, however large the tables are.

mod attention;
mod backlog;
mod load;
mod switching;

pub use self::attention::{Attention, of_org, of_service};
pub use self::backlog::{backlog, missed};
pub use self::load::load;
pub use self::switching::{movable, switch_backlog};

/// Maximum number of rows of one kind that are counted: about 20 ms.
pub const COUNTED: i64 = 10_000;
