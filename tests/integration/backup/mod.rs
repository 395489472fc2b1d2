//! Backup and restore, and exports: docs/backup.md.

mod restore;
mod transfer;
