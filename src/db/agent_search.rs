//! The search for agents by the beginning of their ID or callback.
//!
//! A search that is limited to an org, to disabled or to unreachable instances is a condition of their list
//! ([`super::directory`]). Any other one walks the indexes of beginnings, which are in the order of bytes.

use super::{Db, DbResult};
use crate::domain::agent_search::AgentSearch;
use crate::domain::registration::AgentFilter;

/// Maximum number of instances that a search finds by one beginning of callbacks: they are not in the order of IDs, so each page
/// reads all of them.
const BY_CALLBACK: i64 = 1_000;

/// True if a search walks the indexes of beginnings.
pub const fn is_wide(filter: &AgentFilter) -> bool {
    filter.search.is_some()
        && filter.org_id.is_none()
        && filter.within.is_none()
        && !filter.unreachable
        && !matches!(filter.enabled, Some(false))
}

/// Returns at most `limit` instances after `after` whose ID or callback begins with a text, in the order of the bytes of their
/// IDs.
pub(super) async fn matching(
    db: &Db,
    search: &AgentSearch,
    enabled: Option<bool>,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<String>> {
    let callbacks = search.callbacks();
    let ends: Vec<_> = callbacks.iter().map(|beginning| end(beginning)).collect();
    Ok(sqlx::query_scalar!(
        r#"
        SELECT instance_id AS "instance_id!" FROM (
            (SELECT instance_id FROM instances
             WHERE instance_id ~>=~ $1 AND instance_id ~<~ $2 AND instance_id ~>~ COALESCE($3, '') /* after */
               AND ($4::bool IS NULL OR enabled = $4)
             ORDER BY instance_id USING ~<~ LIMIT $5 /* limit */)
            UNION
            (SELECT i.instance_id
             FROM unnest($6::text[], $7::text[]) AS c(beginning, ending) CROSS JOIN LATERAL (
                 SELECT instance_id, enabled FROM instances
                 WHERE callback_url IS NOT NULL AND callback_url ~>=~ c.beginning AND callback_url ~<~ c.ending
                 ORDER BY callback_url USING ~<~ LIMIT $8 /* found */
             ) i
             WHERE i.instance_id ~>~ COALESCE($3, '') AND ($4 IS NULL OR i.enabled = $4))
        ) found
        ORDER BY instance_id USING ~<~
        LIMIT $5
        "#,
        search.as_str(),
        end(search.as_str()),
        after,
        enabled,
        limit,
        &callbacks,
        &ends,
        BY_CALLBACK,
    )
    .fetch_all(db)
    .await?)
}

/// True if more callbacks begin with the text of a search than [`matching`] examines.
pub async fn has_more_callbacks(db: &Db, search: &AgentSearch) -> DbResult<bool> {
    let callbacks = search.callbacks();
    let ends: Vec<_> = callbacks.iter().map(|beginning| end(beginning)).collect();
    Ok(sqlx::query_scalar!(
        r#"
        SELECT COALESCE(bool_or(i.count > $3), false) AS "more!"
        FROM unnest($1::text[], $2::text[]) AS c(beginning, ending) CROSS JOIN LATERAL (
            SELECT count(*) FROM (
                SELECT FROM instances
                WHERE callback_url IS NOT NULL AND callback_url ~>=~ c.beginning AND callback_url ~<~ c.ending
                ORDER BY callback_url USING ~<~ LIMIT $3::bigint + 1
            ) found
        ) i
        "#,
        &callbacks,
        &ends,
        BY_CALLBACK,
    )
    .fetch_one(db)
    .await?)
}

/// The last text with this beginning, in the order of bytes.
fn end(beginning: &str) -> String {
    format!("{beginning}\u{10ffff}")
}

#[cfg(test)]
mod tests {
    use nas_cron_protocol::OrgId;

    use super::*;

    #[test]
    fn only_a_search_of_the_whole_service_walks_the_indexes_of_beginnings() {
        let all = AgentFilter { search: Some(AgentSearch::new("a").unwrap()), ..AgentFilter::default() };
        assert!(is_wide(&all) && is_wide(&AgentFilter { enabled: Some(true), ..all.clone() }));
        let org = || Some(OrgId::new("org-1").unwrap());
        for narrow in [
            AgentFilter { org_id: org(), ..all.clone() },
            AgentFilter { within: org(), ..all.clone() },
            AgentFilter { enabled: Some(false), ..all.clone() },
            AgentFilter { unreachable: true, ..all.clone() },
            AgentFilter { search: None, ..all },
        ] {
            assert!(!is_wide(&narrow), "{narrow:?}");
        }
    }
}
