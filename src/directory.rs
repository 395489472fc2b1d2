//! Which instances there are: the rules of registration, below the admin API and the operator's commands, and
//! above SQL.

use std::time::Duration;

use nas_cron_protocol::{CallbackUrl, Fields, FieldsError, InstanceId, InvalidField, OrgId, SessionId};

use crate::db::{Db, DbError, DbResult, directory, hints, outages};
use crate::domain::HoldScope;
use crate::domain::registration::{Agent, AgentFilter, Registration, Verdict};
use crate::store_error::StoreError;

/// The fields of a registration beside the instance's name, on the wire and in imports.
pub const FIELDS: [&str; 4] = ["org_id", "bootstrap_session_id", "callback_url", "enabled"];

/// Why an instance is not registered, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// There is none of this name.
    #[error("no agent `{0}` is registered")]
    Unknown(InstanceId),
    /// Its tokens carry its org: moved unasked, the old org's would stop working and another org's would start.
    #[error("the agent belongs to org `{0}`")]
    OtherOrg(String),
    /// Two instances with one session cannot be told apart by their tokens.
    #[error("the bootstrap session is that of agent `{0}` of the same org")]
    SessionTaken(String),
    /// The database.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is new.
    Added,
    /// It was there and has changed.
    Updated,
    /// It was there like this.
    Unchanged,
}

/// Takes a registration out of `fields`; unknown ones are refused by name. `instance_id` from elsewhere (a
/// path) means that it must not be among the fields.
pub fn registration(
    mut fields: Fields,
    instance_id: Option<InstanceId>,
) -> Result<Registration, FieldsError> {
    let named = instance_id.is_some();
    let instance_id = match instance_id {
        Some(instance_id) => instance_id,
        None => InstanceId::new(fields.required_text("instance_id")?)?,
    };
    let registration = Registration {
        instance_id,
        org_id: OrgId::new(fields.required_text("org_id")?)?,
        bootstrap_session_id: fields.clearable_text("bootstrap_session_id")?.try_map(SessionId::new)?,
        callback_url: fields.text("callback_url")?.map(|text| callback_url(&text)).transpose()?,
        enabled: fields.flag("enabled")?,
    };
    let own: &[&str] = if named { &[] } else { &["instance_id"] };
    fields.finish(&[own, &FIELDS].concat())?;
    Ok(registration)
}

/// A callback under the name it has here: on hop 1 it is called `agent_callback_url`.
pub fn callback_url(text: &str) -> Result<CallbackUrl, InvalidField> {
    CallbackUrl::parse(text).map_err(|error| InvalidField { field: "callback_url", problem: error.problem })
}

/// How often a statement that lost to a concurrent one is tried again.
const RACES: usize = 8;

/// Registers a batch, at most a thousand or so at a time: one statement. One verdict each, in order; none is
/// [`Verdict::Raced`] unless the race goes on for ever. With `dry_run` nothing is changed.
pub async fn register_all(
    db: &Db,
    batch: &[Registration],
    move_org: bool,
    dry_run: bool,
) -> DbResult<Vec<Verdict>> {
    let mut verdicts = again(|| directory::put(db, batch, move_org, dry_run)).await?;
    for _ in 0..RACES {
        let raced: Vec<usize> = (0..batch.len()).filter(|&index| verdicts[index] == Verdict::Raced).collect();
        if raced.is_empty() {
            break;
        }
        let left: Vec<Registration> = raced.iter().map(|&index| batch[index].clone()).collect();
        let now = again(|| directory::put(db, &left, move_org, dry_run)).await?;
        raced.into_iter().zip(now).for_each(|(index, verdict)| verdicts[index] = verdict);
    }
    // Whoever was enabled, or has left an org that is on hold, is fired from now on.
    if !dry_run && verdicts.contains(&Verdict::Updated) {
        release_parked(db).await?;
    }
    Ok(verdicts)
}

/// Tries again what lost to a concurrent statement: it was rolled back as a whole, and sees what was in its way.
pub(crate) async fn again<T, F>(statement: impl Fn() -> F) -> DbResult<T>
where
    F: Future<Output = DbResult<T>>,
{
    for _ in 1..RACES {
        match statement().await {
            Err(DbError::Conflict { .. } | DbError::Contended(_)) => {}
            other => return other,
        }
    }
    statement().await
}

/// Registers one instance; repeating it changes nothing.
pub async fn register(
    db: &Db,
    wanted: Registration,
    move_org: bool,
) -> Result<(Change, Agent), DirectoryError> {
    let instance_id = wanted.instance_id.clone();
    let verdict = register_all(db, &[wanted], move_org, false).await?.into_iter().next();
    let change = match verdict {
        Some(Verdict::Added) => Change::Added,
        Some(Verdict::Updated) => Change::Updated,
        Some(Verdict::Unchanged) => Change::Unchanged,
        Some(Verdict::OtherOrg(org)) => return Err(DirectoryError::OtherOrg(org)),
        Some(Verdict::SessionTaken(other)) => return Err(DirectoryError::SessionTaken(other)),
        Some(Verdict::Raced | Verdict::Repeated) | None => {
            return Err(DbError::Conflict { constraint: "instances_pkey".to_owned() }.into());
        }
    };
    Ok((change, find(db, &instance_id).await?))
}

