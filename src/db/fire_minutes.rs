//! Statements about the attempts by minute, for plots.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Db, DbResult};
use crate::domain::fire_minutes::{FireMinute, Lateness};

/// Time for which minutes are kept: two days, for plots of one.
const KEPT: Duration = Duration::from_hours(48);

/// Adds a replica's attempts to their minutes, and deletes minutes that are too old for a plot. If it is repeated after its
/// answer was lost, it may count them twice.
pub async fn add(db: &Db, minutes: &[FireMinute]) -> DbResult<()> {
    let column = |count: fn(&FireMinute) -> i64| minutes.iter().map(count).collect::<Vec<_>>();
    let begins: Vec<_> = minutes.iter().map(|one| one.minute).collect();
    let lateness: Vec<_> = minutes.iter().map(|one| array(one.lateness.buckets())).collect();
    sqlx::query!(
        r#"
        WITH old AS (
            DELETE FROM fire_minutes WHERE minute < now() - make_interval(secs => $7 /* kept */)
        )
        INSERT INTO fire_minutes AS m (minute, delivered, failed, other, missed, lateness)
        SELECT minute, delivered, failed, other, missed, lateness::bigint[]
        FROM unnest($1::timestamptz[], $2::bigint[] /* delivered */, $3::bigint[] /* failed */, $4::bigint[] /* other */,
                    $5::bigint[] /* missed */, $6::text[] /* lateness */)
            AS n(minute, delivered, failed, other, missed, lateness)
        -- Replicas add at the same time, in the same order.
        ORDER BY minute
        ON CONFLICT (minute) DO UPDATE
            SET delivered = m.delivered + excluded.delivered, failed = m.failed + excluded.failed,
                other = m.other + excluded.other, missed = m.missed + excluded.missed,
                lateness = added_buckets(m.lateness, excluded.lateness)
        "#,
        &begins,
        &column(|one| one.delivered),
        &column(|one| one.failed),
        &column(|one| one.other),
        &column(|one| one.missed),
        &lateness,
        KEPT.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns the minutes with attempts from `from` on, the oldest first.
pub async fn since(db: &Db, from: DateTime<Utc>) -> DbResult<Vec<FireMinute>> {
    let rows = sqlx::query!(
        "SELECT minute, delivered, failed, other, missed, lateness FROM fire_minutes WHERE minute >= $1 ORDER BY minute",
        from,
    )
    .fetch_all(db)
    .await?;
    let minutes = rows.into_iter().map(|row| FireMinute {
        minute: row.minute,
        delivered: row.delivered,
        failed: row.failed,
        other: row.other,
        missed: row.missed,
        lateness: Lateness::of_buckets(row.lateness),
    });
    Ok(minutes.collect())
}

/// Formats an array for a parameter: an array of arrays has no other form.
fn array(counts: &[i64]) -> String {
    let counts: Vec<_> = counts.iter().map(ToString::to_string).collect();
    format!("{{{}}}", counts.join(","))
}
