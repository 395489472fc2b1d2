//! The demo's output: a line per fire and a summary at the end.

use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::output;
use tokio::sync::mpsc::UnboundedReceiver;

use super::event::{Event, EventKind, Verdict};
use crate::times::Times;

/// Counts of a run's events.
#[derive(Debug)]
pub(super) struct Tally {
    /// Fires that were verified and not early.
    pub(super) verified: u64,
    again: u64,
    early: u64,
    unverified: u64,
    missing: u64,
    failed_calls: u64,
    lateness: Times,
}

impl Tally {
    pub(super) fn new() -> Self {
        let lateness = Times::new();
        Self { verified: 0, again: 0, early: 0, unverified: 0, missing: 0, failed_calls: 0, lateness }
    }

    pub(super) fn count(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Fired { verdict: Verdict::OnTime, lateness, .. } => {
                self.verified += 1;
                self.lateness.record(*lateness);
            }
            EventKind::Fired { verdict: Verdict::Early, .. } => self.early += 1,
            EventKind::Fired { verdict: Verdict::Again, .. } => self.again += 1,
            EventKind::Unverified { .. } => self.unverified += 1,
            EventKind::Missing { .. } => self.missing += 1,
            EventKind::Failed { .. } => self.failed_calls += 1,
        }
    }

    /// True if a fire was early, unverified or missing, or a call failed.
    pub(super) fn is_faulty(&self) -> bool {
        self.early + self.unverified + self.missing + self.failed_calls > 0
    }

    /// Returns the summary that is printed at the end.
    pub(super) fn summary(&self) -> String {
        let Self { verified, again, early, unverified, missing, failed_calls, lateness } = self;
        let mut parts = vec![format!("{} verified", plural(*verified, "fire"))];
        if !lateness.is_empty() {
            let [p50, p99] = [50.0, 99.0].map(|percent| lateness.percentile_ms(percent));
            let max = lateness.max_ms();
            parts.push(format!("\n  lateness   p50 {p50:.1} ms   p99 {p99:.1} ms   max {max:.1} ms"));
        }
        parts.push(format!("\n  early {early}   unverified {unverified}   missing {missing}"));
        if *again > 0 {
            parts.push(format!("   delivered again {again}"));
        }
        if *failed_calls > 0 {
            parts.push(format!("   failed calls {failed_calls}"));
        }
        parts.concat()
    }
}

/// "1 fire", "2 fires".
fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// Counts the agents' events and passes each to `show`. Ends when `end` does, when all agents have ended, or, with a
/// `target`, after that many verified fires or at the first fault.
pub(super) async fn watch(
    events: &mut UnboundedReceiver<Event>,
    target: Option<u64>,
    mut show: impl FnMut(&Event),
    end: impl Future<Output = ()>,
) -> Tally {
    let mut tally = Tally::new();
    tokio::pin!(end);
    while target.is_none_or(|target| tally.verified < target && !tally.is_faulty()) {
        tokio::select! {
            () = &mut end => break,
            event = events.recv() => match event {
                Some(event) => {
                    tally.count(&event);
                    show(&event);
                }
                None => break,
            },
        }
    }
    tally
}

/// Prints events, in colour on a terminal unless `NO_COLOR` is set.
#[derive(Debug)]
pub(super) struct Screen {
    colour: bool,
    /// Length of the longest agent name.
    width: usize,
}

impl Screen {
    /// Creates a screen for agent names of at most `width` characters.
    pub(super) fn new(width: usize) -> Self {
        let colour =
            output::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
        Self { colour, width }
    }

    /// Prints the event.
    pub(super) fn show(&self, event: &Event) {
        // If the reader has left, the demo ends in order.
        let _ = writeln!(output::stdout(), "{}", self.line(event));
    }

    /// Formats `TIME  AGENT  EVENT  LATENESS  FIRE_AT`; the part of variable length comes last.
    fn line(&self, event: &Event) -> String {
        let (code, word, lateness, rest) = match &event.kind {
            EventKind::Fired { fire_at, lateness, verdict } => {
                let (code, word, note) = match verdict {
                    Verdict::OnTime => ("32", "fired", ", verified"),
                    Verdict::Early => ("31", "EARLY", ""),
                    Verdict::Again => ("33", "again", ", delivered before"),
                };
                (code, word, in_ms(*lateness), format!("due {fire_at}{note}"))
            }
            EventKind::Unverified { why } => ("31", "UNVERIFIED", String::new(), why.clone()),
            EventKind::Missing { fire_at } => ("31", "MISSING", String::new(), format!("due {fire_at}")),
            EventKind::Failed { error } => ("31", "ERROR", String::new(), error.clone()),
        };
        let (on, off) = if self.colour { (format!("\x1b[{code}m"), "\x1b[0m") } else { (String::new(), "") };
        let (time, agent, width) = (clock_face(event.at), &event.agent, self.width);
        format!("{time}  {agent:width$}  {on}{word:10}{off}  {lateness:>11}  {rest}")
    }
}

