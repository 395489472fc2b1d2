//! The times between fires of one job.

use std::time::Duration;

/// The delays that the contract sets between fires of one job (docs/contract.md#same-key-again, docs/contract.md#duplicates).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArmRules {
    /// Minimum time between the starts of two attempts of one job that belong to different arms.
    pub fire_floor: Duration,
    /// Time from a delivery to the second fire of the same key.
    pub second_fire_delay: Duration,
    /// Minimum time between a delivery and every further second fire of the same key.
    pub second_fire_interval: Duration,
    /// Maximum number of second fires per key; after them the one-shot is stuck.
    pub second_fires_max: u32,
    /// Time for which an agent keeps a claim of a fire, also that of a process that died. A fire that it refuses as a
    /// duplicate within that time is fired once more.
    pub claim_lifetime: Duration,
    /// Time from an accepted or ambiguous attempt to the fire after a refusal as a duplicate.
    pub duplicate_delay: Duration,
}
