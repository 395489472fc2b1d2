//! The directory of agent instances: the rules of registration, below the admin API and the operator's commands, and
//! above SQL.

use std::time::{Duration, Instant};

use nas_cron_protocol::{CallbackUrl, Fields, FieldsError, InstanceId, InvalidField, OrgId, SessionId};

use crate::db::{Db, DbError, DbResult, directory, hints, outages};
use crate::domain::registration::{Agent, AgentFilter, Registration, Verdict};
use crate::store_error::StoreError;

/// The fields of a registration other than the instance ID, on the wire and in imports.
pub const FIELDS: [&str; 4] = ["org_id", "bootstrap_session_id", "callback_url", "enabled"];

/// An instance could not be registered, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// No instance with this ID is registered.
    #[error("no agent `{0}` is registered")]
    Unknown(InstanceId),
    /// The instance belongs to another org. A move needs confirmation, because tokens of the old org stop working and
    /// those of the new one start to work.
    #[error("the agent belongs to org `{0}`")]
    OtherOrg(String),
    /// Another instance has the session. Tokens of two instances with one session could not be distinguished.
    #[error("the bootstrap session belongs to agent `{0}` of the same org")]
    SessionTaken(String),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The effect of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The instance is new.
    Added,
    /// The instance was known and has changed.
    Updated,
    /// The instance was known and has not changed.
    Unchanged,
}

/// Reads a registration from `fields`. Unknown fields are rejected. If `instance_id` is given (from a path), the fields
/// must not contain it.
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

/// Parses a callback URL. Errors name the field `callback_url`, which the agent API calls `agent_callback_url`.
pub fn callback_url(text: &str) -> Result<CallbackUrl, InvalidField> {
    CallbackUrl::parse(text).map_err(|error| InvalidField::new("callback_url", error.problem))
}

/// Maximum number of tries of a statement that loses conflicts with concurrent ones.
const RACES: usize = 8;

/// Registers a batch with one statement; use batches of at most about 1,000. Returns one verdict each, in order. A
/// verdict is [`Verdict::Raced`] only if all tries lost. With `dry_run`, nothing is changed.
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
    // An update may have enabled an instance, or moved it out of an org that is on hold.
    if !dry_run && verdicts.contains(&Verdict::Updated) {
        release_parked(db).await?;
    }
    Ok(verdicts)
}

/// Runs a statement, and retries it after conflicts with concurrent ones. A statement that lost was rolled back
/// completely, and its next try sees the other's changes.
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

/// Registers one instance. Repeating the call changes nothing.
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

/// Finds the instance with this ID.
pub async fn find(db: &Db, instance_id: &InstanceId) -> Result<Agent, DirectoryError> {
    find_within(db, instance_id, None).await
}

/// Finds the instance with this ID. With `within`, every instance of another org is unknown.
pub async fn find_within(
    db: &Db,
    instance_id: &InstanceId,
    within: Option<&OrgId>,
) -> Result<Agent, DirectoryError> {
    let (instance, within) = (Some(instance_id.clone()), within.cloned());
    let filter = AgentFilter { instance_id: instance, within, ..AgentFilter::default() };
    let found = directory::list(db, &filter, None, 1).await?.into_iter().next();
    found.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Page<T> {
    /// The items in order.
    pub items: Vec<T>,
    /// Cursor of the next page; `None` on the last page.
    pub next: Option<String>,
}

/// Lists at most `limit` instances after `after`, ordered by ID.
pub async fn list(db: &Db, filter: &AgentFilter, after: Option<&str>, limit: u32) -> DbResult<Page<Agent>> {
    let mut items = directory::list(db, filter, after, i64::from(limit) + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|agent| agent.instance_id.clone());
    Ok(Page { items, next })
}

/// Deletes an instance with its one-shots; no attempt of them starts afterwards. Returns the number of deleted
/// one-shots that were not delivered. With `within`, every instance of another org is unknown.
pub async fn remove(
    db: &Db,
    instance_id: &InstanceId,
    within: Option<&OrgId>,
) -> Result<i64, DirectoryError> {
    let gone = again(|| directory::delete(db, instance_id, within)).await?;
    gone.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// The registered agents, for the admin API.
#[derive(Clone, Debug)]
pub struct Directory(Db);

impl Directory {
    /// The agents in `db`.
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

    /// Finds the instance with this ID: see [`find_within`].
    pub async fn find(
        &self,
        instance_id: &InstanceId,
        within: Option<&OrgId>,
    ) -> Result<Agent, DirectoryError> {
        find_within(&self.0, instance_id, within).await
    }

    /// Lists a page of instances: see [`list`].
    pub async fn list(
        &self,
        filter: &AgentFilter,
        after: Option<&InstanceId>,
        limit: u32,
    ) -> Result<Page<Agent>, StoreError> {
        Ok(list(&self.0, filter, after.map(InstanceId::as_str), limit).await?)
    }

    /// Deletes an instance with its one-shots: see [`remove`].
    pub async fn remove(
        &self,
        instance_id: &InstanceId,
        within: Option<&OrgId>,
    ) -> Result<i64, DirectoryError> {
        remove(&self.0, instance_id, within).await
    }
}

/// Enables or disables an instance. The fires of a disabled instance are held; none is lost. Returns true if this
/// changed anything.
pub async fn set_enabled(db: &Db, instance_id: &InstanceId, enabled: bool) -> Result<bool, DirectoryError> {
    let changed = again(|| directory::set_enabled(db, instance_id, enabled)).await?;
    let changed = changed.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))?;
    if enabled {
        release_parked(db).await?;
    }
    Ok(changed)
}

/// Sets the callback of an instance and of all its one-shots. Returns the number of one-shots that had another one.
pub async fn set_callback(
    db: &Db,
    instance_id: &InstanceId,
    callback_url: &CallbackUrl,
) -> Result<i64, DirectoryError> {
    let moved = again(|| directory::set_callback(db, instance_id, callback_url)).await?;
    moved.ok_or_else(|| DirectoryError::Unknown(instance_id.clone()))
}

/// Maximum number of rows per statement.
const TIDY_BATCH: i64 = 2_000;
/// Time for which a call releases one-shots. Its caller waits, and a hold can have parked a million.
const RELEASE_TIME: Duration = Duration::from_secs(4);
/// Maximum time to wait for an unreachable instance. Only the running service, which has the setting, gives up its
/// one-shots.
const NEVER: Duration = Duration::from_hours(100 * 365 * 24);

/// Releases the parked one-shots without a hold, and wakes the replicas. Returns false if some are left after
/// [`RELEASE_TIME`]: every replica releases all that it finds, about every 20 seconds.
pub(crate) async fn release_parked(db: &Db) -> DbResult<bool> {
    let start = Instant::now();
    let mut races = 0;
    loop {
        match outages::tidy_parked(db, NEVER, TIDY_BATCH).await {
            Ok(tidied) if tidied.released + tidied.probes == 0 => return Ok(true),
            Ok(tidied) => {
                hints::announce(db).await?;
                if tidied.released < TIDY_BATCH {
                    return Ok(true);
                }
                if start.elapsed() > RELEASE_TIME {
                    return Ok(false);
                }
            }
            Err(DbError::Contended(_)) if races == RACES => return Ok(false),
            Err(DbError::Contended(_)) => races += 1,
            Err(error) => return Err(error),
        }
    }
}
