//! The release that runs.

use metrics::{describe_gauge, gauge};

const BUILD_INFO: &str = "nas_cron_build_info";

/// The version of this release.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that this binary was built from: `BUILD_COMMIT` in the environment of the build.
const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

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
