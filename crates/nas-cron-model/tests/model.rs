//! Every scope holds every property, and every planted mistake is found.
//!
//! The numbers of steps are lengths of shortest counterexamples. They change only with the model.

use std::collections::{BTreeMap, BTreeSet};

use nas_cron_model::check::{Edge, Report, check};
use nas_cron_model::world::Limit::AtMost;
use nas_cron_model::world::Violation::{
    FalseSkew, Fence, Lost, NeverEnds, Overlap, Repeated, SecondFireTooEarly, StartedAfterCancel, TooLate,
};
use nas_cron_model::world::{Config, Limits, Mistake, Violation};

const NONE: Limits = Limits::NONE;

/// The agent's requests, and no fault.
fn requests(provisions: u8, cancels: u8) -> Config {
    let limits = Limits { provisions: AtMost(provisions), cancels: AtMost(cancels), ..NONE };
    Config { limits, ..Config::SMALLEST }
}

/// Adds events to a scope.
fn with(config: Config, add: impl FnOnce(&mut Limits)) -> Config {
    let mut limits = config.limits;
    add(&mut limits);
    Config { limits, ..config }
}

/// One provision, replicas that may be declared dead, and statements that read by snapshot.
fn registered(add: impl FnOnce(&mut Limits)) -> Config {
    with(Config { registrations: true, snapshots: true, ..requests(1, 0) }, add)
}

fn holds(name: &str, config: Config) -> Report {
    let report = check(&config);
    println!("{name}: {report}");
    assert!(report.trace.is_none(), "{name}: {}", report.trace.expect("checked"));
    report
}

fn fails(name: &str, config: Config, violation: Violation, steps: usize) {
    let report = check(&config);
    println!("{name}: {violation:?} after {steps} steps ({report})");
    let trace = report.trace.unwrap_or_else(|| panic!("{name} is not found"));
    assert_eq!((trace.violation, trace.steps.len()), (violation, steps), "{name}: {trace}");
}

fn finds(mistake: Mistake, config: Config, violation: Violation, steps: usize) {
    fails(&format!("{mistake:?}"), Config { mistake: Some(mistake), ..config }, violation, steps);
}

#[test]
fn requests_break_no_property() {
    holds("three provisions, one cancel", requests(3, 1));
    holds("gone", Config { gone: true, ..requests(2, 1) });
    holds("limits", Config { limited: true, ..requests(2, 1) });
    let hold = with(requests(1, 0), |limits| (limits.holds, limits.redrives) = (AtMost(1), AtMost(1)));
    holds("limits, a hold, a redrive", Config { limited: true, future: true, backend: true, ..hold });
    holds("a newer agent", Config { newer_agent: true, tasks_max: 1, ..requests(2, 0) });
    holds("two keys", Config { keys: 2, ..requests(3, 0) });
    holds("a redrive", with(requests(2, 0), |limits| limits.redrives = AtMost(1)));
    holds("a nudge", with(requests(2, 0), |limits| limits.nudges = AtMost(1)));
    let newer = Config { newer_agent: true, tasks_max: 1, ..requests(1, 0) };
    holds("a nudge of a newer agent", with(newer, |limits| limits.nudges = AtMost(1)));
    holds("wake-ups", Config { future: true, backend: true, ..requests(2, 1) });
    holds("lost wake-ups", Config { future: true, backend: true, wake_ups_lost: true, ..requests(2, 1) });
    let hold = with(requests(1, 1), |limits| limits.holds = AtMost(1));
    holds("a hold", Config { snapshots: true, ..hold });
}

#[test]
fn a_crash_of_the_database_breaks_no_property() {
    holds("a crash of the database", with(requests(2, 0), |limits| limits.database_crashes = AtMost(1)));
}

#[test]
fn a_faulty_replica_breaks_no_property() {
    let killed = with(requests(1, 0), |limits| limits.crashes = AtMost(1));
    holds("a killed replica and a newer agent", Config { newer_agent: true, ..killed });
    holds("a killed replica", registered(|limits| limits.crashes = AtMost(1)));
    holds("a frozen replica", registered(|limits| limits.freezes = AtMost(1)));
    let partition = registered(|limits| limits.partitions = AtMost(1));
    holds("a partition", Config { snapshots: false, ..partition });
    holds("a terminated session", registered(|limits| limits.terminations = AtMost(1)));
    let killed = registered(|limits| limits.crashes = AtMost(1));
    holds("a killed replica, with leases without end", Config { endless_leases: true, ..killed });
}

