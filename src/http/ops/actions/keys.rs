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

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(keys: &KeyOperations, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let changed = match operation {
        "rotate_keys" if form.flag(NOW)? => keys.rotate_now().await?,
        "rotate_keys" => keys.rotate().await?,
        "activate_key" => keys.activate(&kid(form)?).await?,
        _ => keys.withdraw(&kid(form)?).await?,
    };
    let about = if operation == "rotate_keys" { vec![("kid".to_owned(), changed.kid)] } else { Vec::new() };
    Ok(Done { about, ..Done::new(changed.message) })
}

fn kid(form: &Form) -> Result<String, ApiError> {
    Ok(KeyId::check(form.required("kid")?.to_owned())?)
}
