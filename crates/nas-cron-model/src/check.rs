//! A breadth-first search over all states of a scope.
//!
//! Stateright was considered. Its `eventually` works on acyclic graphs only, by its own documentation, and this model has
//! cycles; the liveness property here needs the whole graph, as does the table of transitions in docs/ARCHITECTURE.md. It
//! also brings an HTTP server that no feature removes.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

use crate::row::{Row, State};
use crate::world::{Action, Config, Violation, World};

/// The shortest sequence of steps to a violation.
#[derive(Debug)]
pub struct Trace {
    /// The broken property.
    pub violation: Violation,
    /// Its steps, each with the state after it.
    pub steps: Vec<(Action, World)>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after {} steps:", self.violation, self.steps.len())?;
        for (action, world) in &self.steps {
            let row = world.database.row.map_or("no row".to_owned(), |row| {
                let Row { state, key, next_attempt_at, token, asked_again_at, delivered, .. } = row;
                let delivered = delivered.map(|delivered| (delivered.key, delivered.at));
                format!("{state} key={key} next={next_attempt_at:?} token={token:?} asked_again_at={asked_again_at:?} delivered={delivered:?}")
            });
            writeln!(f, "  {:<60} {row}", format!("{action:?}"))?;
        }
        Ok(())
    }
}

/// Change of a job's one-shot: the state before (`None`: there was none), the statement, and the state after it.
pub type Edge = (Option<State>, &'static str, Option<State>);

/// Result of a search.
#[derive(Debug)]
pub struct Report {
    /// Number of states.
    pub states: usize,
    /// Number of steps between them.
    pub transitions: usize,
    /// Number of steps to the most distant state.
    pub depth: usize,
    /// Duration of the search.
    pub took: Duration,
    /// Changes of the one-shot that occurred.
    pub edges: BTreeSet<Edge>,
    /// The shortest counterexample.
    pub trace: Option<Trace>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, depth, took, .. } = self;
        write!(f, "{states} states, {transitions} transitions, depth {depth}, {:.1} s", took.as_secs_f64())
    }
}

/// A hash that is a hash already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u64 is hashed");
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

fn fingerprint(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    world.hash(&mut hasher);
    hasher.finish()
}

/// Visits every state of the scope. Stops at the first violation, which is one of the nearest.
pub fn check(config: &Config) -> Report {
    let began = Instant::now();
    let mut index: HashMap<u64, u32, BuildHasherDefault<Identity>> = HashMap::default();
    // By number of the state: its fingerprint and the state before it.
    let mut known: Vec<(u64, u32)> = Vec::new();
    let mut at_rest: Vec<u32> = Vec::new();
    // Steps towards rest, as (to, from).
    let mut progress: Vec<(u32, u32)> = Vec::new();
    let mut edges = BTreeSet::new();
    let mut queue = VecDeque::new();
    let (mut transitions, mut depth) = (0, 0);
    let mut violation = None;

    let first = World::new(config);
    known.push((fingerprint(&first), 0));
    index.insert(known[0].0, 0);
    queue.push_back((first, 0_u32, 0_usize));
    'search: while let Some((world, number, distance)) = queue.pop_front() {
        depth = distance;
        if world.is_at_rest() {
            at_rest.push(number);
        }
        for (action, next) in world.steps(config) {
            transitions += 1;
            note_edge(&mut edges, &world, action, &next);
            let hash = fingerprint(&next);
            let fresh = u32::try_from(known.len()).expect("fewer than 2^32 states");
            let to = match index.entry(hash) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    entry.insert(fresh);
                    known.push((hash, number));
                    if let Some(found) = next.violation {
                        violation = Some((found, fresh));
                        break 'search;
                    }
                    queue.push_back((next, fresh, distance + 1));
                    fresh
                }
            };
            if action.is_progress() {
                progress.push((to, number));
            }
        }
    }
    if violation.is_none() {
        violation = never_ending(known.len(), at_rest, progress).map(|number| (Violation::NeverEnds, number));
    }
    let trace = violation.map(|(violation, number)| Trace { violation, steps: path(config, &known, number) });
    Report { states: known.len(), transitions, depth, took: began.elapsed(), edges, trace }
}

fn note_edge(edges: &mut BTreeSet<Edge>, from: &World, action: Action, to: &World) {
    let (before, after) = (from.database.row, to.database.row);
    let statement = match action {
        Action::Commit { statement } => statement,
        Action::Provision { .. } => "provision",
        Action::Cancel => "cancel",
        Action::Release => "release",
        Action::Redrive => "redrive",
        Action::Nudge => "nudge",
        Action::ClaimDue { .. } => "claim_due",
        Action::Take { .. } => "take",
        Action::TakeOverMissed => "take_over_missed",
        Action::Confirm { .. } => "confirm",
        Action::GiveBack { .. } => "give_back",
        Action::FinishFires { .. } => "finish_fires",
        Action::RecoverExpired => "recover_expired",
        Action::Expire => "expire",
        Action::DeclareDead => "declare_dead",
        _ => return,
    };
    let (from, to) = (before.map(|row| row.state), after.map(|row| row.state));
    let superseded = before.zip(after).is_some_and(|(before, after)| before.key != after.key);
    if from != to || superseded {
        edges.insert((from, statement, to));
    }
}

/// Returns a state from which no progress leads to rest. With none, and if every possible step is taken in the end, every
/// one-shot ends.
fn never_ending(states: usize, at_rest: Vec<u32>, mut progress: Vec<(u32, u32)>) -> Option<u32> {
    progress.sort_unstable();
    let mut ends = vec![false; states];
    let mut rest = at_rest;
    for state in &rest {
        ends[*state as usize] = true;
    }
    while let Some(state) = rest.pop() {
        let first = progress.partition_point(|(to, _)| *to < state);
        for (_, from) in progress[first..].iter().take_while(|(to, _)| *to == state) {
            if !std::mem::replace(&mut ends[*from as usize], true) {
                rest.push(*from);
            }
        }
    }
    ends.iter().position(|ends| !ends).map(|number| u32::try_from(number).expect("counted as u32"))
}

/// Repeats the steps to a state.
fn path(config: &Config, known: &[(u64, u32)], number: u32) -> Vec<(Action, World)> {
    let mut numbers = vec![number];
    while let Some(&last) = numbers.last()
        && last != 0
    {
        numbers.push(known[last as usize].1);
    }
    let mut world = World::new(config);
    let mut steps = Vec::new();
    for number in numbers.into_iter().rev().skip(1) {
        let wanted = known[number as usize].0;
        let found = world.steps(config).into_iter().find(|(_, next)| fingerprint(next) == wanted);
        let step = found.expect("the search took this step");
        world = step.1.clone();
        steps.push(step);
    }
    steps
}
