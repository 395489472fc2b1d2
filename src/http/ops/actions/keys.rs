//! Rotates, activates and withdraws signing keys.

use nas_cron_protocol::admin_api::KeyId;

use super::Done;
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::operations::keys::KeyOperations;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] = &["rotate_keys", "activate_key", "withdraw_key"];

/// Field of a rotation that activates the next key at once.
pub(in crate::http::ops) const NOW: &str = "now";

/// Field of a rotation with the active key that the operator has seen.
pub(in crate::http::ops) const ACTIVE: &str = "active_kid";

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(keys: &KeyOperations, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let changed = match operation {
        "rotate_keys" if form.flag(NOW)? => keys.rotate_now(form.text(ACTIVE)).await?,
        "rotate_keys" => keys.rotate(form.text(ACTIVE)).await?,
        "activate_key" => keys.activate(&kid(form)?).await?,
        _ => keys.withdraw(&kid(form)?).await?,
    };
    let about = if operation == "rotate_keys" { vec![("kid".to_owned(), changed.kid)] } else { Vec::new() };
    Ok(Done { about, ..Done::new(changed.message) })
}

fn kid(form: &Form) -> Result<String, ApiError> {
    Ok(KeyId::check(form.required("kid")?.to_owned())?)
}
