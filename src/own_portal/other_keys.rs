//! Logins of other key-encryption keys.

use std::fmt;

use nas_cron_protocol::InstanceId;

use super::RefreshKeys;
use crate::db::{Db, DbResult, logins};

/// Maximum number of agents that are named.
const NAMED: usize = 3;

/// The agents with logins of other keys, at least one. Displayed as the IDs of the first ones.
#[derive(Clone, Debug)]
pub struct OfOtherKeys {
    /// At most one more than are named.
    first: Vec<String>,
}

impl OfOtherKeys {
    /// Returns the agents with logins of other keys than these, or `None` if there are none.
    pub(super) async fn find(db: &Db, keys: &RefreshKeys) -> DbResult<Option<Self>> {
        let limit = i64::try_from(NAMED + 1).unwrap_or(i64::MAX);
        let first = logins::of_other_keys(db, &keys.ids(), limit).await?;
        Ok((!first.is_empty()).then_some(Self { first }))
    }

    /// This agent only.
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
    fn only_the_first_agents_are_named() {
        let shown = |names: &[&str]| {
            OfOtherKeys { first: names.iter().map(|&name| name.to_owned()).collect() }.to_string()
        };
        assert_eq!(shown(&["a", "b", "c"]), "a, b, c");
        assert_eq!(shown(&["a", "b", "c", "d"]), "a, b, c and others");
    }
}
