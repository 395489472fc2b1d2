//! Sweeps and manual steps over long times, against clients whose caches chain.

use proptest::prelude::*;

use super::*;
use crate::domain::SigningAlg;

const CHAIN: i64 = 300 + 300;
const STALE: i64 = 10;

fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
}

fn key(kid: &str, state: KeyState, published: i64) -> KeyRecord {
    let signed = state != KeyState::Next;
    let over = matches!(state, KeyState::Retired | KeyState::Gone);
    KeyRecord {
        kid: kid.to_owned(),
        alg: SigningAlg::Es256,
        state,
        imported: false,
        public_jwk: serde_json::Value::Null,
        published_at: at(published),
        activated_at: signed.then(|| at(published)),
        retired_at: over.then(|| at(published)),
        gone_at: (state == KeyState::Gone).then(|| at(published)),
        seen_at: None,
    }
}

/// The set of keys over time, with the state changes of the database.
#[derive(Debug)]
struct World {
    policy: RotationPolicy,
    now: i64,
    keys: Vec<KeyRecord>,
    /// After each change: the time, the published keys, the active key.
    history: Vec<(i64, Vec<String>, Option<String>)>,
    made: usize,
}

impl World {
    fn new(policy: RotationPolicy) -> Self {
        Self { policy, now: 0, keys: Vec::new(), history: Vec::new(), made: 0 }
    }

    fn publish(&mut self, imported: bool) -> String {
        self.made += 1;
        let kid = format!("k{}", self.made);
        self.keys.push(KeyRecord { imported, ..key(&kid, KeyState::Next, self.now) });
        kid
    }

