//! Arms and cancels wake-ups. Each schedule has its own subject: publishing again replaces it, and a purge cancels it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::header::{NATS_SCHEDULE, NATS_SCHEDULE_TARGET};
use async_nats::jetstream::Context;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use chrono::{DateTime, SecondsFormat, Utc};
use futures::StreamExt;
use futures::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::connecting::Connection;
use super::options::NatsOptions;
use super::{answers, stream};
use crate::backends::{BackendError, Unwanted, WakeBody, WakeUp};

/// Maximum purges in flight.
const PURGES: usize = 32;

/// The schedules in the stream.
#[derive(Debug)]
pub(super) struct Schedules {
    /// True if the stream was checked, and no call has failed since.
    ready: AtomicBool,
    /// Limits set-up to one at a time.
    setting_up: tokio::sync::Mutex<()>,
}

impl Schedules {
    pub(super) fn new() -> Self {
        Self { ready: AtomicBool::new(false), setting_up: tokio::sync::Mutex::new(()) }
    }

    /// Makes the next call check the stream again.
    pub(super) fn doubt(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }

    /// Returns `JetStream`, after a check of the stream where one is needed.
    pub(super) async fn ready<'a>(
        &self,
        connection: &'a Connection,
        options: &NatsOptions,
    ) -> Result<&'a Context, BackendError> {
        let jetstream = connection.jetstream().await?;
        if !self.ready.load(Ordering::SeqCst) {
            let _one = self.setting_up.lock().await;
            if !self.ready.load(Ordering::SeqCst) {
                stream::set_up(jetstream, connection.server_version().as_deref(), options).await?;
                self.ready.store(true, Ordering::SeqCst);
            }
        }
        Ok(jetstream)
    }

    /// Publishes all schedules, then waits for all responses, under one deadline.
    pub(super) async fn arm(
        &self,
        connection: &Connection,
        options: &NatsOptions,
        lead: Duration,
        wake_ups: &[WakeUp],
    ) -> Vec<Result<Option<String>, BackendError>> {
        let deadline = Instant::now() + options.timeout;
        let jetstream = match timeout_at(deadline, self.ready(connection, options)).await {
            Ok(Ok(jetstream)) => jetstream,
            Ok(Err(error)) => return vec![Err(error); wake_ups.len()],
            Err(_) => return vec![Err(BackendError::TimedOut); wake_ups.len()],
        };
        let mut sent = Vec::with_capacity(wake_ups.len());
        for wake_up in wake_ups {
            sent.push(
                timeout_at(deadline, send(jetstream, options, lead, wake_up))
                    .await
                    .unwrap_or(Err(BackendError::TimedOut)),
            );
        }
        join_all(sent.into_iter().map(async |sent| match timeout_at(deadline, sent?).await {
            Ok(Ok(_)) => Ok(None),
            Ok(Err(error)) => {
                if error.kind() == PublishErrorKind::StreamNotFound {
                    self.doubt();
                }
                Err(answers::publish(&error))
            }
            Err(_) => Err(BackendError::TimedOut),
        }))
        .await
    }

    /// Purges the subjects of these schedules.
    pub(super) async fn cancel(
        &self,
        connection: &Connection,
        options: &NatsOptions,
        unwanted: &[Unwanted],
    ) -> Vec<Result<(), BackendError>> {
        let deadline = Instant::now() + options.timeout;
        let stream = match timeout_at(deadline, self.ready(connection, options)).await {
            Ok(Ok(jetstream)) => jetstream
                .get_stream_no_info(&options.stream)
                .await
                .map_err(|error| answers::get_stream(&error)),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(BackendError::TimedOut),
        };
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => return vec![Err(error); unwanted.len()],
        };
        let purge = async |unwanted: &Unwanted| {
            let subject = options.schedule_subject(unwanted.schedule_id, unwanted.generation);
            match timeout_at(deadline, stream.purge().filter(subject).into_future()).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => {
                    self.doubt();
                    Err(answers::purge(&error))
                }
                Err(_) => Err(BackendError::TimedOut),
            }
        };
        futures::stream::iter(unwanted).map(purge).buffered(PURGES).collect().await
    }
}

/// Publishes one schedule. The returned future resolves to the server's response.
async fn send(
    jetstream: &Context,
    options: &NatsOptions,
    lead: Duration,
    wake_up: &WakeUp,
) -> Result<<PublishAckFuture as IntoFuture>::IntoFuture, BackendError> {
    if wake_up.direct.is_some() {
        return Err(BackendError::Refused("NATS has no direct mode: it cannot call agents".to_owned()));
    }
    let body = serde_json::to_vec(&WakeBody::from(wake_up))
        .map_err(|error| BackendError::Refused(error.to_string()))?;
    let message = PublishMessage::build()
        .payload(body.into())
        .header(NATS_SCHEDULE, at(wake_up.due_at, lead))
        .header(NATS_SCHEDULE_TARGET, options.wake_subject())
        .expected_stream(&options.stream);
    let subject = options.schedule_subject(wake_up.schedule_id, wake_up.generation);
    match jetstream.send_publish(subject, message).await {
        Ok(answer) => Ok(answer.into_future()),
        Err(error) => Err(answers::publish(&error)),
    }
}

/// Returns the value of the schedule header. The server fires a past schedule at once, but never one before 1970.
fn at(due_at: DateTime<Utc>, lead: Duration) -> String {
    let at = due_at.checked_sub_signed(chrono::TimeDelta::from_std(lead).unwrap_or_default());
    let at = at.unwrap_or(due_at).max(DateTime::UNIX_EPOCH);
    format!("@at {}", at.to_rfc3339_opts(SecondsFormat::Micros, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_in_utc_and_never_before_1970() {
        let lead = Duration::from_millis(1_500);
        let due = DateTime::parse_from_rfc3339("2026-06-18T12:34:56.123456+05:45").unwrap().to_utc();
        assert_eq!(at(due, lead), "@at 2026-06-18T06:49:54.623456Z");
        assert_eq!(at(DateTime::UNIX_EPOCH, lead), "@at 1970-01-01T00:00:00.000000Z");
        assert_eq!(at(DateTime::<Utc>::MIN_UTC, lead), "@at 1970-01-01T00:00:00.000000Z");
    }
}
