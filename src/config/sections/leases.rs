//! Leases of the scheduler. What the settings come to is decided in `domain::lease_lengths`.

use std::time::Duration;

use super::fires::{Fire, IN_FLIGHT_MAX};
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;
use crate::domain::lease_lengths::LeaseLengths;

/// How long a claim holds.
#[derive(Clone, Debug)]
pub struct Lease {
    /// How far ahead of its instant a one-shot is leased.
    pub horizon: Duration,
    /// From its instant to the end of an unconfirmed lease.
    pub grace: Duration,
    /// From the attempt's deadline to the end of a confirmed lease.
    pub margin: Duration,
    /// Leases held at once.
    pub capacity: usize,
}

settings! { Scheduler:
    LEASE_HORIZON: Key<Duration> = "lease_horizon", values::duration(values::ms(100), values::s(60)),
        Preset::Value("2s"),
        "How far ahead a replica leases what comes due.";
    LEASE_GRACE: Key<Duration> = "lease_grace", values::duration(values::ms(100), values::s(60)),
        Preset::Value("3s"),
        "How long after its instant an unstarted one-shot stays leased: what a killed replica had claimed is at most this much late, plus the next claim.";
    LEASE_MARGIN: Key<Duration> = "lease_margin", values::duration(values::s(0), values::HOUR),
        Preset::Value("10s"),
        "What the lease of a started attempt has beyond the attempt's deadline: time to record how it ended.";
    LEASE_CAPACITY: Key<usize> = "lease_capacity", values::count::<usize>(1, 1_000_000),
        Preset::Value("8192"),
        "How many one-shots a replica leases at once.";
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
    /// How long the leases of one-shots last, by these settings and those of `fire`.
    pub const fn lengths(&self, fire: &Fire) -> LeaseLengths {
        LeaseLengths::new(self.grace, fire.timeout, self.margin)
    }
}

pub(in crate::config) fn check(lease: &Lease, fire: &Fire, reader: &mut Reader<'_>) {
    reader.rule(
        &[LEASE_MARGIN.setting],
        lease.lengths(fire).outlast_attempts_of(fire.timeout),
        "a lease could end before its attempt's deadline, and a second attempt start beside it",
        "set lease_margin to 1s or more",
    );
    reader.rule(
        &[LEASE_CAPACITY.setting, IN_FLIGHT_MAX.setting],
        lease.capacity >= fire.in_flight_max,
        "a replica could never have that many attempts under way, as each needs a lease",
        "raise lease_capacity or lower in_flight_max",
    );
}