    fn activate(&mut self, kid: &str) {
        let now = at(self.now);
        for key in &mut self.keys {
            if key.state == KeyState::Active {
                key.state = KeyState::Retired;
                key.retired_at = Some(now);
            }
        }
        let key = self.keys.iter_mut().find(|key| key.kid == kid).unwrap();
        assert_eq!(key.state, KeyState::Next);
        key.state = KeyState::Active;
        key.activated_at = Some(now);
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Generate { activate, .. } => {
                let kid = self.publish(false);
                if *activate {
                    self.activate(&kid);
                }
            }
            Step::Activate { kid, .. } => self.activate(kid),
            Step::Remove { kid, .. } => {
                let key = self.keys.iter_mut().find(|key| key.kid == *kid).unwrap();
                assert_eq!(key.state, KeyState::Retired, "only what is retired is removed");
                key.state = KeyState::Gone;
                key.gone_at = Some(at(self.now));
            }
        }
    }

    fn sweep(&mut self) {
        for step in sweep(at(self.now), &self.keys, &self.policy) {
            self.apply(&step);
        }
        assert_eq!(sweep(at(self.now), &self.keys, &self.policy), [], "a second sweep has nothing to do");
        self.note();
    }

    fn note(&mut self) {
        let published =
            self.keys.iter().filter(|key| key.is_published()).map(|key| key.kid.clone()).collect();
        let active: Vec<_> = self.keys.iter().filter(|key| key.state == KeyState::Active).collect();
        assert!(active.len() <= 1);
        let active = active.first().map(|key| key.kid.clone());
        let same = self.history.last().is_some_and(|last| last.1 == published && last.2 == active);
        if !same {
            self.history.push((self.now, published, active));
        }
    }

    fn has_next(&self) -> bool {
        self.keys.iter().any(|key| key.state == KeyState::Next)
    }

    /// Returns the entry of `history` at `second`, or the first one for earlier times.
    fn view(&self, second: i64) -> &(i64, Vec<String>, Option<String>) {
        let after = self.history.partition_point(|one| one.0 <= second);
        &self.history[after.max(1) - 1]
    }

    /// Returns every second at which the knowledge of a client or a replica could differ from the second before.
    fn edges(&self, from: i64, to: i64) -> impl Iterator<Item = i64> {
        let inside = self.history.iter().map(|one| one.0).filter(move |edge| (from..=to).contains(edge));
        inside.flat_map(|edge| [edge - 1, edge]).chain([from, to])
    }

    /// Checks a token signed at `second` with a view of the age `stale` against all key sets that a client may have: from
    /// sets as old as the chain of caches allows, until the token has expired.
    fn check_token(&self, second: i64, stale: i64) -> Result<(), String> {
        let Some(kid) = &self.view(second - stale).2 else { return Ok(()) };
        let first = self.history[0].1.contains(kid);
        let from = second - CHAIN - STALE;
        for known in self.edges(if first { from.max(0) } else { from }, second + 120 + 30) {
            if !self.view(known).1.contains(kid) {
                return Err(format!(
                    "{kid} signed at {second} (view {stale} s old), unknown to a set of {known}"
                ));
            }
        }
        // The contract: still published 300 s after it last signed.
        let until = second + 300;
        if until <= self.now && !self.view(until).1.contains(kid) {
            return Err(format!("{kid} signed at {second}, gone at {until}"));
        }
        Ok(())
    }

    fn check_all_tokens(&self) -> Result<(), String> {
        for second in self.edges(0, self.now) {
            for stale in [0, 1, STALE / 2, STALE] {
                for later in [0, STALE - 1, STALE, 300, 899, 900, 909, 910] {
                    let second = second.max(0) + later;
                    self.check_token(second, stale.min(second))?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Act {
    Wait(i64),
    Sweep,
    /// `keys rotate`.
    Rotate,
    /// `keys import`.
    Import,
    /// `keys activate`: every published key is visible at the agents' URL; activation happens if it is allowed.
    Activate,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0_i64..40).prop_map(Act::Wait),
        3 => (200_i64..1000).prop_map(Act::Wait),
        1 => (1000_i64..200_000).prop_map(Act::Wait),
        6 => Just(Act::Sweep),
        2 => Just(Act::Rotate),
        1 => Just(Act::Import),
        2 => Just(Act::Activate),
    ]
}

fn run(policy: RotationPolicy, acts: &[Act]) -> World {
    let mut world = World::new(policy);
    world.sweep();
    for act in acts {
        match act {
            Act::Wait(seconds) => world.now += seconds,
            Act::Sweep => world.sweep(),
            Act::Rotate | Act::Import => {
                if !world.has_next() {
                    world.publish(matches!(act, Act::Import));
                }
            }
            Act::Activate => {
                let now = at(world.now);
                if let Some(next) = world.keys.iter_mut().find(|key| key.state == KeyState::Next) {
                    next.seen_at.get_or_insert(now);
                }
                let keys = world.keys.clone();
                if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next)
                    && may_activate(now, next, &keys, &world.policy).is_ok()
                {
                    world.activate(&next.kid);
                }
            }
        }
        world.note();
        let active = world.keys.iter().filter(|key| key.state == KeyState::Active).count();
        assert_eq!(active, 1, "exactly one active key after bootstrap");
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Clients with chained caches know the key of every token, until the token has expired.
    #[test]
    fn keys_no_token_is_signed_by_a_key_that_a_client_could_not_know(
        acts in proptest::collection::vec(act(), 1..80),
        hours in 1_u64..48,
    ) {
        let policy = RotationPolicy::with_period(Duration::from_secs(hours * 3600)).unwrap();
        let world = run(policy, &acts);
        prop_assert_eq!(world.check_all_tokens(), Ok(()));
    }
}

fn checked(policy: RotationPolicy) -> Result<(), String> {
    let mut acts = vec![];
    for _ in 0..3000 {
        acts.extend([Act::Wait(7), Act::Sweep]);
    }
    let world = run(policy, &acts);
    assert!(world.made >= 4, "several rotations: {}", world.made);
    world.check_all_tokens()
}

/// Proves that the check above can fail: it passes with the contract's margins, and fails if one of them is too small.
#[test]
fn keys_every_margin_is_needed() {
    let policy = RotationPolicy::with_period(Duration::from_hours(1)).unwrap();
    checked(policy).unwrap();
    let seconds = TimeDelta::seconds;
    checked(RotationPolicy { publish_ahead: seconds(590), ..policy }).unwrap_err();
    let hasty = RotationPolicy { jwks_max_age: seconds(0), token_ttl: seconds(0), ..policy };
    checked(hasty).unwrap_err();
    let unaware = RotationPolicy { view_staleness: seconds(0), ..policy };
    checked(unaware).unwrap_err();
}

#[test]
fn keys_first_one_signs_at_once_and_later_ones_wait() {
    let policy = RotationPolicy::default();
    let first = Step::Generate { activate: true, reason: Reason::FirstKey };
    assert_eq!(sweep(at(0), &[], &policy), [first]);

    let active = key("a", KeyState::Active, 0);
    let end = 90 * 24 * 3600;
    assert_eq!(sweep(at(end - 911), std::slice::from_ref(&active), &policy), []);
    let due = sweep(at(end - 910), std::slice::from_ref(&active), &policy);
    assert_eq!(due, [Step::Generate { activate: false, reason: Reason::PeriodEnds }]);

    let keys = [active, key("b", KeyState::Next, end - 910)];
    assert_eq!(sweep(at(end - 1), &keys, &policy), []);
    let activate = Step::Activate { kid: "b".to_owned(), reason: Reason::CachesKnowIt };
    assert_eq!(sweep(at(end), &keys, &policy), [activate]);

    let keys = [key("a", KeyState::Retired, 0), key("b", KeyState::Active, 0)];
    assert_eq!(sweep(at(309), &keys, &policy), []);
    let remove = Step::Remove { kid: "a".to_owned(), reason: Reason::TokensExpired };
    assert_eq!(sweep(at(310), &keys, &policy), [remove]);
}

#[test]
fn keys_only_one_after_others_is_still_published_ahead() {
    let policy = RotationPolicy::default();
    let generate = Step::Generate { activate: false, reason: Reason::NothingSigns };
    assert_eq!(sweep(at(5), &[key("a", KeyState::Gone, 0)], &policy), [generate]);
    let keys = [key("a", KeyState::Gone, 0), key("b", KeyState::Next, 5)];
    assert_eq!(sweep(at(914), &keys, &policy), []);
    assert_eq!(sweep(at(915), &keys, &policy).len(), 1);
}

#[test]
fn keys_imported_rotate_by_hand_only() {
    let policy = RotationPolicy::default();
    let years = 5 * 365 * 24 * 3600;
    let imported = KeyRecord { imported: true, ..key("p", KeyState::Active, 0) };
    assert_eq!(sweep(at(years), std::slice::from_ref(&imported), &policy), [], "no successor is made");
    let waiting = KeyRecord { imported: true, ..key("p", KeyState::Next, 0) };
    assert_eq!(sweep(at(years), std::slice::from_ref(&waiting), &policy), [], "not even for a new service");
    let own = key("o", KeyState::Active, 0);
    assert_eq!(sweep(at(years), &[own.clone(), waiting.clone()], &policy), []);
    let retired = KeyRecord { imported: true, ..key("p", KeyState::Retired, 0) };
    let steps = sweep(at(310), &[retired, own.clone()], &policy);
    assert_eq!(steps.len(), 1, "what is retired still leaves: {steps:?}");

    let may = |now, key: &KeyRecord, others: &[KeyRecord]| {
        let keys: Vec<_> = [std::slice::from_ref(key), others].concat();
        may_activate(at(now), key, &keys, &policy)
    };
    assert_eq!(may(years, &waiting, std::slice::from_ref(&own)), Err(NotYet::NotSeen));
    let seen = KeyRecord { seen_at: Some(at(5000)), ..waiting.clone() };
    assert_eq!(may(5909, &seen, std::slice::from_ref(&own)), Err(NotYet::TooYoung { at: at(5910) }));
    assert_eq!(may(5910, &seen, std::slice::from_ref(&own)), Ok(()));
    assert_eq!(may(5000, &seen, &[]), Ok(()), "without an active key it is enough to be seen");
    assert_eq!(may(years, &waiting, &[]), Err(NotYet::NotSeen));
    assert_eq!(may(years, &own, &[]), Err(NotYet::WrongState(KeyState::Active)));
    // The same rule holds for the way back to a key of the service while an imported one is active.
    let back = key("n", KeyState::Next, 0);
    assert_eq!(may(years, &back, &[imported]), Err(NotYet::NotSeen));
    // Without imported keys a successor may be activated by hand once it is old enough.
    assert_eq!(may(909, &back, std::slice::from_ref(&own)), Err(NotYet::TooYoung { at: at(910) }));
    assert_eq!(may(910, &back, &[own]), Ok(()));
}

#[test]
fn keys_periods_leave_room_to_publish_ahead() {
    for secs in [0, 3599, u64::MAX] {
        assert!(RotationPolicy::with_period(Duration::from_secs(secs)).is_err());
    }
    assert_eq!(RotationPolicy::default().lead(), TimeDelta::seconds(910));
    assert_eq!(RotationPolicy::default().linger(), TimeDelta::seconds(310));
}
