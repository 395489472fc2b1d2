//! Retries of failed attempts, second fires of repeated keys, and fires after a refusal as a duplicate.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// Retries of a failed attempt.
#[derive(Clone, Debug)]
pub struct Retry {
    /// First retry delay after a definite refusal.
    pub definite_base: Duration,
    /// Minimum retry delay after an ambiguous failure.
    pub ambiguous_floor: Duration,
    /// Maximum retry delay.
    pub cap: Duration,
    /// Time after the first failure at which a fire becomes a dead letter.
    pub give_up_after: Duration,
}

/// Second fires of a key that is provisioned again after its delivery.
#[derive(Clone, Debug)]
pub struct SecondFire {
    /// Time from the delivery to the second fire.
    pub delay: Duration,
    /// Minimum time between two second fires of one key.
    pub interval: Duration,
    /// Maximum number of second fires per key.
    pub max: u32,
}

/// A fire that the agent refuses as a duplicate.
#[derive(Clone, Debug)]
pub struct Duplicate {
    /// Time for which an agent keeps a claim.
    pub claim_lifetime: Duration,
    /// Time from an accepted or ambiguous attempt to the fire after a refusal.
    pub delay: Duration,
}

settings! { Retries:
    RETRY_DEFINITE_BASE: Key<Duration> = "retry_definite_base", values::duration(values::ms(1), values::DAY),
        Preset::Value("1s"),
        "First retry delay after a definite refusal (connection refused, an HTTP status). Doubles with jitter.";
    RETRY_AMBIGUOUS_FLOOR: Key<Duration> = "retry_ambiguous_floor", values::duration(values::ms(1), values::DAY),
        Preset::Value("10s"),
        "Minimum retry delay after an ambiguous failure (timeout, connection reset, lost lease). It gives the agent time to re-arm first.";
    RETRY_CAP: Key<Duration> = "retry_cap", values::duration(values::ms(1), values::YEAR),
        Preset::Value("1h"),
        "Maximum retry delay, also for an agent's Retry-After.";
    RETRY_GIVE_UP_AFTER: Key<Duration> = "retry_give_up_after", values::duration(values::ms(1), values::YEAR),
        Preset::Value("72h"),
        "Retry budget: time after the first failure at which a fire becomes a dead letter.";
    SECOND_FIRE_DELAY: Key<Duration> = "second_fire_delay", values::duration(values::ms(1), values::DAY),
        Preset::Value("60s"),
        "Time after a delivery at which a key that was provisioned again is fired once more.";
    SECOND_FIRE_INTERVAL: Key<Duration> = "second_fire_interval", values::duration(values::ms(1), values::YEAR),
        Preset::Value("300s"),
        "Minimum time between two second fires of one key.";
    SECOND_FIRES_MAX: Key<u32> = "second_fires_max", values::count::<u32>(0, 1000),
        Preset::Value("3"),
        "Maximum second fires of one key. After that the job is shown as stuck.";
    CLAIM_LIFETIME: Key<Duration> = "claim_lifetime", values::duration(values::ms(1), values::DAY),
        Preset::Value("300s"),
        "Time for which agents keep a claim of a fire, also that of a process that died. A fire that is refused as a duplicate within it is sent once more.";
    DUPLICATE_DELAY: Key<Duration> = "duplicate_delay", values::duration(values::ms(1), values::DAY),
        Preset::Value("330s"),
        "Time after an accepted or ambiguous attempt at which a fire that was refused as a duplicate is sent once more.";
}

pub(in crate::config) fn read_retry(reader: &mut Reader<'_>) -> Retry {
    Retry {
        definite_base: reader.value(&RETRY_DEFINITE_BASE),
        ambiguous_floor: reader.value(&RETRY_AMBIGUOUS_FLOOR),
        cap: reader.value(&RETRY_CAP),
        give_up_after: reader.value(&RETRY_GIVE_UP_AFTER),
    }
}

pub(in crate::config) fn read_second_fire(reader: &mut Reader<'_>) -> SecondFire {
    SecondFire {
        delay: reader.value(&SECOND_FIRE_DELAY),
        interval: reader.value(&SECOND_FIRE_INTERVAL),
        max: reader.value(&SECOND_FIRES_MAX),
    }
}

pub(in crate::config) fn read_duplicate(reader: &mut Reader<'_>) -> Duplicate {
    Duplicate { claim_lifetime: reader.value(&CLAIM_LIFETIME), delay: reader.value(&DUPLICATE_DELAY) }
}

pub(in crate::config) fn check(
    retry: &Retry,
    second: &SecondFire,
    duplicate: &Duplicate,
    reader: &mut Reader<'_>,
) {
    reader.rule(
        &[RETRY_DEFINITE_BASE.setting, RETRY_CAP.setting],
        retry.definite_base <= retry.cap,
        "the first retry delay would exceed the maximum",
        "lower retry_definite_base or raise retry_cap",
    );
    reader.rule(
        &[RETRY_AMBIGUOUS_FLOOR.setting, RETRY_CAP.setting],
        retry.ambiguous_floor <= retry.cap,
        "the minimum retry delay would exceed the maximum",
        "lower retry_ambiguous_floor or raise retry_cap",
    );
    reader.rule(
        &[RETRY_CAP.setting, RETRY_GIVE_UP_AFTER.setting],
        retry.cap <= retry.give_up_after,
        "the retry budget could be spent before the next attempt",
        "lower retry_cap or raise retry_give_up_after",
    );
    reader.rule(
        &[SECOND_FIRE_DELAY.setting, SECOND_FIRE_INTERVAL.setting],
        second.delay <= second.interval,
        "the first second fire would be delayed for longer than later ones",
        "lower second_fire_delay or raise second_fire_interval",
    );
    reader.rule(
        &[CLAIM_LIFETIME.setting, DUPLICATE_DELAY.setting],
        duplicate.claim_lifetime < duplicate.delay,
        "the claim that refused the fire would refuse it again",
        "lower claim_lifetime or raise duplicate_delay",
    );
}
