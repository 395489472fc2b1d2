//! The role that each operation of the admin API needs.
//!
//! [`OPERATIONS`] is the one table: the gate enforces it, the `OpenAPI` document shows it, and the tests of roles walk it.
//! A new route needs a row here, or the service does not start.

use std::collections::HashMap;

use axum::http::Method;
use nas_cron_protocol::OrgId;
use utoipa::openapi::path::{Operation as Documented, Parameter, ParameterIn};
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::{OpenApi, RefOr};

use crate::domain::actor::Actor;
use crate::domain::actor::Role::{self, Admin, Operator, Viewer};
use crate::http::ApiError;
use crate::http::extract::QueryParams;

/// The extent of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Agents and what belongs to them. A caller that is limited to an org reaches only its own, so the statement takes
    /// [`Actor::org_filter`](crate::domain::actor::Actor::org_filter).
    Org,
    /// The whole service. A caller that is limited to an org is rejected.
    Service,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Operation ID, also the action in the audit log.
    pub id: &'static str,
    /// Lowest role that may do it.
    pub role: Role,
    /// Its extent.
    pub reach: Reach,
}

const fn of_org(id: &'static str, role: Role) -> Operation {
    Operation { id, role, reach: Reach::Org }
}

const fn of_service(id: &'static str, role: Role) -> Operation {
    Operation { id, role, reach: Reach::Service }
}

/// All operations. Reading needs the role viewer; what stops, starts or repeats fires needs operator; what registers,
/// deletes or changes who may do what needs admin.
pub const OPERATIONS: &[Operation] = &[
    of_org("list_agents", Viewer),
    of_org("get_agent", Viewer),
    of_org("put_agent", Admin),
    of_org("delete_agent", Admin),
    of_org("enable_agent", Operator),
    of_org("disable_agent", Operator),
    of_org("set_agent_callback", Admin),
    of_org("list_logins", Viewer),
    of_org("revoke_login", Admin),
    of_org("list_agent_identities", Viewer),
    of_org("revoke_agent_identity", Admin),
    of_org("revoke_agent_task", Admin),
    of_org("list_auth_profiles", Viewer),
    of_service("get_service_auth_profiles", Viewer),
    of_service("put_service_auth_profiles", Admin),
    of_service("delete_service_auth_profiles", Admin),
    of_org("get_org_auth_profiles", Viewer),
    of_org("put_org_auth_profiles", Admin),
    of_org("delete_org_auth_profiles", Admin),
    of_org("get_instance_auth_profiles", Viewer),
    of_org("put_instance_auth_profiles", Admin),
    of_org("delete_instance_auth_profiles", Admin),
    of_org("list_admin_tokens", Admin),
    of_org("create_admin_token", Admin),
    of_org("revoke_admin_token", Admin),
    of_org("list_audit_log", Viewer),
    of_org("list_jobs", Viewer),
    of_org("get_job", Viewer),
    of_org("explain_job", Viewer),
    of_org("list_job_attempts", Viewer),
    of_org("cancel_job", Operator),
    of_org("fire_job", Operator),
    of_org("nudge_job", Operator),
    of_org("dismiss_job", Operator),
    of_org("count_redrivable_jobs", Viewer),
    of_org("redrive_job", Operator),
    of_org("redrive_jobs", Operator),
    of_org("redrive_selected_jobs", Operator),
    of_org("get_overview", Viewer),
    of_org("list_orgs", Viewer),
    of_org("get_org", Viewer),
    of_org("delete_everything", Admin),
    of_org("get_instance_quota", Viewer),
    of_org("put_instance_quota", Admin),
    of_org("delete_instance_quota", Admin),
    of_org("get_org_quota", Viewer),
    of_service("put_org_quota", Admin),
    of_service("delete_org_quota", Admin),
    of_org("list_holds", Viewer),
    of_service("hold_service", Operator),
    of_service("release_service", Operator),
    of_org("hold_org", Operator),
    of_org("release_org", Operator),
    of_org("hold_instance", Operator),
    of_org("release_instance", Operator),
    of_org("hold_job", Operator),
    of_org("release_job", Operator),
    of_service("list_keys", Viewer),
    of_service("rotate_keys", Admin),
    of_service("activate_key", Admin),
    of_service("withdraw_key", Admin),
    of_service("rewrap_keys", Admin),
    of_service("list_backends", Viewer),
    of_service("switch_backend", Admin),
    of_org("list_webhooks", Viewer),
    of_org("get_webhook", Viewer),
    of_org("list_webhook_deliveries", Viewer),
    of_org("list_events", Viewer),
    of_org("test_webhook", Operator),
    of_org("redeliver_event", Operator),
    of_org("create_webhook", Admin),
    of_org("update_webhook", Admin),
    of_org("rotate_webhook_secret", Admin),
    of_org("delete_webhook", Admin),
];

