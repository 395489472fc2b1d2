//! Limits calls with an invalid admin token per client address, within bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Calls that may fail at once.
const BURST: u32 = 100;
/// Time after which one more call may fail.
const INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of addresses, and of tokens, that are remembered.
const REMEMBERED: usize = 10_000;
/// Time for which a valid token stays exempt.
const EXEMPT_FOR: Duration = Duration::from_hours(1);

/// The failed calls of each client address.
///
/// Clients behind one proxy share its address. Tokens that were valid a short time ago are therefore exempt: no caller can
/// lock out a client that is in use.
#[derive(Debug, Default)]
pub struct FailedCalls {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// For each address, the time at which all of its failures are forgotten.
    failed: HashMap<IpAddr, Instant>,
    /// Hashes of tokens that were valid, with the end of their exemption.
    exempt: HashMap<[u8; 32], Instant>,
}

impl FailedCalls {
    /// Returns the time to wait if this address has used up its failures. `hash` is that of the token in the call.
    pub fn wait(&self, address: IpAddr, hash: Option<&[u8; 32]>) -> Option<Duration> {
        let now = Instant::now();
        let state = self.state.lock();
        if hash.is_some_and(|hash| state.exempts(hash, now)) {
            return None;
        }
        let forgotten = *state.failed.get(&state.key(address)).filter(|forgotten| **forgotten > now)?;
        let wait = (forgotten - now).checked_sub(INTERVAL * (BURST - 1))?;
        (!wait.is_zero()).then_some(wait)
    }

    /// True for a token that was valid a short time ago.
    pub fn is_exempt(&self, hash: &[u8; 32]) -> bool {
        self.state.lock().exempts(hash, Instant::now())
    }

    /// Counts a failed call. Returns true if it used up the failures of its address.
    pub fn failed(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        room(&mut state.failed, &network(address), now);
        let key = state.key(address);
        let forgotten = state.failed.entry(key).or_insert(now);
        *forgotten = (*forgotten).max(now) + INTERVAL;
        let left = |forgotten: Instant| forgotten.saturating_duration_since(now) > INTERVAL * (BURST - 1);
        left(*forgotten) && !left(*forgotten - INTERVAL)
    }

    /// Exempts a valid token from the limit.
    pub fn succeeded(&self, hash: [u8; 32]) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if room(&mut state.exempt, &hash, now) {
            state.exempt.insert(hash, now + EXEMPT_FOR);
        }
    }

    /// Ends the exemption of a token that is no longer valid.
    pub fn refused(&self, hash: &[u8; 32]) {
        self.state.lock().exempt.remove(hash);
    }
}

impl State {
    fn exempts(&self, hash: &[u8; 32], now: Instant) -> bool {
        self.exempt.get(hash).is_some_and(|end| *end > now)
    }

    /// Returns the key under which the failures of an address are counted.
    fn key(&self, address: IpAddr) -> IpAddr {
        let network = network(address);
        let has_room = self.failed.len() < REMEMBERED || self.failed.contains_key(&network);
        if has_room { network } else { OTHERS }
    }
}

/// Stands for all addresses beyond those that are remembered.
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Returns true if `key` is known or has room, after what has ended was removed.
fn room<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Instant>, key: &K, now: Instant) -> bool {
    if map.len() >= REMEMBERED && !map.contains_key(key) {
        map.retain(|_, end| *end > now);
    }
    map.len() < REMEMBERED || map.contains_key(key)
}

/// Returns the network that is taken for one client: a host of IPv4, a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from_bits(last).into()
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_limited_per_address_and_forgotten_with_time() {
        let calls = FailedCalls::default();
        for count in 1..=BURST {
            assert_eq!(calls.wait(v4(1), None), None, "{count}");
            assert_eq!(calls.failed(v4(1)), count == BURST, "{count}");
        }
        let wait = calls.wait(v4(1), None).unwrap();
        assert_eq!(wait, INTERVAL);
        assert_eq!(calls.wait(v4(2), None), None, "another address is not affected");
        tokio::time::advance(wait).await;
        assert_eq!(calls.wait(v4(1), None), None);
        assert!(calls.failed(v4(1)));
        assert!(calls.wait(v4(1), None).is_some());
        tokio::time::advance(INTERVAL * BURST).await;
        assert!(!calls.failed(v4(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn valid_token_stays_exempt_while_others_fail_from_its_address() {
        let calls = FailedCalls::default();
        calls.succeeded([1; 32]);
        while !calls.failed(v4(1)) {}
        assert_eq!(calls.wait(v4(1), Some(&[1; 32])), None);
        assert!(calls.wait(v4(1), Some(&[2; 32])).is_some());
        calls.refused(&[1; 32]);
        assert!(calls.wait(v4(1), Some(&[1; 32])).is_some(), "a revoked token is not exempt");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_further_addresses_share_one_limit() {
        let calls = FailedCalls::default();
        let remembered = u32::try_from(REMEMBERED).unwrap();
        for n in 0..2 * remembered {
            calls.failed(v4(n));
            calls.succeeded([n.to_le_bytes(); 8].concat().try_into().unwrap());
        }
        assert!(calls.wait(v4(2 * remembered), None).is_some(), "the further ones have used up their limit");
        assert_eq!(calls.wait(v4(1), None), None, "those that are remembered have not");
        let state = calls.state.lock();
        assert!(state.failed.len() <= REMEMBERED + 1 && state.exempt.len() <= REMEMBERED);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let at = |text: &str| network(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:192.0.2.1"), at("192.0.2.1"));
    }
}
