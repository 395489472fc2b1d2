//! The built-in portal: logins and refresh tokens, also during faults.

mod enrollment;
mod faults;
pub(crate) mod fixture;
mod issuers;
mod keys;
mod refresh;
mod refusals;
mod revocation;
