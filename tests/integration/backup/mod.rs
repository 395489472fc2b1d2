//! Backup and restore, and exports: docs/backup.md.

mod archived;
mod dump;
mod files;
mod moving;
mod page;
mod point_in_time;
#[cfg(target_os = "linux")]
mod progress;
mod restore;
mod restore_nats;
mod transfer;