/// `make model`: minutes, and up to 10 GB of memory.
#[test]
#[ignore = "takes minutes: `make model`"]
fn larger_scopes_break_no_property() {
    holds("four provisions, two cancels, gone", Config { gone: true, ..requests(4, 2) });
    let hold = with(requests(2, 0), |limits| (limits.holds, limits.redrives) = (AtMost(1), AtMost(1)));
    holds(
        "limits, wake-ups, a hold, a redrive",
        Config { limited: true, future: true, backend: true, ..hold },
    );
    holds("two keys, gone", Config { keys: 2, gone: true, ..requests(3, 1) });
    holds("three tasks", Config { tasks_max: 3, ..requests(2, 1) });
    let hold = with(requests(2, 1), |limits| (limits.holds, limits.redrives) = (AtMost(1), AtMost(1)));
    holds("wake-ups, a hold, a redrive", Config { future: true, backend: true, ..hold });
    let hold = with(requests(1, 1), |limits| limits.holds = AtMost(1));
    holds("a hold, by snapshot", Config { snapshots: true, ..hold });
    holds("a partition, by snapshot", registered(|limits| limits.partitions = AtMost(1)));
    holds("two crashes of the database", with(requests(2, 1), |limits| limits.database_crashes = AtMost(2)));
    holds(
        "a partition and a terminated session",
        registered(|limits| {
            (limits.partitions, limits.terminations) = (AtMost(1), AtMost(1));
        }),
    );
    holds(
        "two provisions, a killed replica",
        registered(|limits| {
            (limits.provisions, limits.crashes) = (AtMost(2), AtMost(1));
        }),
    );
}

#[test]
#[ignore = "takes minutes: `make model`"]
fn larger_scopes_of_a_newer_agent_break_no_property() {
    holds("two provisions, a newer agent", Config { newer_agent: true, ..requests(2, 0) });
    holds("gone, a newer agent", Config { gone: true, newer_agent: true, tasks_max: 1, ..requests(3, 1) });
    holds("two keys, a newer agent", Config { keys: 2, newer_agent: true, tasks_max: 1, ..requests(3, 0) });
}

#[test]
fn planted_mistakes_in_statements_are_found() {
    let limited = Config { limited: true, ..requests(1, 0) };
    finds(Mistake::ConfirmationIgnoresLimit, limited, TooLate, 5);
    finds(Mistake::NoExpiry, limited, NeverEnds, 3);
    finds(Mistake::DeliveredAtBeforeLock, Config { keys: 2, ..requests(2, 0) }, FalseSkew, 18);
    finds(Mistake::NoFence, requests(1, 0), Fence, 12);
    finds(Mistake::OutcomeOfSuperseded, Config { keys: 2, ..requests(2, 0) }, Fence, 7);
    finds(Mistake::NoConfirmation, requests(1, 1), StartedAfterCancel, 4);
    finds(Mistake::DeliveredKeyBySnapshot, requests(2, 0), SecondFireTooEarly, 9);
    let snapshots = Config { snapshots: true, ..requests(1, 1) };
    finds(Mistake::ConfirmationBySnapshot, snapshots, StartedAfterCancel, 6);
    finds(Mistake::RecoveryForgetsProvision, requests(2, 0), Lost, 10);
    finds(Mistake::RememberedOnlyWhileFiring, requests(2, 0), Lost, 10);
    finds(Mistake::LateDeliveryIgnored, requests(1, 0), Repeated, 12);
    let lost = Config { future: true, backend: true, wake_ups_lost: true, ..requests(1, 0) };
    finds(Mistake::NoWatchdog, lost, NeverEnds, 1);
    finds(Mistake::NudgeAtOnce, with(requests(1, 0), |limits| limits.nudges = AtMost(1)), Overlap, 15);
    finds(Mistake::NoRelease, with(requests(1, 0), |limits| limits.holds = AtMost(1)), NeverEnds, 3);
    let newer = Config { newer_agent: true, tasks_max: 1, ..requests(1, 0) };
    finds(Mistake::DuplicateIsFinal, newer, Lost, 12);
    let newer = Config { keys: 2, ..with(newer, |limits| limits.provisions = AtMost(3)) };
    finds(Mistake::DuplicateShowsSkew, newer, FalseSkew, 12);
    let crash = with(requests(1, 0), |limits| limits.database_crashes = AtMost(1));
    finds(Mistake::AsynchronousOutcome, crash, Repeated, 9);
    finds(Mistake::AsynchronousProvision, crash, Lost, 2);
}

