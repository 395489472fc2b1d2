//! Leases of the scheduler. `domain::lease_lengths` computes their lengths from these settings.

use std::time::Duration;

use super::fires::{Fire, IN_FLIGHT_MAX};
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;
use crate::domain::lease_lengths::LeaseLengths;

/// Leases of claimed one-shots.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Time before `fire_at` at which a one-shot may be leased.
    pub horizon: Duration,
    /// Time from `fire_at` to the end of an unconfirmed lease.
    pub grace: Duration,
    /// Time from the attempt's deadline to the end of a confirmed lease.
    pub margin: Duration,
    /// Maximum number of leases held at once.
    pub capacity: usize,
}

settings! { Scheduler:
    LEASE_HORIZON: Key<Duration> = "lease_horizon", values::duration(values::ms(100), values::s(60)),
        Preset::Value("2s"),
        "Time before `fire_at` at which a replica leases a one-shot.";
    LEASE_GRACE: Key<Duration> = "lease_grace", values::duration(values::ms(100), values::s(60)),
        Preset::Value("3s"),
        "Time after `fire_at` for which a one-shot whose attempt has not started stays leased. Worst-case delay after a replica crash is this plus one claim cycle.";
    LEASE_MARGIN: Key<Duration> = "lease_margin", values::duration(values::s(0), values::HOUR),
        Preset::Value("10s"),
        "Time by which the lease of a started attempt outlasts the attempt's timeout, to record its outcome.";
    LEASE_CAPACITY: Key<usize> = "lease_capacity", values::count::<usize>(1, 1_000_000),
        Preset::Value("8192"),
        "Maximum one-shots leased at once per replica.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Lease {
    Lease {
        horizon: reader.value(&LEASE_HORIZON),
        grace: reader.value(&LEASE_GRACE),
        margin: reader.value(&LEASE_MARGIN),
        capacity: reader.value(&LEASE_CAPACITY),
    }
}

impl Lease {
    /// Returns the lease lengths that follow from these settings and `fire`.
    pub const fn lengths(&self, fire: &Fire) -> LeaseLengths {
        LeaseLengths::new(self.grace, fire.timeout, self.margin)
    }
}

pub(in crate::config) fn check(lease: &Lease, fire: &Fire, reader: &mut Reader<'_>) {
    reader.rule(
        &[LEASE_MARGIN.setting],
        lease.lengths(fire).outlast_attempts_of(fire.timeout),
        "a lease could end before its attempt's deadline, and a second attempt could start meanwhile",
        "set lease_margin to 1s or more",
    );
    reader.rule(
        &[LEASE_CAPACITY.setting, IN_FLIGHT_MAX.setting],
        lease.capacity >= fire.in_flight_max,
        "each attempt in flight needs a lease, so in_flight_max could never be reached",
        "raise lease_capacity or lower in_flight_max",
    );
}
