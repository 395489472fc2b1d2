//! The release that runs.

use std::sync::LazyLock;

/// Its version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that the binary was built from: `BUILD_COMMIT` in the environment of the build.
pub const COMMIT: &str = match option_env!("BUILD_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Returns version and commit in one line.
pub fn line() -> &'static str {
    static LINE: LazyLock<String> = LazyLock::new(|| format!("{VERSION} (commit {COMMIT})"));
    &LINE
}
