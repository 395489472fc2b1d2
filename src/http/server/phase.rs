//! The phase of one connection: what it waits for, since when, and its deadline.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Closed;

/// Deadlines of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Maximum time from the first byte of a request to its last. For the first request, it counts from the accept.
    /// Bytes in between do not extend it.
    pub request: Duration,
    /// Maximum time from the last byte of a response to the first byte of the next request.
    pub idle: Duration,
    /// Maximum time without progress while a response is sent.
    pub stall: Duration,
    /// Maximum time from the first byte of a response to its last.
    pub response: Duration,
}

/// The event that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Waits {
    /// The caller sends the rest of a request.
    Request,
    /// The caller sends another request.
    Idle,
    /// The caller reads a response.
    Response,
    /// A handler completes.
    Handler,
}

/// The event that a connection waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) waits: Waits,
    pub(super) since: Instant,
}

/// The number of a request within its connection.
pub(super) type Number = u64;

/// State of the current request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    /// Incomplete, and no handler is waiting for more.
    Open,
    /// Incomplete, and a handler is waiting for more.
    Wanted,
    /// Complete or dropped. Further bytes belong to the next request.
    Ended,
}

/// The phase of a connection. Pure: all events and times are arguments.
#[derive(Debug)]
pub(super) struct Phase {
    /// HTTP/2 interleaves requests, so received bytes do not show where a request begins.
    is_http2: bool,
    next: Number,
    /// Requests in flight, with the time at which their response began.
    requests: BTreeMap<Number, Option<Instant>>,
    /// The time at which the incomplete request began.
    began: Option<Instant>,
    body: Arrival,
    /// True if bytes of the next request arrived before the current response was sent.
    is_ahead: bool,
    /// The time at which the last response began, until all its bytes are written to the socket.
    unsent: Option<Instant>,
    progress: Instant,
    idle_since: Instant,
}

