//! Backup and restore, and exports: docs/backup.md.

mod files;
#[cfg(target_os = "linux")]
mod progress;
mod restore;
mod transfer;
