//! Retries of failed calls, and second fires of repeated keys.

use std::time::Duration;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::values;

/// What follows a failed call.
#[derive(Clone, Debug)]
pub struct Retry {
    /// The first wait after a definite refusal.
    pub definite_base: Duration,
    /// The least wait after an ambiguous end.
    pub ambiguous_floor: Duration,
    /// The longest wait.
    pub cap: Duration,
    /// When it becomes a dead letter, counted from the first failure.
    pub give_up_after: Duration,
}

/// What follows a key that comes again after its delivery.
#[derive(Clone, Debug)]
pub struct SecondFire {
    /// From the delivery to the second fire.
    pub delay: Duration,
    /// The least time between two of them.
    pub interval: Duration,
    /// How many a key gets.
    pub max: u32,
}

settings! { Retries:
    RETRY_DEFINITE_BASE: Key<Duration> = "retry_definite_base", values::duration(values::ms(1), values::DAY),
        Preset::Value("1s"),
        "The first wait after a definite refusal (connection refused, a status); doubles with jitter.";
    RETRY_AMBIGUOUS_FLOOR: Key<Duration> = "retry_ambiguous_floor", values::duration(values::ms(1), values::DAY),
        Preset::Value("10s"),
        "The least wait after an ambiguous end (timeout, reset, lost lease): time for the agent's re-arm to come first.";
    RETRY_CAP: Key<Duration> = "retry_cap", values::duration(values::ms(1), values::YEAR),
        Preset::Value("1h"),
        "No wait between two attempts is longer, an agent's Retry-After included.";
    RETRY_GIVE_UP_AFTER: Key<Duration> = "retry_give_up_after", values::duration(values::ms(1), values::YEAR),
        Preset::Value("72h"),
        "How long a fire is tried before it becomes a dead letter.";
    SECOND_FIRE_DELAY: Key<Duration> = "second_fire_delay", values::duration(values::ms(1), values::DAY),
        Preset::Value("60s"),
        "How long after its delivery a key that is provisioned again is fired once more.";
    SECOND_FIRE_INTERVAL: Key<Duration> = "second_fire_interval", values::duration(values::ms(1), values::YEAR),
        Preset::Value("300s"),
        "The least time between two such second fires of one key.";
    SECOND_FIRES_MAX: Key<u32> = "second_fires_max", values::count::<u32>(0, 1000),
        Preset::Value("3"),
        "How many second fires a key gets before it is shown as stuck.";
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

pub(in crate::config) fn check(retry: &Retry, second: &SecondFire, reader: &mut Reader<'_>) {
    reader.rule(
        &[RETRY_DEFINITE_BASE.setting, RETRY_CAP.setting],
        retry.definite_base <= retry.cap,
        "the first wait would be longer than the longest",
        "lower retry_definite_base or raise retry_cap",
    );
    reader.rule(
        &[RETRY_AMBIGUOUS_FLOOR.setting, RETRY_CAP.setting],
        retry.ambiguous_floor <= retry.cap,
        "the least wait would be longer than the longest",
        "lower retry_ambiguous_floor or raise retry_cap",
    );
    reader.rule(
        &[RETRY_CAP.setting, RETRY_GIVE_UP_AFTER.setting],
        retry.cap <= retry.give_up_after,
        "a fire could be given up before its next attempt",
        "lower retry_cap or raise retry_give_up_after",
    );
    reader.rule(
        &[SECOND_FIRE_DELAY.setting, SECOND_FIRE_INTERVAL.setting],
        second.delay <= second.interval,
        "the second fire would wait longer than the third",
        "lower second_fire_delay or raise second_fire_interval",
    );
}
