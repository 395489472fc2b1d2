//! Data of pages that refresh themselves: however many operators look at one, it is read once within five seconds.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;

use crate::directory::DirectoryError;
use crate::http::ApiError;
use crate::operations::{OperationError, OperationResult};

/// Time between two refreshes of a page, as in `assets/page.js`.
const REFRESH: Duration = Duration::from_secs(5);
/// Maximum number of pages.
const PAGES: u64 = 1_000;

/// The data of the pages of one kind. The key has everything that they differ by, the org of the operator included.
#[derive(Clone, Debug)]
pub(super) struct Live<K, T>(Cache<K, Arc<T>>)
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static;

impl<K, T> Default for Live<K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    fn default() -> Self {
        Self(Cache::builder().max_capacity(PAGES).time_to_live(REFRESH).build())
    }
}

impl<K, T> Live<K, T>
where
    K: Hash + Eq + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    /// Returns the data of a page. Unless the page refreshes itself, they are read now: the operator has just done something.
    pub(super) async fn get(
        &self,
        key: K,
        by_itself: bool,
        read: impl Future<Output = OperationResult<T>>,
    ) -> Result<Arc<T>, ApiError> {
        if !by_itself {
            let data = Arc::new(read.await?);
            self.0.insert(key, Arc::clone(&data)).await;
            return Ok(data);
        }
        let read = async { read.await.map(Arc::new) };
        self.0.try_get_with(key, read).await.map_err(|error| match &*error {
            OperationError::Unknown(problem) => ApiError::NotFound(problem.clone().into()),
            error @ OperationError::Directory(DirectoryError::Unknown(_)) => {
                ApiError::NotFound(error.to_string().into())
            }
            error => ApiError::Unavailable { reason: error.to_string().into(), retry_after: REFRESH },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn refreshes_of_many_operators_read_once_and_a_visit_reads_now() {
        let (live, reads) = (Live::<&str, u32>::default(), AtomicU32::new(0));
        let read = async || Ok(reads.fetch_add(1, Ordering::Relaxed));
        let all = futures::future::join_all((0..20).map(|_| live.get("job", true, read())));
        assert!(all.await.into_iter().all(|data| *data.unwrap() == 0));
        assert_eq!(*live.get("job", false, read()).await.unwrap(), 1);
        assert_eq!(*live.get("job", true, read()).await.unwrap(), 1, "what the visit has read");
        assert_eq!(*live.get("other", true, read()).await.unwrap(), 2);
        let unknown = async { Err(OperationError::Unknown("no such job".to_owned())) };
        assert!(matches!(live.get("gone", true, unknown).await, Err(ApiError::NotFound(_))));
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }
}