impl Phase {
    /// The phase of a connection that was accepted at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_http2: false,
            next: 0,
            requests: BTreeMap::new(),
            began: Some(now),
            body: Arrival::Open,
            is_ahead: false,
            unsent: None,
            progress: now,
            idle_since: now,
        }
    }

    /// Records that bytes arrived.
    pub(super) fn received(&mut self, now: Instant) {
        if self.is_http2 {
            return;
        }
        if !self.requests.is_empty() || self.unsent.is_some() {
            self.is_ahead |= self.body == Arrival::Ended;
        } else if self.began.is_none() {
            self.began = Some(now);
        }
    }

    /// Records that bytes were written to the socket.
    pub(super) fn sent(&mut self, now: Instant) {
        self.progress = now;
    }

    /// Records that all bytes were written to the socket.
    pub(super) fn flushed(&mut self, now: Instant) {
        if self.unsent.take().is_some() {
            self.rest(now);
        }
    }

    /// Records that the head of a request is complete. Returns the request's number.
    pub(super) fn request(&mut self, is_http2: bool, has_body: bool, now: Instant) -> Number {
        self.is_http2 = is_http2;
        self.unsent = None;
        if is_http2 {
            self.began = None;
        } else {
            self.began.get_or_insert(now);
            self.body = if has_body { Arrival::Open } else { Arrival::Ended };
            self.is_ahead = false;
        }
        let number = self.next;
        self.next += 1;
        self.requests.insert(number, None);
        number
    }

    /// Records that a handler starts or stops waiting for more of its request's body.
    pub(super) fn wants_body(&mut self, wants: bool) {
        // For HTTP/2, the routes limit the time of each body.
        if !self.is_http2 && self.body != Arrival::Ended {
            self.body = if wants { Arrival::Wanted } else { Arrival::Open };
        }
    }

    /// Records that the body is complete or dropped.
    pub(super) fn body_ended(&mut self) {
        self.body = Arrival::Ended;
    }

    /// Records that the response to a request begins.
    pub(super) fn response(&mut self, number: Number, now: Instant) {
        if let Some(began) = self.requests.get_mut(&number) {
            *began = Some(now);
        }
    }

    /// Records that a request has ended: its response is complete, or will not be sent.
    pub(super) fn ended(&mut self, number: Number, now: Instant) {
        let began = self.requests.remove(&number).flatten();
        if !self.requests.is_empty() {
            return;
        }
        self.began = None;
        self.unsent = began.filter(|_| !self.is_http2);
        if self.unsent.is_none() {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        self.idle_since = now;
        if self.requests.is_empty() {
            self.began = self.is_ahead.then_some(now);
            self.is_ahead = false;
        }
    }

    /// Records that bytes of a request have arrived unread, so that the connection is no longer idle.
    pub(super) fn not_idle(&mut self, now: Instant) {
        self.idle_since = now;
    }

    /// The time at which the oldest response in flight began.
    fn oldest_response(&self) -> Option<Instant> {
        self.requests.values().flatten().copied().chain(self.unsent).min()
    }

    /// Returns the event that the connection waits for, and since when.
    pub(super) fn place(&self) -> Place {
        let place = |waits, since| Place { waits, since };
        match (self.oldest_response(), self.began) {
            (Some(since), _) => place(Waits::Response, since),
            (None, Some(began)) if self.requests.is_empty() || self.body == Arrival::Wanted => {
                place(Waits::Request, began)
            }
            (None, None) if self.requests.is_empty() => place(Waits::Idle, self.idle_since),
            // The time is not used: a connection with a handler at work is never closed.
            _ => place(Waits::Handler, self.idle_since),
        }
    }

    /// Returns the time at which to close the connection if nothing happens before, and the reason.
    pub(super) fn deadline(&self, times: &Times) -> Option<(Instant, Closed)> {
        let Place { waits, since } = self.place();
        match waits {
            Waits::Request => Some((since + times.request, Closed::Unfinished)),
            Waits::Idle => Some((since + times.idle, Closed::Idle)),
            Waits::Response => {
                let stalled = self.progress.max(since) + times.stall;
                Some((stalled.min(since + times.response), Closed::SlowReader))
            }
            Waits::Handler => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times {
        request: Duration::from_secs(30),
        idle: Duration::from_secs(75),
        stall: Duration::from_secs(30),
        response: Duration::from_mins(2),
    };

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: u64) -> Instant {
            self.0 + Duration::from_secs(seconds)
        }

        /// The deadline in seconds since the beginning, and its reason.
        fn deadline(&self, phase: &Phase) -> Option<(u64, Closed)> {
            phase.deadline(&TIMES).map(|(at, reason)| ((at - self.0).as_secs(), reason))
        }
    }

    fn accepted() -> (Clock, Phase) {
        let clock = Clock(Instant::now());
        let phase = Phase::new(clock.0);
        (clock, phase)
    }

    #[test]
    fn bytes_of_the_first_head_do_not_extend_its_deadline() {
        let (clock, mut phase) = accepted();
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
        phase.received(clock.at(29));
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
    }

    #[test]
    fn a_body_has_the_deadline_of_its_head_while_a_handler_waits_for_it() {
        let (clock, mut phase) = accepted();
        phase.request(false, true, clock.at(5));
        assert_eq!(clock.deadline(&phase), None, "the handler's time does not count");
        phase.wants_body(true);
        phase.received(clock.at(20));
        assert_eq!(clock.deadline(&phase), Some((30, Closed::Unfinished)));
        phase.body_ended();
        assert_eq!(clock.deadline(&phase), None);
    }

    #[test]
    fn connection_is_idle_after_its_last_response() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(1));
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(3));
        assert_eq!(clock.deadline(&phase), Some((32, Closed::SlowReader)), "the response is not sent yet");
        phase.flushed(clock.at(4));
        assert_eq!(clock.deadline(&phase), Some((79, Closed::Idle)));
        phase.received(clock.at(70));
        assert_eq!(clock.deadline(&phase), Some((100, Closed::Unfinished)), "the next request's first byte");
        phase.received(clock.at(99));
        assert_eq!(clock.deadline(&phase), Some((100, Closed::Unfinished)));
    }

    #[test]
    fn a_response_must_make_progress_and_end() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(0));
        phase.response(number, clock.at(10));
        assert_eq!(clock.deadline(&phase), Some((40, Closed::SlowReader)));
        phase.sent(clock.at(39));
        assert_eq!(clock.deadline(&phase), Some((69, Closed::SlowReader)));
        phase.sent(clock.at(129));
        assert_eq!(clock.deadline(&phase), Some((130, Closed::SlowReader)), "dripping does not help");
    }

    #[test]
    fn a_request_that_begins_before_the_response_to_the_last_is_not_idle() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, false, clock.at(0));
        phase.received(clock.at(1));
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(2));
        phase.flushed(clock.at(2));
        assert_eq!(clock.deadline(&phase), Some((32, Closed::Unfinished)));
    }

    #[test]
    fn rest_of_a_body_is_not_the_next_request() {
        let (clock, mut phase) = accepted();
        let number = phase.request(false, true, clock.at(0));
        phase.received(clock.at(1));
        phase.body_ended();
        phase.response(number, clock.at(2));
        phase.ended(number, clock.at(2));
        phase.flushed(clock.at(2));
        assert_eq!(clock.deadline(&phase), Some((77, Closed::Idle)));
    }

    #[test]
    fn http2_connection_is_idle_only_without_streams() {
        let (clock, mut phase) = accepted();
        let one = phase.request(true, true, clock.at(1));
        let other = phase.request(true, false, clock.at(2));
        phase.response(one, clock.at(3));
        phase.ended(one, clock.at(4));
        assert_eq!(clock.deadline(&phase), None);
        phase.ended(other, clock.at(5));
        phase.received(clock.at(60));
        assert_eq!(clock.deadline(&phase), Some((80, Closed::Idle)));
    }
}
