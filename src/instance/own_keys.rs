//! The built-in portal's keys, which are the service's own and need no fetch.
//!
//! A request with an unknown key waits for a look at the keys that began after the request arrived, as with a portal.
//! The key ring looks every five seconds, however many requests wait.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::claims::AccessClaims;
use super::jwks_fetch::FetchLimits;
use super::key_set::{KeySet, NotVerified};
use super::token::Presented;
use super::token_error::TokenError;
use super::verify_error::VerifyError;
use crate::keys::KeyRing;

/// The published keys of a [`KeyRing`], parsed once per change.
#[derive(Debug)]
pub(super) struct OwnKeys {
    ring: Arc<KeyRing>,
    parsed: Mutex<Option<(String, Arc<KeySet>)>>,
    waiters: Semaphore,
}

impl OwnKeys {
    pub(super) fn new(ring: Arc<KeyRing>) -> Self {
        Self { ring, parsed: Mutex::default(), waiters: Semaphore::new(FetchLimits::default().waiters) }
    }

    /// Returns the number of known keys.
    pub(super) fn known(&self) -> usize {
        self.latest().map_or(0, |(keys, _)| keys.len())
    }

    pub(super) async fn verify(
        &self,
        token: &Presented<'_>,
        deadline: Instant,
    ) -> Result<AccessClaims, VerifyError> {
        let arrived = Instant::now().into_std();
        let mut looks = self.ring.looks();
        let mut waiting = None;
        loop {
            let latest = self.latest();
            match latest.as_ref().map(|(keys, _)| keys.verify(token)) {
                Some(Ok(claims)) => return Ok(claims),
                Some(Err(NotVerified::Refused(error))) => return Err(error.into()),
                Some(Err(NotVerified::UnknownKey)) | None => {}
            }
            if latest.is_some_and(|(_, looked_at)| looked_at >= arrived) {
                return Err(TokenError::UnknownKey.into());
            }
            if waiting.is_none() {
                waiting = Some(self.waiters.try_acquire().map_err(|_| VerifyError::TooManyWaiters)?);
            }
            timeout_at(deadline, looks.next()).await.map_err(|_| VerifyError::KeysUnavailable)?;
        }
    }

    /// Returns the keys of the last look, and the time at which it began.
    fn latest(&self) -> Option<(Arc<KeySet>, std::time::Instant)> {
        let (jwks, looked_at) = self.ring.jwks_as_of()?;
        let mut parsed = self.parsed.lock();
        if let Some((_, keys)) = parsed.as_ref().filter(|(etag, _)| *etag == jwks.etag) {
            return Some((Arc::clone(keys), looked_at));
        }
        let keys = Arc::new(KeySet::from_jwks(&jwks.body).ok()?);
        *parsed = Some((jwks.etag, Arc::clone(&keys)));
        Some((keys, looked_at))
    }
}
