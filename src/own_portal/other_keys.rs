//! Logins that another key-encryption key made.

use std::fmt;

use nas_cron_protocol::InstanceId;

use super::RefreshKey;
use crate::db::{Db, DbResult, logins};

/// So many agents are named.
const NAMED: usize = 3;

/// The agents that have such logins: at least one. Shown as the names of the first.
#[derive(Clone, Debug)]
pub struct OfOtherKeys {
    /// One more than are named, where there are more.
    first: Vec<String>,
}

impl OfOtherKeys {
    /// Those that `key` did not make; `None` where there are none.
    pub(super) async fn find(db: &Db, key: &RefreshKey) -> DbResult<Option<Self>> {
        let limit = i64::try_from(NAMED + 1).unwrap_or(i64::MAX);
        let first = logins::of_other_keys(db, key.id(), limit).await?;
        Ok((!first.is_empty()).then_some(Self { first }))
    }

    /// This agent's alone.
    pub(super) fn of(instance_id: &InstanceId) -> Self {
        Self { first: vec![instance_id.as_str().to_owned()] }
    }
}

impl fmt::Display for OfOtherKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = &self.first[..self.first.len().min(NAMED)];
        f.write_str(&named.join(", "))?;
        if self.first.len() > NAMED { f.write_str(" and others") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named() {
        let shown = |names: &[&str]| {
            OfOtherKeys { first: names.iter().map(|&name| name.to_owned()).collect() }.to_string()
        };
        assert_eq!(shown(&["a", "b", "c"]), "a, b, c");
        assert_eq!(shown(&["a", "b", "c", "d"]), "a, b, c and others");
    }
}
