//! Statements about one-shots on behalf of operators: over all instances, selected by a filter.

mod dead_letters;
mod fire_now;
mod import;
mod read;
mod redrive;
mod select;

pub use self::dead_letters::dead_letters;
pub use self::fire_now::{FireNow, fire_now};
pub use self::import::import;
pub use self::read::by_keys;
pub use self::redrive::redrive;
pub use self::select::select;
