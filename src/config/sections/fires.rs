//! Fires: delivery attempts to agents.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::keys::FIRE_TOKEN_TTL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, OptionalKey, settings};
use crate::config::values;

/// Limits of delivery attempts.
#[derive(Clone, Debug)]
pub struct Fire {
    /// Non-public networks that may be called, also over plain http.
    pub callback_allow: Vec<IpNet>,
    /// File with the agents' certificate authorities, in addition to the system's.
    pub callback_ca_file: Option<PathBuf>,
    /// Deadline of one attempt.
    pub timeout: Duration,
    /// Time limit for connecting, within `timeout`.
    pub connect_timeout: Duration,
    /// Maximum number of attempts in flight per replica.
    pub in_flight_max: usize,
    /// Maximum number of attempts in flight to one instance.
    pub in_flight_per_instance: usize,
    /// Minimum time between two fires of one job.
    pub floor: Duration,
}

settings! { Fires:
    CALLBACK_ALLOW: ListKey<IpNet> = "callback_allow", values::NETWORKS,
        Preset::Unset { means: "only public addresses, over https", example: "10.0.0.0/8,192.0.2.7" },
        "Non-public networks whose agents may be called, also over plain http. A bare address means that single host.";
    CALLBACK_CA_FILE: OptionalKey<PathBuf> = "callback_ca_file", values::PATH,
        Preset::Unset { means: "the system's certificate authorities only", example: "/etc/nas-cron/agents-ca.pem" },
        "Certificate authorities of agents, as PEM, in addition to those of the system.";
    FIRE_TIMEOUT: Key<Duration> = "fire_timeout", values::duration(values::ms(10), values::s(300)),
        Preset::Value("30s"),
        "Timeout of one delivery attempt, from connecting to the end of the response body. It must leave an agent time to boot.";
    CONNECT_TIMEOUT: Key<Duration> = "connect_timeout", values::duration(values::ms(10), values::s(300)),
        Preset::Value("10s"),
        "Timeout for connecting to an agent, TLS handshake included.";
    IN_FLIGHT_MAX: Key<usize> = "in_flight_max", values::count::<usize>(1, 1_000_000),
        Preset::Value("1024"),
        "Maximum concurrent delivery attempts per replica.";
    IN_FLIGHT_PER_INSTANCE: Key<usize> = "in_flight_per_instance", values::count::<usize>(1, 1_000_000),
        Preset::Value("16"),
        "Maximum concurrent delivery attempts to one agent instance, so that a slow agent does not delay others.";
    FIRE_FLOOR: Key<Duration> = "fire_floor", values::duration(values::s(0), values::HOUR),
        Preset::Value("1s"),
        "Minimum time between two fires of one job. A fire that is due sooner is delayed.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Fire {
    Fire {
        callback_allow: reader.list(&CALLBACK_ALLOW),
        callback_ca_file: reader.optional(&CALLBACK_CA_FILE),
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
        "connecting is part of the attempt and cannot have more time than the whole attempt",
        "lower connect_timeout or raise fire_timeout",
    );
    reader.rule(
        &[FIRE_TIMEOUT.setting, FIRE_TOKEN_TTL.setting],
        fire.timeout <= fire_token_ttl,
        "the token could expire while the agent is still booting",
        "lower fire_timeout or raise fire_token_ttl (at most 120s)",
    );
}
