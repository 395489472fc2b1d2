//! The stream and the consumer: created if missing, checked if they exist.
//!
//! The stream is a work queue: a schedule has no consumer and stays until it fires or is purged; a wake-up is removed
//! when it is acknowledged. (Interest retention would discard schedules at once; limits retention would keep
//! acknowledged wake-ups forever.)

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::context::{
    CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use tracing::{info, warn};

use super::answers;
use super::options::NatsOptions;
use crate::backends::BackendError;

/// The first server version with scheduled messages.
const FIRST_SERVER: (u32, u32) = (2, 12);

/// Creates the stream, or checks and repairs the existing one. Replicas may do this concurrently.
pub(super) async fn set_up(
    jetstream: &Context,
    server_version: Option<&str>,
    options: &NatsOptions,
) -> Result<(), BackendError> {
    if let Some(version) = server_version
        && !has_schedules(version)
    {
        let (major, minor) = FIRST_SERVER;
        return Err(BackendError::Refused(format!(
            "the version of the NATS server is {version}: scheduled messages need {major}.{minor} or newer"
        )));
    }
    let found = match find(jetstream, options).await? {
        Some(config) => config,
        None => match jetstream.create_stream(wanted(options)).await {
            Ok(stream) => {
                info!(stream = options.stream, "NATS stream created");
                stream.cached_info().config.clone()
            }
            // Another replica, with another configuration, was faster.
            Err(error) if exists(&error) => find(jetstream, options).await?.ok_or_else(|| {
                BackendError::Unreachable(format!("stream {}: created and deleted again", options.stream))
            })?,
            Err(error) => return Err(answers::create_stream(&error)),
        },
    };
    if let Some(repaired) = repair(&found, options)? {
        let info =
            jetstream.update_stream(&repaired).await.map_err(|error| answers::create_stream(&error))?;
        info!(stream = options.stream, "NATS stream updated to the required configuration");
        if repair(&info.config, options)?.is_some() {
            return Err(BackendError::Refused(format!(
                "NATS stream {} still lacks the required configuration after an update",
                options.stream
            )));
        }
    }
    if found.max_bytes > 0 {
        warn!(
            stream = options.stream,
            max_bytes = found.max_bytes,
            "the NATS stream drops its oldest wake-ups when it reaches max_bytes; their fires will be late"
        );
    }
    Ok(())
}

/// Returns the consumer; creates or updates it if needed.
pub(super) async fn consumer(
    jetstream: &Context,
    options: &NatsOptions,
) -> Result<Consumer<pull::Config>, BackendError> {
    let wanted = pull::Config {
        durable_name: Some(options.consumer().to_owned()),
        description: Some("All replicas of nas-cron".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        // Unlimited redelivery: only the row in Postgres decides that a wake-up is obsolete.
        max_deliver: -1,
        // Unlimited, because replicas limit what they hold: a limit here would let one hanging replica block all.
        max_ack_pending: -1,
        filter_subject: options.wake_subject(),
        ..pull::Config::default()
    };
    // An operator can create the consumer in advance for an account that may not create consumers.
    if let Ok(there) =
        jetstream.get_consumer_from_stream::<pull::Config, _, _>(options.consumer(), &options.stream).await
    {
        let config = &there.cached_info().config;
        if config.ack_policy == wanted.ack_policy
            && config.ack_wait == wanted.ack_wait
            && config.max_deliver == wanted.max_deliver
            && config.max_ack_pending == wanted.max_ack_pending
            && config.filter_subject == wanted.filter_subject
        {
            return Ok(there);
        }
    }
    jetstream
        .create_consumer_on_stream(wanted, &options.stream)
        .await
        .map_err(|error| answers::consumer(&error))
}

/// Returns true if servers of this version support scheduled messages.
fn has_schedules(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= FIRST_SERVER,
        // For a build with another version format, the server's response to the stream's configuration decides.
        _ => true,
    }
}

fn wanted(options: &NatsOptions) -> Config {
    Config {
        name: options.stream.clone(),
        description: Some("Wake-ups of nas-cron".to_owned()),
        subjects: vec![options.schedule_subjects(), options.wake_subject()],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        num_replicas: options.replicas,
        // A schedule is replaced by a roll-up of its subject, and cancelled by a purge.
        allow_rollup: true,
        allow_message_schedules: true,
        ..Config::default()
    }
}

async fn find(jetstream: &Context, options: &NatsOptions) -> Result<Option<Config>, BackendError> {
    match jetstream.get_stream(&options.stream).await {
        Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(answers::get_stream(&error)),
    }
}

/// Returns the configuration that an existing stream needs, or `None` if it needs no change. Fails with the reasons
/// where a change could lose messages, ours or others'.
fn repair(found: &Config, options: &NatsOptions) -> Result<Option<Config>, BackendError> {
    let unfit = [
        (found.retention != RetentionPolicy::WorkQueue, "its retention is not workqueue"),
        (found.mirror.is_some() || found.sources.is_some(), "it mirrors or sources another stream"),
        (found.subject_transform.is_some(), "it transforms subjects"),
        (found.sealed, "it is sealed"),
        (found.no_ack, "it acknowledges no messages (no_ack)"),
        (found.deny_purge, "it denies purges, which cancel wake-ups"),
        (found.max_age > Duration::ZERO, "its max_age deletes wake-ups before they are due"),
        (found.max_messages > 0, "its max_msgs drops wake-ups"),
        (found.max_messages_per_subject > 0, "its max_msgs_per_subject drops wake-ups"),
        (found.storage != StorageType::File, "its storage is memory, which does not survive a restart"),
    ];
    let unfit: Vec<&str> = unfit.into_iter().filter_map(|(is, why)| is.then_some(why)).collect();
    if !unfit.is_empty() {
        return Err(BackendError::Refused(format!(
            "NATS stream {} is not suitable for wake-ups: {}. Delete it, or set another stream name",
            options.stream,
            unfit.join("; ")
        )));
    }
    let wanted = wanted(options);
    let mut repaired = found.clone();
    for subject in wanted.subjects {
        if !repaired.subjects.iter().any(|there| covers(there, &subject)) {
            repaired.subjects.push(subject);
        }
    }
    repaired.allow_rollup = true;
    repaired.allow_message_schedules = true;
    // A higher number stays: another replica's configuration or the operator may have set it.
    repaired.num_replicas = repaired.num_replicas.max(options.replicas);
    Ok((repaired != *found).then_some(repaired))
}

/// Returns true if `outer` matches every subject that `inner` matches.
fn covers(outer: &str, inner: &str) -> bool {
    let (mut outer, mut inner) = (outer.split('.'), inner.split('.'));
    loop {
        match (outer.next(), inner.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(token)) if token != ">" => {}
            (Some(one), Some(other)) if one == other => {}
            _ => return false,
        }
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn exists(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> NatsOptions {
        NatsOptions { replicas: 3, ..NatsOptions::new(vec!["nats://n".to_owned()]) }
    }

    #[test]
    fn versions_since_2_12_have_schedules() {
        for version in ["2.12.0", "2.12", "2.15.1", "2.12.0-RC.1", "3.0.0", "main"] {
            assert!(has_schedules(version), "{version}");
        }
        for version in ["2.11.11", "2.9.0", "1.99.0"] {
            assert!(!has_schedules(version), "{version}");
        }
    }

    #[test]
    fn suitable_stream_needs_no_repair() {
        let unlimited = Config {
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            num_replicas: 5,
            subjects: vec!["nas-cron.>".to_owned(), "other.things".to_owned()],
            ..wanted(&options())
        };
        for fit in [wanted(&options()), unlimited] {
            assert_eq!(repair(&fit, &options()).unwrap(), None);
        }
    }

    #[test]
    fn harmless_deviations_are_repaired() {
        let poor = Config {
            subjects: vec!["nas-cron.wake".to_owned(), "other.things".to_owned()],
            allow_message_schedules: false,
            allow_rollup: false,
            num_replicas: 1,
            ..wanted(&options())
        };
        let repaired = repair(&poor, &options()).unwrap().expect("a repair is needed");
        assert_eq!(repaired.subjects, ["nas-cron.wake", "other.things", "nas-cron.schedule.*"]);
        assert!(repaired.allow_message_schedules && repaired.allow_rollup && repaired.num_replicas == 3);
        assert_eq!(repair(&repaired, &options()).unwrap(), None);
    }

    #[test]
    fn stream_that_would_lose_messages_is_refused_with_the_reason() {
        let fit = wanted(&options());
        for (unfit, word) in [
            (Config { retention: RetentionPolicy::Limits, ..fit.clone() }, "workqueue"),
            (Config { max_age: Duration::from_hours(1), ..fit.clone() }, "max_age"),
            (Config { max_messages: 10, ..fit.clone() }, "max_msgs"),
            (Config { max_messages_per_subject: 1, ..fit.clone() }, "max_msgs_per_subject"),
            (Config { storage: StorageType::Memory, ..fit.clone() }, "memory"),
            (Config { deny_purge: true, ..fit.clone() }, "purges"),
            (Config { sealed: true, ..fit }, "sealed"),
        ] {
            match repair(&unfit, &options()) {
                Err(BackendError::Refused(why)) => assert!(why.contains(word), "{word}: {why}"),
                other => panic!("{word}: {other:?}"),
            }
        }
    }

    #[test]
    fn subjects_cover_subjects() {
        for (outer, inner) in [("a.>", "a.b.*"), (">", "a"), ("a.*", "a.b"), ("a.*", "a.*"), ("a.b", "a.b")] {
            assert!(covers(outer, inner), "{outer} {inner}");
        }
        for (outer, inner) in
            [("a.>", "a"), ("a.*", "a.>"), ("a.b", "a.*"), ("a.*", "a.b.c"), ("a.b.c", "a.b")]
        {
            assert!(!covers(outer, inner), "{outer} {inner}");
        }
    }
}
