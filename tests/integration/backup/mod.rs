//! Backup and restore, and exports: docs/backup.md.

mod dump;
mod files;
mod moving;
mod page;
#[cfg(target_os = "linux")]
mod progress;
mod restore;
mod restore_nats;
mod transfer;
