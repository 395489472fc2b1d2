//! Calls to agents.

use std::time::Duration;

use ipnet::IpNet;

use super::keys::FIRE_TOKEN_TTL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, settings};
use crate::config::values;

/// Calls to agents.
#[derive(Clone, Debug)]
pub struct Fire {
    /// Networks that are called although they are not public, http included.
    pub callback_allow: Vec<IpNet>,
    /// An attempt's one deadline.
    pub timeout: Duration,
    /// The part of it that connecting may take.
    pub connect_timeout: Duration,
    /// Attempts under way at once.
    pub in_flight_max: usize,
    /// Attempts under way at once to one instance.
    pub in_flight_per_instance: usize,
    /// The least time between two fires of one job.
    pub floor: Duration,
}

settings! { Fires:
    CALLBACK_ALLOW: ListKey<IpNet> = "callback_allow", values::NETWORKS,
        Preset::Unset { means: "public addresses over https only", example: "10.0.0.0/8,192.0.2.7" },
        "Networks whose agents are called although they are not public, and also over plain http. A bare address is a network of one.";
    FIRE_TIMEOUT: Key<Duration> = "fire_timeout", values::duration(values::ms(10), values::s(300)),
        Preset::Value("30s"),
        "An attempt's one deadline, over connecting, headers and body. An agent may have to boot in it.";
    CONNECT_TIMEOUT: Key<Duration> = "connect_timeout", values::duration(values::ms(10), values::s(300)),
        Preset::Value("10s"),
        "How long connecting to an agent may take, TLS included.";
    IN_FLIGHT_MAX: Key<usize> = "in_flight_max", values::count::<usize>(1, 1_000_000),
        Preset::Value("1024"),
        "How many attempts this replica has under way at once.";
    IN_FLIGHT_PER_INSTANCE: Key<usize> = "in_flight_per_instance", values::count::<usize>(1, 1_000_000),
        Preset::Value("16"),
        "How many of them may go to one agent instance, so that a slow one holds up nobody.";
    FIRE_FLOOR: Key<Duration> = "fire_floor", values::duration(values::s(0), values::HOUR),
        Preset::Value("1s"),
        "The least time between two fires of one job; a fire that comes sooner is delayed.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Fire {
    Fire {
        callback_allow: reader.list(&CALLBACK_ALLOW),
        timeout: reader.value(&FIRE_TIMEOUT),
        connect_timeout: reader.value(&CONNECT_TIMEOUT),
        in_flight_max: reader.value(&IN_FLIGHT_MAX),
        in_flight_per_instance: reader.value(&IN_FLIGHT_PER_INSTANCE),
        floor: reader.value(&FIRE_FLOOR),
    }
}

pub(in crate::config) fn check(fire: &Fire, fire_token_ttl: Duration, reader: &mut Reader<'_>) {
    reader.rule(
        &[CONNECT_TIMEOUT.setting, FIRE_TIMEOUT.setting],
        fire.connect_timeout <= fire.timeout,
        "connecting is a part of the attempt",
        "lower connect_timeout or raise fire_timeout",
    );
    reader.rule(
        &[FIRE_TIMEOUT.setting, FIRE_TOKEN_TTL.setting],
        fire.timeout <= fire_token_ttl,
        "an agent that boots during the attempt could find its token expired",
        "lower fire_timeout or raise fire_token_ttl (at most 120s)",
    );
}
