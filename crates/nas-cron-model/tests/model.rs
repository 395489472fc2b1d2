//! Every scope holds every property, and every planted mistake is found.

use nas_cron_model::check::{Report, check};
use nas_cron_model::world::Limit::{AtMost, Unlimited};
use nas_cron_model::world::{Config, Limits, Mistake, Violation};

/// The agent's requests, and no fault.
fn requests(provisions: u8, cancels: u8) -> Config {
    let limits = Limits { provisions: AtMost(provisions), cancels: AtMost(cancels), ..Limits::NONE };
    Config { limits, ..Config::SMALLEST }
}

/// One request, with heartbeats and statements that read by snapshot.
fn heartbeats(limits: Limits) -> Config {
    Config { heartbeats: true, snapshots: true, limits: Limits { provisions: AtMost(1), ..limits }, ..Config::SMALLEST }
}

fn holds(config: &Config, name: &str) -> Report {
    let report = check(config);
    println!("{name}: {report}");
    if let Some(trace) = report.trace {
        panic!("{name}: {trace}");
    }
    report
}

#[allow(dead_code)]
fn fails(config: &Config, violation: Violation, steps: usize) {
    let report = check(config);
    println!("{:?}: {report}", config.mistake);
    let trace = report.trace.unwrap_or_else(|| panic!("{:?} is not found: {:?}", config.mistake, config));
    println!("{trace}");
    assert_eq!((trace.violation, trace.steps.len()), (violation, steps), "{:?}", config.mistake);
}

#[test]
fn requests_hold_every_property() {
    holds(&requests(3, 1), "three provisions, a cancel");
    holds(&Config { gone: true, ..requests(2, 1) }, "gone");
    holds(&Config { keys: 2, ..requests(3, 0) }, "two keys");
    let redrives = Limits { redrives: AtMost(1), ..requests(2, 0).limits };
    holds(&Config { limits: redrives, ..requests(2, 0) }, "a redrive");
}

#[test]
fn wake_ups_and_holds_hold_every_property() {
    holds(&Config { future: true, backend: true, ..requests(2, 1) }, "wake-ups");
    let limits = Limits { holds: AtMost(1), ..requests(1, 0).limits };
    holds(&Config { limits, snapshots: true, ..Config::SMALLEST }, "a hold");
}

#[test]
fn a_crash_of_the_database_holds_every_property() {
    let limits = Limits { database_crashes: AtMost(1), ..requests(2, 0).limits };
    holds(&Config { limits, ..Config::SMALLEST }, "a crash of the database");
}

#[test]
fn a_faulty_replica_holds_every_property() {
    holds(&heartbeats(Limits { crashes: AtMost(1), ..Limits::NONE }), "a killed replica");
    holds(&heartbeats(Limits { freezes: AtMost(1), ..Limits::NONE }), "a frozen replica");
    holds(&heartbeats(Limits { partitions: AtMost(1), ..Limits::NONE }), "a partition");
    holds(&heartbeats(Limits { terminations: AtMost(1), ..Limits::NONE }), "a terminated session");
}

#[test]
fn mistakes() {
    let db = |c: Config| Config { limits: Limits { database_crashes: AtMost(1), ..c.limits }, ..c };
    let one = AtMost(1);
    let _ = Unlimited;
    let frozen = Limits { freezes: one, ..Limits::NONE };
    let cut_off = Limits { terminations: one, ..Limits::NONE };
    for (mistake, config) in [
        (Mistake::TakeOverTooEarly, heartbeats(cut_off)),
        (Mistake::HeartbeatAlone, heartbeats(frozen)),
        (Mistake::LockAlone, heartbeats(cut_off)),
        (Mistake::CountedFromReply, heartbeats(cut_off)),
        (Mistake::RecoveryBySnapshot, heartbeats(cut_off)),
        (Mistake::AsynchronousRenewal, db(Config { synchronous_confirmations: true, ..heartbeats(Limits::NONE) })),
        (Mistake::RecoveryForgetsProvision, requests(2, 0)),
        (Mistake::RememberedOnlyWhileFiring, requests(2, 0)),
        (Mistake::LateDeliveryIgnored, requests(1, 0)),
        (Mistake::NoWatchdog, Config { wake_ups_lost: true, future: true, backend: true, ..requests(1, 0) }),
        (Mistake::NoRelease, Config { limits: Limits { holds: AtMost(1), ..requests(1, 0).limits }, ..Config::SMALLEST }),
    ] {
        let report = check(&Config { mistake: Some(mistake), ..config });
        println!("{mistake:?}: {report} {:?}", report.trace.as_ref().map(|t| (t.violation, t.steps.len())));
    }
    let report = check(&Config { terminations_while_frozen: true, ..heartbeats(Limits { freezes: AtMost(1), terminations: AtMost(1), ..Limits::NONE }) });
    println!("frozen+terminated {report} {}", report.trace.as_ref().unwrap().steps.len());
    let report = check(&Config { strict_overlap: true, ..db(requests(1, 0)) });
    println!("lost confirmation {report} {}", report.trace.as_ref().unwrap().steps.len());
}