/// Returns the row of an operation; `None` for an unknown ID.
pub fn operation(id: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|row| row.id == id)
}

/// Returns the error of a caller that may not do this, independent of what exists. `subject` has the names and values of what
/// the call is about.
pub(in crate::http) fn permitted(
    actor: &Actor,
    operation: &Operation,
    subject: &[(String, String)],
) -> Result<(), ApiError> {
    actor.require(operation.role)?;
    if operation.reach == Reach::Service {
        actor.require_whole_service()?;
    }
    let org = subject.iter().find(|(name, _)| name == "org_id").map(|(_, value)| value.as_str());
    // An invalid ID is reported by the handler.
    let hidden = org.and_then(|org| OrgId::new(org).ok()).is_some_and(|org| !actor.sees(&org));
    if hidden { Err(ApiError::NotFound("no such org".into())) } else { Ok(()) }
}

/// An operation that is served.
#[derive(Debug)]
pub(super) struct Served {
    /// Its row in the table.
    pub(super) operation: &'static Operation,
    /// The names of its query's parameters, as documented.
    parameters: Vec<String>,
}

impl Served {
    fn of(documented: &Documented, operation: &'static Operation) -> Self {
        let of_query = |parameter: &RefOr<Parameter>| match parameter {
            RefOr::T(one) => (one.parameter_in == ParameterIn::Query).then(|| one.name.clone()),
            RefOr::Ref(_) => panic!("{}: parameters are documented in place", operation.id),
        };
        let parameters = documented.parameters.iter().flatten().filter_map(of_query).collect();
        Self { operation, parameters }
    }

    /// Parses a query. Fails if a parameter is not documented: what it was meant to change would not happen, such as that
    /// nothing is deleted.
    pub(super) fn query(&self, query: Option<&str>) -> Result<QueryParams, ApiError> {
        let known: Vec<_> = self.parameters.iter().map(String::as_str).collect();
        QueryParams::parse(query, &known)
    }
}

/// The operations by method and route.
#[derive(Debug)]
pub(super) struct Access(HashMap<(Method, String), Served>);

impl Access {
    /// Finds the row of every documented route, and adds its role to the document.
    ///
    /// # Panics
    ///
    /// If a route has no row.
    pub(super) fn of(document: &mut OpenApi) -> Self {
        let mut found = HashMap::new();
        for (path, item) in &mut document.paths.paths {
            let documented = [
                (Method::GET, &mut item.get),
                (Method::PUT, &mut item.put),
                (Method::POST, &mut item.post),
                (Method::PATCH, &mut item.patch),
                (Method::DELETE, &mut item.delete),
            ];
            for (method, operation) in documented {
                if let Some(documented) = operation {
                    let id = documented.operation_id.as_deref().unwrap_or_default();
                    let row = OPERATIONS.iter().find(|row| row.id == id);
                    let row =
                        row.unwrap_or_else(|| panic!("{method} {path} ({id}) has no row in `OPERATIONS`"));
                    describe(documented, row);
                    found.insert((method, path.clone()), Served::of(documented, row));
                }
            }
        }
        Self(found)
    }

    /// Returns the operation of a method and a route; `None` if there is no such operation.
    pub(super) fn operation(&self, method: &Method, route: &str) -> Option<&Served> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.0.get(&(method.clone(), route.to_owned()))
    }
}

/// Adds the role to the document: `OpenAPI` 3.1 lists the needed roles in the security requirement.
fn describe(documented: &mut Documented, row: &Operation) {
    documented.security = Some(vec![SecurityRequirement::new("admin_token", [row.role.as_str()])]);
    let reach = if row.reach == Reach::Service { "service" } else { "org" };
    documented.extensions.get_or_insert_default().insert("x-reach".to_owned(), reach.into());
}