fn clock_face(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3fZ").to_string()
}

#[expect(clippy::cast_precision_loss, reason = "for display; 2^52 microseconds are 142 years")]
fn in_ms(lateness: TimeDelta) -> String {
    format!("{:+.1} ms", lateness.num_microseconds().unwrap_or(i64::MAX) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;
    use tokio::sync::mpsc;

    use super::*;

    fn event(kind: EventKind) -> Event {
        let at = DateTime::from_timestamp(1_781_786_096, 1_234_000).unwrap();
        Event { agent: "dev-hosted".into(), at, kind }
    }

    fn fired(micros: i64, verdict: Verdict) -> Event {
        let fire_at = "2026-06-18T12:34:56.000123+00:00".into();
        event(EventKind::Fired { fire_at, lateness: TimeDelta::microseconds(micros), verdict })
    }

    fn faults() -> [Event; 4] {
        [
            fired(-1_900, Verdict::Early),
            event(EventKind::Unverified { why: "the token has expired".into() }),
            event(EventKind::Missing { fire_at: "2026-06-18T12:34:56+00:00".into() }),
            event(EventKind::Failed { error: "provision failed: answered 503: {}".into() }),
        ]
    }

    #[test]
    fn lines_are_aligned() {
        let screen = Screen { colour: false, width: 14 };
        let mut events = vec![fired(1_111, Verdict::OnTime), fired(12_345_678, Verdict::Again)];
        events.extend(faults());
        let lines: Vec<_> = events.iter().map(|event| screen.line(event)).collect();
        assert_snapshot!(lines.join("\n"), @"
        12:34:56.001Z  dev-hosted      fired           +1.1 ms  due 2026-06-18T12:34:56.000123+00:00, verified
        12:34:56.001Z  dev-hosted      again       +12345.7 ms  due 2026-06-18T12:34:56.000123+00:00, delivered before
        12:34:56.001Z  dev-hosted      EARLY           -1.9 ms  due 2026-06-18T12:34:56.000123+00:00
        12:34:56.001Z  dev-hosted      UNVERIFIED               the token has expired
        12:34:56.001Z  dev-hosted      MISSING                  due 2026-06-18T12:34:56+00:00
        12:34:56.001Z  dev-hosted      ERROR                    provision failed: answered 503: {}
        ");
        let colour = Screen { colour: true, width: 10 };
        assert_snapshot!(colour.line(&fired(1_111, Verdict::OnTime)).escape_debug(), @r"12:34:56.001Z  dev-hosted  \u{1b}[32mfired     \u{1b}[0m      +1.1 ms  due 2026-06-18T12:34:56.000123+00:00, verified");
    }

    #[test]
    fn summary_counts_fires_and_faults() {
        let mut tally = Tally::new();
        assert_snapshot!(tally.summary(), @"
        0 fires verified
          early 0   unverified 0   missing 0
        ");
        tally.count(&fired(1_000, Verdict::OnTime));
        assert!(!tally.is_faulty());
        assert_snapshot!(tally.summary(), @"
        1 fire verified
          lateness   p50 1.0 ms   p99 1.0 ms   max 1.0 ms
          early 0   unverified 0   missing 0
        ");
        tally.count(&fired(5_000, Verdict::Again));
        assert!(!tally.is_faulty(), "delivery is at least once");
        for event in faults() {
            tally.count(&event);
        }
        assert_snapshot!(tally.summary(), @"
        1 fire verified
          lateness   p50 1.0 ms   p99 1.0 ms   max 1.0 ms
          early 1   unverified 1   missing 1   delivered again 1   failed calls 1
        ");
    }

    #[test]
    fn every_fault_makes_the_run_faulty() {
        for event in faults() {
            let mut tally = Tally::new();
            tally.count(&event);
            assert!(tally.is_faulty(), "{event:?}");
        }
    }

    #[tokio::test]
    async fn watch_ends_at_its_target_or_a_fault_or_its_end() {
        let (sender, mut events) = mpsc::unbounded_channel();
        for _ in 0..3 {
            sender.send(fired(1_000, Verdict::OnTime)).unwrap();
        }
        let tally = watch(&mut events, Some(2), |_| {}, std::future::pending()).await;
        assert_eq!((tally.verified, tally.is_faulty()), (2, false));

        sender.send(event(EventKind::Missing { fire_at: "x".into() })).unwrap();
        let mut seen = 0;
        let tally = watch(&mut events, Some(2), |_| seen += 1, std::future::pending()).await;
        assert_eq!((tally.verified, tally.is_faulty(), seen), (1, true, 2));

        let tally = watch(&mut events, None, |_| {}, std::future::ready(())).await;
        assert_eq!(tally.verified, 0);
        sender.send(event(EventKind::Missing { fire_at: "x".into() })).unwrap();
        drop(sender);
        assert!(watch(&mut events, None, |_| {}, std::future::pending()).await.is_faulty());
    }
}