#[test]
fn planted_mistakes_in_declaring_replicas_dead_are_found() {
    let terminated = registered(|limits| limits.terminations = AtMost(1));
    finds(Mistake::TakeOverTooEarly, terminated, Overlap, 16);
    finds(Mistake::SessionAlone, terminated, Overlap, 13);
    finds(Mistake::CountedFromReply, terminated, Overlap, 22);
    finds(Mistake::DeclaredBySnapshot, terminated, Overlap, 25);
    finds(Mistake::NoAbort, terminated, Overlap, 17);
    finds(Mistake::UncheckedPost, terminated, Overlap, 16);
    finds(Mistake::SilenceAlone, registered(|limits| limits.freezes = AtMost(1)), Overlap, 17);
    let crash = registered(|limits| limits.database_crashes = AtMost(1));
    finds(Mistake::AsynchronousRenewal, Config { synchronous_confirmations: true, ..crash }, Overlap, 19);
    let killed = registered(|limits| (limits.crashes, limits.terminations) = (AtMost(1), AtMost(1)));
    let killed = Config { endless_leases: true, snapshots: false, ..killed };
    finds(Mistake::SameIdentity, killed, NeverEnds, 5);
    finds(Mistake::DeathUnnoticed, killed, NeverEnds, 10);
}

/// Coincidences that the design accepts: docs/reliability.md#guarantees.
#[test]
fn attempts_overlap_only_after_these_coincidences() {
    let both = registered(|limits| (limits.freezes, limits.terminations) = (AtMost(1), AtMost(1)));
    fails(
        "a frozen replica without its session",
        Config { terminations_while_frozen: true, ..both },
        Overlap,
        18,
    );
    let crash = with(requests(1, 0), |limits| limits.database_crashes = AtMost(1));
    fails("a confirmation lost in a crash", Config { strict_overlap: true, ..crash }, Overlap, 6);
    holds(
        "synchronous confirmations",
        Config { strict_overlap: true, synchronous_confirmations: true, ..crash },
    );
}

/// Rows of the table, as (from, statement, to).
fn table(edges: &BTreeSet<Edge>) -> Vec<String> {
    let name = |state: &Option<_>| state.map_or("none".to_owned(), |state| format!("`{state}`"));
    let mut rows: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (from, statement, to) in edges {
        rows.entry((statement, to)).or_default().push(name(from));
    }
    rows.iter()
        .map(|((statement, to), from)| format!("| {} | `{statement}` | {} |", from.join(", "), name(to)))
        .collect()
}

#[test]
fn the_table_of_transitions_is_the_models() {
    let everything = with(requests(3, 1), |limits| (limits.holds, limits.redrives) = (AtMost(1), AtMost(1)));
    let nudged = with(requests(1, 0), |limits| limits.nudges = AtMost(1));
    let everything = Config { keys: 2, gone: true, future: true, backend: true, tasks_max: 1, ..everything };
    let mut edges = holds("all statements", everything).edges;
    edges.append(&mut holds("late outcomes", Config { gone: true, ..requests(3, 0) }).edges);
    edges.append(&mut holds("expiry", Config { limited: true, ..requests(3, 0) }).edges);
    edges.append(&mut holds("a nudge", nudged).edges);
    let page = include_str!("../../../docs/ARCHITECTURE.md");
    let rows = page.lines().skip_while(|line| *line != "| from | statement | to |").skip(2);
    let listed: Vec<_> = rows.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(listed, table(&edges), "the table should be:\n{}\n", table(&edges).join("\n"));
}
