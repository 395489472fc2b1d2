//! Fuzz targets: files that operators import. See [`crate::fuzzing`].

use std::io::Cursor;

use indicatif::ProgressBar;

use super::import_file::{Columns, Lines};
use super::jobs::import::one_shot;
use super::transfer::import::Record;
use crate::directory;

const COLUMNS: Columns = Columns {
    known: &[
        "instance_id",
        "job_id",
        "fire_at",
        "agent_callback_url",
        "dedup_key",
        "auth",
        "not_after",
        "enabled",
    ],
    required: &["instance_id"],
    flags: &["enabled"],
};

/// A file: JSON Lines, or CSV. Each line is read as every kind of import reads it.
pub fn imports(data: &[u8]) {
    let Ok(mut lines) = Lines::new(Cursor::new(data.to_vec()), None, COLUMNS, ProgressBar::hidden()) else {
        return;
    };
    let mut most = data.len() + 1;
    while let Ok(Some(line)) = lines.next() {
        most = most.checked_sub(1).expect("a line takes at least a byte");
        let Ok(fields) = line.fields else { continue };
        let _ = one_shot(fields.clone());
        let _ = directory::registration(fields.clone(), None);
        let _ = Record::read(fields.clone(), false);
        let _ = Record::read(fields, true);
    }
}
