//! The lines of an export that are neither agents nor one-shots.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    AuthChoice, AuthPlace, AuthProfile, Fields, FieldsError, InstanceId, InvalidField, JobId, OrgId,
    date_time,
};
use uuid::Uuid;

use crate::domain::transfer::{StoredAuth, StoredLogin};

/// Reads a line of the kind `login`.
pub(super) fn login(mut fields: Fields) -> Result<StoredLogin, FieldsError> {
    let invalid = |field, problem| InvalidField::new(field, problem);
    let instance_id = InstanceId::new(fields.required_text("instance_id")?)?;
    let login_id = Uuid::parse_str(&fields.required_text("login_id")?);
    let key_id = hex::decode(fields.required_text("key_id")?).ok().filter(|key_id| key_id.len() == 8);
    let number = fields.clearable("number").value().and_then(serde_json::Value::as_i64);
    let created_at = fields.required_text("created_at")?;
    let refreshed_at = fields.text("refreshed_at")?;
    fields.finish(&["instance_id", "login_id", "key_id", "number", "created_at", "refreshed_at"])?;
    Ok(StoredLogin {
        instance_id,
        login_id: login_id.map_err(|_| invalid("login_id", "must be a UUID"))?,
        key_id: key_id.ok_or_else(|| invalid("key_id", "must be 16 hex digits"))?,
        number: number
            .filter(|number| *number >= 0)
            .ok_or_else(|| invalid("number", "must be a whole number from 0"))?,
        created_at: instant("created_at", &created_at)?,
        refreshed_at: refreshed_at.map(|text| instant("refreshed_at", &text)).transpose()?,
    })
}

/// Reads a line of the kind `auth_profile`.
pub(super) fn auth_profile(mut fields: Fields) -> Result<StoredAuth, FieldsError> {
    let place = place(&mut fields)?;
    let profile = AuthProfile::new(fields.required_text("profile")?)?;
    fields.finish(&["scope", "id", "profile"])?;
    Ok(StoredAuth::Profile(place, profile))
}

/// Reads a line of the kind `auth_default`.
pub(super) fn auth_default(mut fields: Fields) -> Result<StoredAuth, FieldsError> {
    let place = place(&mut fields)?;
    let auth = auth(&mut fields)?;
    fields.finish(&["scope", "id", "auth"])?;
    Ok(StoredAuth::Default(place, auth))
}

/// Reads a line of the kind `job_auth`.
pub(super) fn job_auth(mut fields: Fields) -> Result<StoredAuth, FieldsError> {
    let instance_id = InstanceId::new(fields.required_text("instance_id")?)?;
    let job_id = JobId::new(fields.required_text("job_id")?)?;
    let auth = auth(&mut fields)?;
    fields.finish(&["instance_id", "job_id", "auth"])?;
    Ok(StoredAuth::Job(instance_id, job_id, auth))
}

fn place(fields: &mut Fields) -> Result<AuthPlace, InvalidField> {
    let (scope, id) = (fields.required_text("scope")?, fields.required_text("id")?);
    match scope.as_str() {
        "service" if id.is_empty() => Ok(AuthPlace::Service),
        "org" => OrgId::new(id).map(AuthPlace::Org),
        "instance" => InstanceId::new(id).map(AuthPlace::Instance),
        "service" => Err(InvalidField::new("id", "must be empty for the service")),
        _ => Err(InvalidField::new("scope", "must be service, org or instance")),
    }
}

fn auth(fields: &mut Fields) -> Result<AuthChoice, InvalidField> {
    let auth = fields.clearable("auth");
    auth.value().map_or_else(|| Err(InvalidField::new("auth", "is missing")), AuthChoice::from_json)
}

fn instant(field: &'static str, text: &str) -> Result<DateTime<Utc>, InvalidField> {
    let parsed = date_time::parse(text);
    parsed.map(|at| at.to_utc()).map_err(|problem| InvalidField::new(field, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn problems_of_lines_are_named() {
        let line = |number: &str, at: &str| {
            let json = format!(
                r#"{{"instance_id":"a","login_id":"7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d","key_id":"0011223344556677",
                     "number":{number},"created_at":"{at}"}}"#
            );
            login(fields(&json)).map(|login| login.number).map_err(|error| error.to_string())
        };
        assert_eq!(line("7", "2026-06-18T12:34:56+00:00"), Ok(7));
        insta::assert_snapshot!(line("-1", "2026-06-18T12:34:56+00:00").unwrap_err(), @"number: must be a whole number from 0");
        assert!(line("7", "yesterday").unwrap_err().starts_with("created_at: "));
        let auth = |json: &str| auth_default(fields(json)).map_err(|error| error.to_string());
        insta::assert_snapshot!(auth(r#"{"scope":"team","id":"a","auth":false}"#).unwrap_err(), @"scope: must be service, org or instance");
        insta::assert_snapshot!(auth(r#"{"scope":"service","id":"","auth":null}"#).unwrap_err(), @"auth: is missing");
        insta::assert_snapshot!(auth(r#"{"scope":"service","id":"","auth":false,"b":1}"#).unwrap_err(), @"b: unknown field; known are scope, id, auth");
    }
}