/// The instance of this name.
pub async fn find(db: &Db, instance_id: &InstanceId) -> Result<Agent, DirectoryError> {
    let filter = AgentFilter { instance_id: Some(instance_id.clone()), ..AgentFilter::default() };
    let found = directory::list(db, &filter, None, 1).await?.into_iter().next();
    found.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// A page of a list: where it ends early, `next` is what to come back with.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Page<T> {
    /// In order.
    pub items: Vec<T>,
    /// From here on there is more; `None` at the end.
    pub next: Option<String>,
}

/// At most `limit` instances in the order of their names, from after `after` on.
pub async fn list(db: &Db, filter: &AgentFilter, after: Option<&str>, limit: u32) -> DbResult<Page<Agent>> {
    let mut items = directory::list(db, filter, after, i64::from(limit) + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|agent| agent.instance_id.clone());
    Ok(Page { items, next })
}

/// Deletes an instance with its one-shots; no attempt of them starts any more. Returns how many one-shots went
/// that were not delivered.
pub async fn remove(db: &Db, instance_id: &InstanceId) -> Result<i64, DirectoryError> {
    let gone = again(|| directory::delete(db, instance_id)).await?;
    gone.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// The registered agents, as the admin API sees and changes them.
#[derive(Clone, Debug)]
pub struct Directory(Db);

impl Directory {
    /// Over the agents of `db`.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Registers one instance: see [`register`].
    pub async fn register(
        &self,
        wanted: Registration,
        move_org: bool,
    ) -> Result<(Change, Agent), DirectoryError> {
        register(&self.0, wanted, move_org).await
    }

    /// The instance of this name.
    pub async fn find(&self, instance_id: &InstanceId) -> Result<Agent, DirectoryError> {
        find(&self.0, instance_id).await
    }

    /// A page of instances: see [`list`].
    pub async fn list(
        &self,
        filter: &AgentFilter,
        after: Option<&InstanceId>,
        limit: u32,
    ) -> Result<Page<Agent>, StoreError> {
        Ok(list(&self.0, filter, after.map(InstanceId::as_str), limit).await?)
    }

    /// Deletes an instance with its one-shots: see [`remove`].
    pub async fn remove(&self, instance_id: &InstanceId) -> Result<i64, DirectoryError> {
        remove(&self.0, instance_id).await
    }
}

/// Lets an instance provision and be fired, or stops it: its fires are then held, none is lost. Returns whether
/// that changed anything.
pub async fn set_enabled(db: &Db, instance_id: &InstanceId, enabled: bool) -> Result<bool, DirectoryError> {
    let changed = again(|| directory::set_enabled(db, instance_id, enabled)).await?;
    let changed = changed.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))?;
    if enabled {
        release_parked(db).await?;
    }
    Ok(changed)
}

/// Gives an instance and all its one-shots another callback. Returns how many one-shots had another one.
pub async fn set_callback(
    db: &Db,
    instance_id: &InstanceId,
    callback_url: &CallbackUrl,
) -> Result<i64, DirectoryError> {
    let moved = again(|| directory::set_callback(db, instance_id, callback_url)).await?;
    moved.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// Ends a hold and releases what only it held up. Returns whether there was one, and how many one-shots of its
/// scope are parked no longer.
pub async fn release(db: &Db, scope: HoldScope, scope_id: &str) -> DbResult<(bool, i64)> {
    let before = directory::coverage(db, scope, scope_id).await?.parked;
    let existed = outages::release(db, scope, scope_id).await?;
    release_parked(db).await?;
    // A running service tidies too: what it released meanwhile was released all the same.
    let after = directory::coverage(db, scope, scope_id).await?.parked;
    Ok((existed, (before - after).max(0)))
}

/// Rows of one tidying.
const TIDY_BATCH: i64 = 2_000;
/// How long an unreachable instance's one-shots are waited for is the running service's setting: here none is
/// given up.
const NEVER: Duration = Duration::from_hours(100 * 365 * 24);

/// Releases every parked one-shot that no hold applies to, and wakes the replicas for it.
async fn release_parked(db: &Db) -> DbResult<()> {
    let mut races = 0;
    loop {
        match outages::tidy_parked(db, NEVER, TIDY_BATCH).await {
            Ok(tidied) if tidied.released + tidied.probes == 0 => return Ok(()),
            Ok(tidied) => {
                hints::announce(db).await?;
                if tidied.released < TIDY_BATCH {
                    return Ok(());
                }
            }
            // Every replica tidies every ten seconds: what loses all these races is in good hands.
            Err(DbError::Contended(_)) if races == RACES => return Ok(()),
            Err(DbError::Contended(_)) => races += 1,
            Err(error) => return Err(error),
        }
    }
}
