//! The stream and the consumer: made where they are missing, judged where they are there.
//!
//! The stream is a work queue: a schedule, which nobody consumes, stays until it fires or is purged, and a wake-up
//! goes with its acknowledgement. (Interest retention throws schedules away at once; with limits, wake-ups that
//! were acknowledged stay for ever.)

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

/// The first server with scheduled messages.
const FIRST_SERVER: (u32, u32) = (2, 12);

/// Makes sure that the stream is there and fit. Any number of replicas may do it at once.
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
            "the NATS server is version {version}: scheduled messages need {major}.{minor} or newer"
        )));
    }
    let found = match find(jetstream, options).await? {
        Some(config) => config,
        None => match jetstream.create_stream(wanted(options)).await {
            Ok(stream) => {
                info!(stream = options.stream, "the NATS stream was made");
                stream.cached_info().config.clone()
            }
            // Another replica, of another configuration, was faster.
            Err(error) if exists(&error) => find(jetstream, options)
                .await?
                .ok_or_else(|| BackendError::Unreachable(format!("{}: made and gone", options.stream)))?,
            Err(error) => return Err(answers::create_stream(&error)),
        },
    };
    if let Some(mended) = mend(&found, options)? {
        let info = jetstream.update_stream(&mended).await.map_err(|error| answers::create_stream(&error))?;
        info!(stream = options.stream, "the NATS stream was changed to what nas-cron needs");
        if mend(&info.config, options)?.is_some() {
            return Err(BackendError::Refused(format!(
                "the NATS stream {} does not become what nas-cron needs",
                options.stream
            )));
        }
    }
    if found.max_bytes > 0 {
        warn!(
            stream = options.stream,
            max_bytes = found.max_bytes,
            "the NATS stream drops its oldest wake-ups when it is full: they will be late"
        );
    }
    Ok(())
}

/// The consumer, made where it is missing.
pub(super) async fn consumer(
    jetstream: &Context,
    options: &NatsOptions,
) -> Result<Consumer<pull::Config>, BackendError> {
    let wanted = pull::Config {
        durable_name: Some(options.consumer().to_owned()),
        description: Some("All replicas of nas-cron".to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.ack_wait,
        // A wake-up is given up by nobody but the row in Postgres.
        max_deliver: -1,
        // What replicas hold is bounded by themselves. A bound here would stop all for one that hangs.
        max_ack_pending: -1,
        filter_subject: options.wake_subject(),
        ..pull::Config::default()
    };
    // An account that may not create consumers can have it made beforehand.
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

/// Whether servers of this version know scheduled messages.
fn has_schedules(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= FIRST_SERVER,
        // Of a build that names itself otherwise, the stream's own answer decides.
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
        // A schedule is replaced by a roll-up of its subject and taken back by a purge.
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

/// What has to change in a stream that somebody made. Nothing is changed that could lose messages, of ours or of
/// others: that is refused in words.
fn mend(found: &Config, options: &NatsOptions) -> Result<Option<Config>, BackendError> {
    let unfit = [
        (found.retention != RetentionPolicy::WorkQueue, "its retention is not workqueue"),
        (found.mirror.is_some() || found.sources.is_some(), "it mirrors or sources another stream"),
        (found.subject_transform.is_some(), "it rewrites subjects"),
        (found.sealed, "it is sealed"),
        (found.no_ack, "it acknowledges nothing (no_ack)"),
        (found.deny_purge, "it denies purges, so that nothing can be cancelled"),
        (found.max_age > Duration::ZERO, "its max_age ends wake-ups before their time"),
        (found.max_messages > 0, "its max_msgs drops wake-ups"),
        (found.max_messages_per_subject > 0, "its max_msgs_per_subject drops wake-ups"),
        (found.storage != StorageType::File, "it is kept in memory and ends with its servers"),
    ];
    let unfit: Vec<&str> = unfit.into_iter().filter_map(|(is, why)| is.then_some(why)).collect();
    if !unfit.is_empty() {
        return Err(BackendError::Refused(format!(
            "the NATS stream {} cannot hold wake-ups: {}. Delete it, or name another one",
            options.stream,
            unfit.join("; ")
        )));
    }
    let wanted = wanted(options);
    let mut mended = found.clone();
    for subject in wanted.subjects {
        if !mended.subjects.iter().any(|there| covers(there, &subject)) {
            mended.subjects.push(subject);
        }
    }
    mended.allow_rollup = true;
    mended.allow_message_schedules = true;
    // More than was asked for stays: another replica's configuration, or the operator's own hand.
    mended.num_replicas = mended.num_replicas.max(options.replicas);
    Ok((mended != *found).then_some(mended))
}

/// Whether everything that `inner` matches is matched by `outer`.
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
    fn versions_from_2_12_on_have_schedules() {
        for version in ["2.12.0", "2.12", "2.15.1", "2.12.0-RC.1", "3.0.0", "main"] {
            assert!(has_schedules(version), "{version}");
        }
        for version in ["2.11.11", "2.9.0", "1.99.0"] {
            assert!(!has_schedules(version), "{version}");
        }
    }

    #[test]
    fn a_stream_of_ours_is_left_alone() {
        let unlimited = Config {
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            num_replicas: 5,
            subjects: vec!["nas-cron.>".to_owned(), "other.things".to_owned()],
            ..wanted(&options())
        };
        for fit in [wanted(&options()), unlimited] {
            assert_eq!(mend(&fit, &options()).unwrap(), None);
        }
    }

    #[test]
    fn harmless_deviations_are_corrected() {
        let poor = Config {
            subjects: vec!["nas-cron.wake".to_owned(), "other.things".to_owned()],
            allow_message_schedules: false,
            allow_rollup: false,
            num_replicas: 1,
            ..wanted(&options())
        };
        let mended = mend(&poor, &options()).unwrap().expect("something is to be done");
        assert_eq!(mended.subjects, ["nas-cron.wake", "other.things", "nas-cron.schedule.*"]);
        assert!(mended.allow_message_schedules && mended.allow_rollup && mended.num_replicas == 3);
        assert_eq!(mend(&mended, &options()).unwrap(), None);
    }

    #[test]
    fn a_stream_that_would_lose_messages_is_refused_with_the_reason() {
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
            match mend(&unfit, &options()) {
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
