//! The release that runs.

use metrics::{describe_gauge, gauge};

use crate::domain::release::{COMMIT, VERSION};

const BUILD_INFO: &str = "nas_cron_build_info";

pub(super) fn describe() {
    describe_gauge!(
        BUILD_INFO,
        "Always 1. The labels are the version and the commit of this replica's binary"
    );
}

/// Sets the gauge that names this release.
pub(super) fn set() {
    gauge!(BUILD_INFO, "version" => VERSION, "commit" => COMMIT).set(1.0);
}
